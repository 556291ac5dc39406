// The address after # says what is shown, so that a view can be kept: #token=dog&neuron=1.270
const data = JSON.parse(document.getElementById("data").textContent);
const signs = data.signs.length;
const kept = data.kept;
const element = id => document.getElementById(id);
const shownRows = 12;
const mostRows = 1000;
const mostDots = 2000;

// ---- the map: a layer is opened when it is first needed

const opened = [];

function layer(index) {
  return opened[index] ??= open(data.blocks[index]);
}

/** Undoes what Atlas.java packs: planes of bytes of token numbers, then of -1000 ln p by differences. */
async function open(block) {
  const binary = atob(block);
  const packed = new Uint8Array(binary.length);
  for (let i = 0; i < packed.length; i++) packed[i] = binary.charCodeAt(i);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  const count = data.neurons * signs * kept;
  const tokens = new Uint32Array(count);
  const steps = new Uint16Array(count);
  for (let i = 0; i < count; i++) {
    tokens[i] = bytes[i] | bytes[count + i] << 8 | bytes[2 * count + i] << 16;
    const step = bytes[3 * count + i] | bytes[4 * count + i] << 8;
    steps[i] = i % kept === 0 ? step : steps[i - 1] + step;
  }
  return {tokens, steps, norms: new Float32Array(bytes.buffer.slice(5 * count))};
}

const probability = step => Math.exp(-step / data.steps);

/** Every neuron and sign that names one of the tokens, with the best of them, most probable first. */
async function search(numbers) {
  const wanted = new Uint8Array(data.tokens.length);
  for (const number of numbers) wanted[number] = 1;
  const hits = [];
  for (let l = 0; l < data.layers; l++) {
    const {tokens, steps} = await layer(l);
    for (let i = 0; i < tokens.length; i++) {
      if (wanted[tokens[i]]) {
        const row = Math.floor(i / kept);
        hits.push({
          layer: l, neuron: Math.floor(row / signs), sign: data.signs[row % signs],
          rank: i % kept, token: tokens[i], p: probability(steps[i])
        });
        i = row * kept + kept - 1; // on to the next row
      }
    }
  }
  return hits.sort((a, b) => b.p - a.p || a.rank - b.rank);
}

/** A text without spaces at its ends, which data.tokens have as data.space. */
const bare = text => text.split(new RegExp(`[\\s${data.space}]+`)).filter(word => word !== "").join(data.space);

/** The tokens a text means: itself, with and without a space before it; else its words, each so. */
function tokensOf(text) {
  const marked = text.replaceAll(" ", data.space), word = bare(text);
  const among = wanted => data.tokens.flatMap((token, i) => wanted.includes(token) ? [i] : []);
  if (word === "") return among([marked]);
  const whole = among([marked, word, data.space + word]);
  return whole.length ? whole : among(word.split(data.space).flatMap(part => [part, data.space + part]));
}

/** The neuron that a text is the address of, such as 2.731; null if it is none. */
const addressed = text => /^\s*\d+\.\d+\s*$/.test(text) ? text.trim() : null;

// ---- how things are shown

const percent = p => p >= 0.1 ? p.toFixed(3) : p >= 0.0001 ? p.toPrecision(2) : p.toExponential(1);
const chance = p => { const x = p * data.vocabulary; return (x < 10 ? x.toFixed(1) : Math.round(x)) + "×"; };
const name = hit => `${hit.layer}.${hit.neuron}`;
// Ranks count from 0 in data, and are names of places here: 1st, 2nd …
function ordinal(rank) {
  const place = rank + 1, teen = Math.floor(place / 10) % 10 === 1;
  return place + (!teen && ["", "st", "nd", "rd"][place % 10] || "th");
}

const minus = sign => sign > 0 ? "+" : "−";
const number = x => String(Math.round(x * 1000) / 1000).replace("-", "−");

const view = () => new URLSearchParams(location.hash.slice(1));

/** Changes what is shown and keeps the rest. */
function go(changes) {
  const next = view();
  for (const [key, value] of changes) next.set(key, value);
  location.hash = next;
}

const tokenLink = index => make("a",
    {class: "token", href: "#" + new URLSearchParams({token: data.tokens[index]}), title: `${data.tokens[index]} (token ${data.ids[index]})`},
    data.tokens[index]);

const neuronLink = hit => make("a", {href: "#neuron=" + name(hit)}, name(hit));

function table(heads, rows) {
  return make("table", {},
      make("thead", {}, make("tr", {}, ...heads.map(
          ([text, kind]) => make("th", kind ? {class: kind} : {}, text)))),
      make("tbody", {}, ...rows));
}

const cell = (content, kind) => make("td", kind ? {class: kind} : {}, content);

// ---- search

async function showFound(text) {
  const place = element("found");
  const numbers = tokensOf(text);
  if (!numbers.length) {
    element("status").textContent = `No token “${text}” among those that this map's neurons name.`;
    place.replaceChildren();
    return;
  }
  element("status").textContent = "Opening the map …";
  const hits = await search(numbers);
  if (text !== view().get("token")) return; // another search came first
  const rows = count => hits.slice(0, count).map(hit => make("tr", {"data-neuron": name(hit)},
      cell(neuronLink(hit)), cell(minus(hit.sign)), cell(ordinal(hit.rank), "number"), cell(tokenLink(hit.token)),
      cell(percent(hit.p), "number"), cell(chance(hit.p), "number")));
  const heads = [["neuron"], ["sign"], ["rank", "number"], ["token"], ["probability", "number"], ["of chance", "number"]];
  const list = table(heads, rows(shownRows));
  const most = Math.min(hits.length, mostRows);
  const more = make("button", {type: "button", onclick: () => {
    list.tBodies[0].replaceChildren(...rows(most));
    markChosen();
    more.remove();
  }}, most < hits.length ? `Show ${most} of ${hits.length}` : `Show all ${most}`);
  element("status").textContent = `${hits.length.toLocaleString("en")} neuron${hits.length === 1 ? "" : "s"}` +
      ` of ${(data.layers * data.neurons).toLocaleString("en")} with “${text}” among ${data.kept} tokens` +
      (signs > 1 ? ", each sign for itself" : "");
  if (!hits.length) { // only at ranks that a page near its limit leaves out
    place.replaceChildren();
    return;
  }
  place.replaceChildren(make("h2", {}, "Where it lives: ", ...numbers.slice(0, 8).map(tokenLink)));
  const drawn = picture(hits); // now that it has a width
  place.append(drawn, legend(drawn), make("div", {class: "scroll"}, list), ...(hits.length > shownRows ? [more] : []));
  markChosen();
}

/** Marks the rows and dots of the neuron that is open. */
function markChosen() {
  const chosen = view().get("neuron");
  for (const shown of element("found").querySelectorAll("[data-neuron]")) {
    shown.classList.toggle("chosen", shown.dataset.neuron === chosen);
    if (shown.role === "option") shown.setAttribute("aria-selected", shown.dataset.neuron === chosen);
  }
}

const legend = drawn => make("p", {class: "faint legend"},
    ...(data.signs.includes(1) ? [make("span", {class: "key plus"}, "w names it")] : []),
    ...(data.signs.includes(-1) ? [make("span", {class: "key minus"}, "−w names it")] : []),
    "Within a layer left to right by number; below, how many. ", saveButton(drawn, "neurons"));

/** A button that saves a picture as a file of its own, as it is in light. */
function saveButton(svg, title) {
  return make("button", {type: "button", class: "save", "aria-label": `Save this picture as SVG: ${title}`, onclick: () => {
    const copy = svg.cloneNode(true);
    const [from, to] = [svg, copy].map(root => [root, ...root.querySelectorAll("*")]);
    const root = document.documentElement;
    root.style.colorScheme = "light";
    from.forEach((node, i) => {
      const style = getComputedStyle(node);
      for (const name of ["fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-linejoin", "font-size", "font-family"]) {
        to[i].style.setProperty(name, style.getPropertyValue(name));
      }
    });
    root.style.colorScheme = "";
    copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
    const address = URL.createObjectURL(new Blob([new XMLSerializer().serializeToString(copy)], {type: "image/svg+xml"}));
    make("a", {href: address, download: title + ".svg"}).click();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
  }}, "Save as SVG");
}

/** Layers across, probability up on a log scale, a dot for each neuron; how many of each layer below. */
function picture(hits) {
  const width = Math.min(720, Math.max(300, element("found").clientWidth - 36));
  const [height, left, bottom, bars] = [300, 52, 22, 40];
  const floor = height - bottom - bars;
  const values = hits.map(hit => Math.log10(Math.max(hit.p, 1e-28)));
  const low = Math.floor(Math.min(...values) * 4 - .3) / 4;
  const high = Math.min(0, Math.ceil(Math.max(...values) * 4 + .3) / 4);
  const band = (width - left) / data.layers;
  const y = p => 10 + (high - Math.log10(Math.max(p, 1e-28))) / (high - low || 1) * (floor - 24);
  const counts = new Array(data.layers).fill(0);
  for (const hit of hits) counts[hit.layer]++;
  const tallest = Math.max(...counts);
  const every = Math.ceil(data.layers / 20);
  const parts = [];
  for (let e = -28; e <= 0; e++) {
    for (const m of high - low > 1.2 ? [1] : [1, 1.5, 2, 3, 5, 7]) {
      const p = m * 10 ** e;
      if (Math.log10(p) < low || Math.log10(p) > high) continue;
      parts.push(draw("line", {class: "grid", x1: left, x2: width, y1: y(p), y2: y(p)}),
          draw("text", {x: left - 6, y: y(p) + 4, "text-anchor": "end"}, p >= 0.001 ? String(+p.toPrecision(1 + (m % 1 > 0))) : p.toExponential(m % 1 > 0 ? 1 : 0)));
    }
  }
  const uniform = 1 / data.vocabulary;
  if (Math.log10(uniform) > low && Math.log10(uniform) < high) {
    parts.push(draw("line", {class: "chance", x1: left, x2: width, y1: y(uniform), y2: y(uniform)}),
        draw("text", {x: width, y: y(uniform) - 4, "text-anchor": "end"}, "chance"));
  }
  for (let l = 0; l < data.layers; l++) {
    const x = left + l * band;
    const tall = counts[l] / tallest * (bars - 12);
    parts.push(draw("rect", {class: "count", x: x + band * .08, width: band * .84, y: floor + bars - tall, height: tall},
        draw("title", {}, `layer ${l}: ${counts[l]}`)));
    if (l % every === 0) parts.push(draw("text", {x: x + band / 2, y: height - 6, "text-anchor": "middle"}, String(l)));
  }
  parts.push(draw("text", {x: left - 6, y: height - 6, "text-anchor": "end"}, "layer"));
  const shown = hits.slice(0, mostDots);
  const dots = shown.map(hit => {
    const label = `${name(hit)} ${minus(hit.sign)}, ${data.tokens[hit.token]} ${ordinal(hit.rank)}, ${percent(hit.p)}`;
    return draw("circle", {
      class: "dot " + (hit.sign > 0 ? "plus" : "minus"), r: hit.rank === 0 ? 5 : 3.5, "data-neuron": name(hit),
      cx: left + band * (hit.layer + .08 + .84 * (hit.neuron + .5) / data.neurons), cy: y(hit.p),
      role: "option", tabindex: -1, "aria-label": label, onclick: () => go([["neuron", name(hit)]])
    }, draw("title", {}, label));
  });
  parts.push(draw("g", {role: "listbox",
    "aria-label": "Neurons as dots: left and right by layer and number, up and down by probability, Enter opens one"}, ...dots.toReversed()));
  walk(dots, shown.map((_, i) => i).sort((a, b) => shown[a].layer - shown[b].layer || shown[a].neuron - shown[b].neuron));
  return draw("svg", {viewBox: `0 0 ${width} ${height}`, role: "group",
    "aria-label": `Neurons by layer and probability; the table below has the same. Counts by layer: ${counts.join(", ")}`}, ...parts);
}

/** One of the dots is a stop of the tab key; arrow keys go to the others, in either order. */
function walk(dots, byLayer) {
  let current = 0; // they come most probable first
  dots[0].setAttribute("tabindex", 0);
  dots.forEach((dot, i) => dot.addEventListener("focus", () => {
    dots[current].setAttribute("tabindex", -1);
    current = i;
    dot.setAttribute("tabindex", 0);
  }));
  dots.forEach(dot => dot.addEventListener("keydown", event => {
    const across = step => byLayer[byLayer.indexOf(current) + step];
    const to = {
      ArrowLeft: () => across(-1), ArrowRight: () => across(1), ArrowUp: () => current - 1, ArrowDown: () => current + 1,
      Home: () => byLayer[0], End: () => byLayer.at(-1), Enter: () => current, " ": () => current
    }[event.key];
    if (!to) return;
    event.preventDefault();
    if (event.key === "Enter" || event.key === " ") dot.dispatchEvent(new Event("click"));
    else dots[to()]?.focus();
  }));
}

// ---- one neuron

async function showNeuron(text) {
  const place = element("neuron");
  const [l, n] = text.split(".").map(Number);
  if (!/^\d+\.\d+$/.test(text) || l >= data.layers || n >= data.neurons) {
    place.replaceChildren(make("p", {role: "alert"}, `No neuron “${text}”: layers are 0 to ${data.layers - 1}, neurons 0 to ${data.neurons - 1}.`));
    return;
  }
  const {tokens, steps, norms} = await layer(l);
  if (text !== view().get("neuron")) return;
  const step = (by, label, title) => make("button", {type: "button", title, "aria-label": title,
    onclick: () => go([["neuron", `${l}.${(n + by + data.neurons) % data.neurons}`]])}, label);
  const focused = place.contains(document.activeElement) ? document.activeElement.title : "";
  place.replaceChildren(
      make("div", {class: "title"}, make("h2", {}, `Neuron ${l}.${n}`),
          make("span", {}, make("span", {class: "faint"}, `‖w‖ ${norms[n].toPrecision(3)} `),
              step(-1, "‹", "previous neuron"), " ", step(1, "›", "next neuron"))));
  const first = i => (n * signs + i) * kept;
  const most = Math.max(...data.signs.map((_, i) => probability(steps[first(i)])));
  data.signs.forEach((sign, i) => {
    const rows = [];
    for (let at = first(i); at < first(i) + kept; at++) {
      const p = probability(steps[at]);
      rows.push(make("tr", {}, cell(tokenLink(tokens[at])),
          cell(make("div", {style: `width:${100 * p / most}%`}), "bar"), cell(percent(p), "number"), cell(chance(p), "number")));
    }
    const list = table([["token"], [""], ["probability", "number"], ["of chance", "number"]], rows);
    if (sign < 0) list.className = "negative";
    place.append(make("h3", {}, sign > 0 ? "w decodes to" : "−w decodes to"), list);
  });
  element("said").textContent = `Neuron ${l}.${n}. ` + data.signs.map((sign, i) =>
      `${minus(sign)}w decodes to ${[...tokens.slice(first(i), first(i) + Math.min(3, kept))].map(t => data.tokens[t]).join(", ")}`).join("; ");
  [...place.querySelectorAll("button")].find(button => button.title === focused)?.focus();
}

// ---- what was measured

function showMeasured() {
  element("measured").replaceChildren(...data.measured.map(m => {
    const top = Math.max(m.before, ...m.curves.flatMap(c => [...c.neuron, ...c.other].map(point => point[1])));
    const high = [.01, .02, .05, .1, .2, .5, 1].find(limit => limit >= top) ?? 1;
    return make("div", {class: "sheet"},
        make("h2", {}, "Measured: clamping the neurons of “", make("a", {href: "#" + new URLSearchParams({token: m.concept})}, m.concept), "”"),
        make("p", {}, `Probability of “${m.concept}” as the next token when one neuron's ${m.site} is held at a value at every token. ` +
            `Tried: ${m.candidates} neurons that name it, ${m.curves[0].neuron.length} values each; shown: the ${m.curves.length} with the largest effect, ` +
            `each with a random neuron of its layer as a control. Unclamped it is ${percent(m.before)}, and the next token ${m.answer}.`),
        make("p", {class: "faint"}, "Prompt: ", make("code", {class: "answer"}, m.prompt)),
        make("div", {class: "curves"}, ...m.curves.map(c => curve(m, c, high))));
  }));
}

function curve(m, c, high) {
  const [width, height, left, top, bottom] = [320, 210, 34, 24, 38];
  const values = c.neuron.map(point => point[0]);
  const [low, last] = [Math.min(...values), Math.max(...values)];
  const x = v => left + 6 + (v - low) / (last - low || 1) * (width - left - 14);
  const y = p => top + (1 - p / high) * (height - top - bottom);
  const path = points => points.map((point, i) => `${i ? "L" : "M"}${x(point[0]).toFixed(1)} ${y(point[1]).toFixed(1)}`).join("");
  const best = c.neuron.reduce((a, b) => b[1] > a[1] ? b : a);
  const bestOther = c.other.reduce((a, b) => b[1] > a[1] ? b : a);
  const ticks = [...new Set([low, low < 0 && last > 0 ? 0 : (low + last) / 2, last])];
  const drawn = draw("svg", {viewBox: `0 0 ${width} ${height}`, role: "img",
    "aria-label": `Neuron ${name(c.hit)}: at most ${percent(best[1])}, at ${number(best[0])}; control ${c.hit.layer}.${c.control}: at most ${percent(bestOther[1])}; unclamped ${percent(m.before)}`},
      draw("text", {x: 0, y: 10}, `probability of “${m.concept}”`),
      ...[0, high / 2, high].flatMap(p => [
        draw("line", {class: "grid", x1: left, x2: width, y1: y(p), y2: y(p)}),
        draw("text", {x: left - 5, y: y(p) + 4, "text-anchor": "end"}, String(+p.toPrecision(2)))]),
      draw("line", {class: "chance", x1: left, x2: width, y1: y(m.before), y2: y(m.before)}),
      draw("text", {x: width, y: y(m.before) + (y(m.before) > height / 2 ? -4 : 13), "text-anchor": "end"}, "unclamped"),
      ...ticks.flatMap(v => [
        draw("line", {class: "grid", x1: x(v), x2: x(v), y1: y(0), y2: y(0) + 4}),
        draw("text", {x: x(v), y: y(0) + 16, "text-anchor": "middle"}, number(v))]),
      draw("text", {x: (left + width) / 2, y: height - 4, "text-anchor": "middle"}, `${m.site} held at`),
      draw("path", {class: "control", d: path(c.other)}),
      draw("path", {class: "line", d: path(c.neuron)}),
      ...c.neuron.map(([v, p, answer]) => draw("circle", {class: "point", cx: x(v), cy: y(p), r: 2.6},
          draw("title", {}, `held at ${number(v)}: ${percent(p)}, next token ${answer}`))));
  return make("figure", {}, drawn,
      make("figcaption", {}, neuronLink(c.hit), ` (${minus(c.hit.sign)}, ${ordinal(c.hit.rank)}): ${percent(best[1])} at ${number(best[0])}, next token ${best[2]}; `,
          make("span", {class: "faint"}, `grey: control ${c.hit.layer}.${c.control}. `), saveButton(drawn, `neuron ${name(c.hit)}`)));
}

// ---- the rest of the page

function showFrame() {
  const total = data.layers * data.neurons;
  document.title = `Neuron atlas: ${data.model}`;
  element("what").textContent = `${data.model}: ${total.toLocaleString("en")} neurons of ${data.projection}_proj, ` +
      `${data.layers} layers of ${data.neurons.toLocaleString("en")}, decoded into tokens through the LM head`;
  if (data.clearest.length) {
    element("clearest").replaceChildren(make("h2", {}, "Neurons surest of a token"),
        make("p", {}, ...data.clearest.map(hit => make("span", {}, tokenLink(hit.token), " ", neuronLink(hit), " ",
            make("span", {class: "faint"}, percent(hit.probability))))));
  }
  const decodings = {raw: "as it is (raw)", unit: "scaled to length one (unit)", norm: "through the final norm (norm)"};
  const fewer = data.kept < data.mapped ? ` The map has ${data.mapped} tokens a row; to stay near 50 MB this page keeps ${data.kept}.` : "";
  element("notes").textContent = `Each neuron's weight vector w, ${data.projection === "down" ? "a column" : "a row"} of ${data.projection}_proj, ` +
      `goes through the LM head ${decodings[data.decode]}; probability is the softmax over all ${data.vocabulary.toLocaleString("en")} tokens, good to 0.1 %, ` +
      `and “of chance” is that times ${data.vocabulary.toLocaleString("en")}. Of each neuron ${data.signs.length > 1 ? "and sign " : ""}` +
      `${data.kept} tokens are kept.${fewer} ${data.space} marks a space. What a neuron's weights say is not yet what it does: see the measured curves, or halter neurons --verify.`;
}

function showSimilar() {
  const query = element("query").value;
  const text = bare(query).toLowerCase();
  const similar = [];
  for (let i = 0; text && i < data.tokens.length && similar.length < 400; i++) {
    if (data.tokens[i].toLowerCase().includes(text)) similar.push(i);
  }
  similar.sort((a, b) => data.tokens[a].length - data.tokens[b].length);
  const neuron = addressed(query);
  element("similar").replaceChildren(
      ...(neuron ? [make("a", {href: "#neuron=" + neuron}, `neuron ${neuron}`)] : []), ...similar.slice(0, 10).map(tokenLink));
}

/** Where the panels are one below the other, a bar that leads to those that hold something. */
function showPanels() {
  element("panels").replaceChildren(...[...document.querySelectorAll("section")].filter(panel => panel.children.length).map(
      panel => make("button", {type: "button", onclick: () => panel.scrollIntoView()}, panel.getAttribute("aria-label"))));
}

let shown = new URLSearchParams();

/** Draws what the address asks for, as far as it changed: what stays keeps its focus. */
async function show() {
  const [next, before] = [view(), shown];
  shown = next;
  const [token, neuron] = [next.get("token"), next.get("neuron")];
  const drawing = [];
  if (token !== before.get("token")) {
    if (bare(element("query").value) !== bare(token ?? "")) element("query").value = bare(token ?? "") || token;
    showSimilar();
    drawing.push(token === null ? element("found").replaceChildren() : showFound(token));
  }
  if (neuron !== before.get("neuron")) {
    drawing.push(neuron === null ? element("neuron").replaceChildren() : showNeuron(neuron));
    markChosen();
  }
  await Promise.all(drawing);
  showPanels();
  if (neuron !== before.get("neuron") && before.size) element("neuron").scrollIntoView({block: "nearest"});
}

element("search").addEventListener("submit", event => {
  event.preventDefault();
  const text = element("query").value, neuron = addressed(text);
  if (neuron) go([["neuron", neuron], ...(tokensOf(text).length ? [["token", text]] : [])]);
  else go([["token", text]]);
});
element("query").addEventListener("input", showSimilar);
document.addEventListener("click", event => {
  const link = event.target.closest('a[href^="#"]');
  if (link && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
    event.preventDefault();
    go(new URLSearchParams(link.hash.slice(1)));
  }
});
addEventListener("hashchange", show);
if (!view().size) {
  const first = data.measured[0] ? {token: data.measured[0].concept, neuron: name(data.measured[0].curves[0].hit)}
    : data.clearest[0] ? {token: data.tokens[data.clearest[0].token], neuron: name(data.clearest[0])} : {};
  history.replaceState(null, "", "#" + new URLSearchParams(first));
}
showFrame();
showMeasured();
show();
