// A question is put to the model twice, without and with the plan that is put together here. The address after #
// holds that plan, so that it can be kept and sent to others.
const element = id => document.getElementById(id);
const SITES = {hook_pre: "gate", hook_pre_linear: "up", hook_post: "after"};
const PROJECTED = {gate: "hook_pre", up: "hook_pre_linear", down: "hook_post"};
const SETTLES = 80; // milliseconds until a slider that moves is taken at its word
const FOUND = 12;

const server = {model: null, shape: null, context: 0, plans: new Map(), own: null, vectors: []};
const plan = {items: [], strength: 1, acts: "all"};
const turns = [];
let key = sessionStorage.getItem("key") ?? "";

// ---- the server

/** What the server says is wrong, in its words. */
class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function request(path, body, signal) {
  const headers = {"Content-Type": "application/json"};
  if (key) headers.Authorization = "Bearer " + key;
  let response;
  try {
    response = await fetch(path, {method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), signal});
  } catch (error) {
    throw error.name === "AbortError" ? error : new Refusal(0, "The server does not answer.");
  }
  if (response.ok) return response;
  let said = `The server answers ${response.status}.`;
  try {
    said = (await response.json()).error.message;
  } catch { /* it is no error of this server's */ }
  throw new Refusal(response.status, said);
}

const ask = async (path, body, signal) => (await request(path, body, signal)).json();

/** The documents of a stream of events, some at a time as they come; it must end as such streams do. */
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let isWhole = false;
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    const pieces = (rest + part.value).split("\n\n");
    rest = pieces.pop();
    const data = pieces.filter(piece => piece.startsWith("data: ")).map(piece => piece.slice(6));
    isWhole ||= data.includes("[DONE]");
    const documents = data.filter(each => each !== "[DONE]").map(each => JSON.parse(each));
    const failed = documents.find(document => document.error);
    if (failed) throw new Refusal(failed.error.code, failed.error.message);
    if (documents.length) yield documents;
  }
  if (!isWhole) throw new Refusal(0, "The connection broke off.");
}

/** Shows what is wrong; a server that asks for a key gets the chance to be shown one. */
function tell(error) {
  if (error.status === 401) {
    element("access").hidden = false;
    element("key").focus();
  }
  element("problem").textContent = error.message;
  element("problem").hidden = false;
}

function forgive() {
  element("problem").hidden = true;
  element("access").hidden = true;
}

async function load() {
  try {
    const [models, plans, vectors] = await Promise.all(["/v1/models", "/v1/plans", "/v1/vectors"].map(path => ask(path)));
    const loaded = await Promise.all(plans.data.map(({name}) => ask("/v1/plans/" + encodeURIComponent(name))));
    const card = models.data.find(each => each.parent === null);
    server.plans = new Map(loaded.map(each => [each.name, each.plan]));
    server.vectors = vectors.data;
    server.own = plans.default;
    server.shape = card.halter;
    server.context = card.max_model_len;
    server.model = card.id;
  } catch (error) {
    tell(error);
    return;
  }
  forgive();
  document.title = "Halter: " + server.model;
  const {n_layers: layers, n_heads: heads, d_mlp: neurons} = server.shape;
  element("what").textContent = `${server.model}: ${layers} layers of ${heads} heads and ${neurons} neurons`
      + (server.own ? `; the server's own plan, ${server.own}, acts on both answers` : "");
  drawGrid();
  drawVectors();
  drawPlans();
  recall();
  drawAll();
  element("desk").inert = false;
}

// ---- the plan: items, of which each is plain data

const round = x => Number(x.toPrecision(6));
const times = x => "×" + String(round(x)).replace("-", "−");
const named = neuron => neuron.split(".").map(Number);

/** What an item stands for in a plan. */
const INTERVENTIONS = {
  neuron: ({neuron, site, value}) => {
    const [layer, index] = named(neuron);
    return [{op: "neuron_clamp", site: `blocks.${layer}.mlp.${site}`, neurons: [index], value}];
  },
  heads: ({heads, scale}) => [...Map.groupBy(heads.map(named), ([layer]) => layer)].map(
      ([layer, list]) => ({op: "head_scale", site: `blocks.${layer}.attn.hook_z`, heads: list.map(([, head]) => head), scale})),
  vector: ({op, layer, vector, scale}) => [{op, site: `blocks.${layer}.hook_resid_post`, vector, ...(op === "add" && {scale})}],
  removal: ({dictionary, concept, layer}) => [{op: "remove_concepts", dictionary, layers: [layer, layer], remove: [concept]}],
  control: ({file}) => [{op: "head_affine", file}],
  plan: ({name}) => {
    const {interventions, when} = server.plans.get(name);
    return interventions.map(each => ({...each, ...(!each.when && when && {when})}));
  }
};

const ACTS = {
  all: undefined,
  end: {prompt_positions: [-1], generation: "all"},
  prompt: {prompt: "all", generation: "none"}
};

/** The plan as it stands, by Halter's format; null if it changes nothing. */
function written() {
  const interventions = plan.items.flatMap(item => INTERVENTIONS[item.kind](item)).map(each => {
    const {when = ACTS[plan.acts], strength = 1, ...rest} = each;
    const total = round(strength * plan.strength);
    return {...rest, ...(total !== 1 && {strength: total}), ...(when && {when})};
  });
  return interventions.length ? {name: plan.items.map(label).join(", "), interventions} : null;
}

function add(item) {
  plan.items.push(item);
  element("said").textContent = label(item) + " is in the plan.";
  changed();
}

/** The plan is another one: it is shown, kept in the address, and acts from the next token on. */
function changed() {
  drawItems();
  const kept = plan.items.length || plan.strength !== 1 ? "#" + encodeURIComponent(JSON.stringify(plan)) : location.pathname;
  history.replaceState(null, "", kept);
  clearTimeout(changed.timer);
  changed.timer = setTimeout(turn, SETTLES);
}

/** Takes the plan of the address, which may be of another server or no plan of this page. */
function recall() {
  if (location.hash.length < 2) return;
  try {
    const {items, strength, acts} = JSON.parse(decodeURIComponent(location.hash.slice(1)));
    for (const item of items) {
      INTERVENTIONS[item.kind](item);
      label(item);
    }
    if (!Number.isFinite(strength) || !(acts in ACTS)) throw new Error("no strength");
    Object.assign(plan, {items, strength, acts});
    element("strength").value = strength;
    element("acts").value = acts;
  } catch {
    tell(new Refusal(0, "The address holds a plan that cannot be made here, so it is left out."));
  }
}

// ---- answers

/** Whether a plan's "when" selects a token; the meaning is that of Trigger.java. */
function selects(when, position, token, length) {
  if (!when) return true;
  const isPrompt = position < length;
  const phase = isPrompt ? "prompt" : "generation";
  const at = isPrompt ? position : position - length;
  const from = place => place < 0 ? length + place : place;
  const has = (prefix, clamp) => {
    const [start, end] = when[prefix + "_window"] ?? [0, 0];
    return (when[prefix + "_tokens"] ?? []).includes(token)
        || at >= from(start ?? 0) && at < from(end ?? Infinity)
        || (when[prefix + "_positions"] ?? []).some(place => at === (clamp ? Math.min(from(place), length - 1) : from(place)));
  };
  return (when[phase] === "all" || has(phase, isPrompt)) && !has("exclude_" + phase, false);
}

/** What of a "when" is about tokens to come, of which the first would have been number `count`. */
function later(when, count) {
  if (!when) return {generation: "all"};
  const to = {};
  for (const prefix of ["generation", "exclude_generation"]) {
    const [start, end] = when[prefix + "_window"] ?? [0, 0];
    const positions = (when[prefix + "_positions"] ?? []).map(place => place - count).filter(place => place >= 0);
    if (when[prefix + "_tokens"]) to[prefix + "_tokens"] = when[prefix + "_tokens"];
    if (positions.length) to[prefix + "_positions"] = positions;
    if ((end ?? Infinity) > Math.max(count, start ?? 0)) {
      to[prefix + "_window"] = [Math.max(0, (start ?? 0) - count), end === null ? null : end - count];
    }
  }
  if (when.generation === "all") to.generation = "all";
  return Object.keys(to).some(name => name.startsWith("generation")) ? to : {};
}

/**
 * The plan under which an answer goes on: each token that stands is read as it was the first time, under the
 * plan of then, and only what comes is under the last one. It names tokens that were generated as tokens of
 * the prompt, which they have become.
 */
function goingOn({prompt, ids, history}) {
  if (history.length === 1 && !ids.length) return history[0].plan;
  const all = [...prompt, ...ids];
  const interventions = history.flatMap(({from, plan: then}, index) => (then?.interventions ?? []).flatMap(each => {
    const {when, ...rest} = each;
    const isLast = index === history.length - 1;
    const end = isLast ? all.length : history[index + 1].from;
    const places = [];
    for (let i = from; i < end; i++) if (selects(when, i, all[i], prompt.length)) places.push(i);
    const isRun = places.length > 0 && places.at(-1) - places[0] === places.length - 1;
    const acts = {
      ...(isRun ? {prompt_window: [places[0], places.at(-1) + 1]} : places.length && {prompt_positions: places}),
      ...(isLast && later(when, ids.length))
    };
    return Object.keys(acts).length ? [{...rest, when: acts}] : [];
  }));
  return interventions.length ? {name: history.at(-1).plan?.name ?? "what stands", interventions} : null;
}

function number(id) {
  const value = element(id).valueAsNumber;
  return Number.isFinite(value) ? value : Number(element(id).defaultValue);
}

/** An answer that is still to come, and all that is known of it. */
const answer = (isSteered, messages) => ({
  isSteered, messages, prompt: null, ids: [], parts: [], history: [], room: number("most"), report: null, finish: null,
  problem: null, isRunning: false, stopped: null, view: null
});

const text = answer => answer.parts.map(part => part.text).join("");

/** Begins an answer, or goes on with it, under the plan as it stands. */
async function run(answer) {
  const mine = answer.stopped = new AbortController();
  answer.isRunning = true;
  answer.finish = answer.problem = answer.report = null;
  show(answer);
  try {
    answer.prompt ??= (await ask("/tokenize", {messages: answer.messages}, mine.signal)).tokens;
    note(answer);
    const prompt = [...answer.prompt, ...answer.ids];
    const room = Math.min(answer.room - answer.ids.length, server.context - prompt.length);
    if (room <= 0) {
      answer.finish = "length";
      return;
    }
    const under = answer.isSteered ? goingOn(answer) : null;
    const body = {
      model: server.model, prompt, max_tokens: room, temperature: number("temperature"),
      seed: number("seed") + answer.ids.length, // or what goes on would draw as the beginning did
      stream: true, return_token_ids: true, ...(under && {plan: under})
    };
    const least = Math.min(room, number("least") - answer.ids.length);
    if (least > 0) body.min_tokens = least;
    for await (const documents of events(await request("/v1/completions", body, mine.signal))) {
      if (answer.stopped !== mine) return; // it goes on under another plan
      for (const document of documents) take(answer, document);
      show(answer);
    }
  } catch (error) {
    if (answer.stopped !== mine) return;
    if (error.name !== "AbortError") answer.problem = error;
  } finally {
    if (answer.stopped === mine) {
      answer.isRunning = false;
      show(answer);
    }
  }
}

function take(answer, {choices, halter}) {
  for (const choice of choices) { // one, or none
    answer.ids.push(...choice.token_ids);
    answer.parts.at(-1).text += choice.text;
    answer.finish = choice.finish_reason ?? answer.finish;
  }
  if (halter) answer.report = halter.report;
}

/** Notes the plan of what comes next. The last token is read again under it, since the next one comes of it. */
function note({isSteered, history, parts, prompt, ids}) {
  const now = isSteered ? written() : null;
  const from = history.length ? prompt.length + ids.length - 1 : 0;
  if (history.length > 1 && history.at(-1).from === from) { // nothing came of the last change
    history.pop();
    parts.pop();
  }
  if (history.length && JSON.stringify(history.at(-1).plan) === JSON.stringify(now)) return;
  history.push({from, plan: now});
  parts.push({text: "", strength: plan.strength});
}

/** Puts a steered answer that is being made under the plan as it stands. */
function turn() {
  const steered = turns.at(-1)?.steered;
  if (!steered?.prompt) return;
  const now = JSON.stringify(written());
  if (now === JSON.stringify(steered.history.at(-1)?.plan ?? null)) return;
  if (!steered.isRunning) {
    element("status").textContent = "The plan is another one since: ask again to see what it does.";
    return;
  }
  steered.stopped.abort();
  watch([steered]);
}

/** Runs answers of the last turn and says when all of it stands. */
async function watch(answers) {
  drawButtons();
  element("status").textContent = "The model answers …";
  await Promise.all(answers.map(run));
  const {plain, steered} = turns.at(-1) ?? {};
  if (!plain || plain.isRunning || steered.isRunning) return;
  drawAll();
  const failed = [plain, steered].find(each => each.problem);
  if (failed?.problem.status === 401) tell(failed.problem);
  const isSame = text(plain) === text(steered);
  element("status").textContent = failed ? "" : [plain, steered].some(each => each.finish === null) ? "Stopped."
      : isSame ? "Both answers are the same." : "Both answers are there.";
  element("heard").textContent = failed ? failed.problem.message
      : `Without a plan: ${text(plain)} With the plan: ${isSame ? "the same" : text(steered)}`;
}

function question(content) {
  forgive();
  const messages = side => [
    ...turns.flatMap(turn => [{role: "user", content: turn.question}, {role: "assistant", content: text(turn[side]).trim()}]),
    {role: "user", content}];
  const made = {question: content, plain: answer(false, messages("plain")), steered: answer(true, messages("steered"))};
  turns.push(made);
  drawTurn(made);
  watch([made.plain, made.steered]);
}

const unfinished = () => turns.length
    ? [turns.at(-1).plain, turns.at(-1).steered].filter(each => !each.isRunning && each.finish !== "stop") : [];

// ---- how answers are shown

function drawTurn(made) {
  element("hint").hidden = true;
  const view = (side, title) => make("section", {class: "answer " + side, "aria-label": title},
      make("h4", {}, title), make("p", {class: "text"}), make("div", {class: "report"}));
  made.plain.view = view("plain", "Without a plan");
  made.steered.view = view("steered", "With the plan");
  element("turns").append(make("article", {class: "turn"}, make("h3", {}, made.question),
      make("div", {class: "answers"}, made.plain.view, made.steered.view)));
}

/** Characters that two texts have in common at their beginning. */
function common(a, b) {
  let i = 0;
  while (i < a.length && i < b.length && a[i] === b[i]) i++;
  return i;
}

function show(answer) {
  const made = turns.find(turn => turn.plain === answer || turn.steered === answer);
  if (!made) return; // the chat was begun anew
  const isAtEnd = element("ask").getBoundingClientRect().bottom + 80 >= innerHeight;
  drawText(made.plain, Infinity);
  const [plain, steered] = [text(made.plain), text(made.steered)];
  const parts = common(plain, steered);
  const isKnown = parts < Math.min(plain.length, steered.length) || !made.plain.isRunning;
  drawText(made.steered, isKnown ? parts : Infinity);
  if (isAtEnd && answer.isRunning) made.plain.view.parentElement.scrollIntoView({block: "nearest"});
}

/** An answer's text; from `parts` on it is not that of the answer without a plan. */
function drawText(answer, parts) {
  answer.view.classList.toggle("running", answer.isRunning);
  const place = answer.view.querySelector(".text");
  const spans = [];
  let at = 0;
  for (const part of answer.parts) {
    if (at > 0) {
      spans.push(make("span", {class: "turned", title: "From here on under the plan as it was changed"}, times(part.strength)));
    }
    const cut = Math.max(0, Math.min(part.text.length, parts - at));
    spans.push(part.text.slice(0, cut));
    if (cut < part.text.length) spans.push(make("span", {class: "other"}, part.text.slice(cut)));
    at += part.text.length;
  }
  if (typeof spans[0] === "string") spans[0] = spans[0].trimStart();
  place.replaceChildren(...spans.filter(span => span !== ""));
  const below = [];
  if (answer.problem) below.push(make("p", {class: "problem", role: "alert"}, answer.problem.message));
  if (answer.finish === "length") below.push(make("p", {class: "faint"}, `Cut off after ${answer.ids.length} tokens.`));
  if (answer.finish === "abort") below.push(make("p", {class: "faint"}, "The server has ended it."));
  if (!answer.isRunning && !answer.finish && !answer.problem && answer.prompt) {
    below.push(make("p", {class: "faint"}, `Stopped after ${answer.ids.length} tokens.`));
  }
  if (answer.report && answer.isSteered) below.push(...report(answer));
  answer.view.querySelector(".report").replaceChildren(...below);
}

/** What the plan did, as the server reports it. */
function report({report: {interventions, notes}, history}) {
  const rows = interventions.map(each => make("tr", {},
      make("td", {}, each.op + " at " + each.site), cell(each.tokens), cell(each.mean_change.toPrecision(3))));
  const told = notes.map(note => make("p", {class: "faint"}, note));
  if (history.length > 1 && history.some(({plan: then}) => then?.interventions.some(each => each.solve === "prompt_end"))) {
    told.push(make("p", {class: "faint"}, "Concepts that are sought at the question's end were sought anew at each change."));
  }
  if (!rows.length) return [make("p", {class: "faint"}, "The plan is empty: nothing was changed."), ...told];
  return [make("table", {}, make("caption", {class: "unseen"}, "What the plan did"),
      make("thead", {}, make("tr", {}, make("th", {}, "what acted"), make("th", {class: "number"}, "tokens"),
          make("th", {class: "number"}, "mean change"))), make("tbody", {}, ...rows)), ...told];
}

const cell = content => make("td", {class: "number"}, String(content));

function drawButtons() {
  const isRunning = turns.some(turn => turn.plain.isRunning || turn.steered.isRunning);
  const hadFocus = document.activeElement === element("stop") || document.activeElement === element("on");
  element("send").hidden = isRunning;
  element("stop").hidden = !isRunning;
  element("on").hidden = isRunning || !unfinished().length;
  element("again").hidden = isRunning || turns.length === 0;
  element("clear").hidden = turns.length === 0;
  if (hadFocus) element(isRunning ? "stop" : "question").focus();
}

// ---- how the plan is shown

function label(item) {
  switch (item.kind) {
    case "neuron": return "Neuron " + item.neuron;
    case "heads": return (item.heads.length === 1 ? "Head " : "Heads ") + item.heads.join(", ");
    case "vector": return `${item.op === "add" ? "Add" : "Ablate"} ${item.vector.concept ?? item.vector} at layer ${item.layer}`;
    case "removal": return `Remove ${item.concept} at layer ${item.layer}`;
    case "control": return "Heads by " + item.file;
    default: return "Plan " + item.name;
  }
}

/** The number of an item that can be set, what it is, and its sign. */
const SETTINGS = {neuron: ["value", "held at", "="], heads: ["scale", "times", "×"], vector: ["scale", "times", "×"]};

function drawItems() {
  const focused = document.activeElement?.id;
  element("empty").hidden = plan.items.length > 0;
  element("items").replaceChildren(...plan.items.map((item, index) => {
    const name = label(item);
    const what = make("span", {class: "what"}, name);
    if (item.token) what.append(" ", make("span", {class: "token"}, item.token));
    const settings = make("span", {class: "settings"});
    if (item.kind === "neuron") {
      const sites = make("select", {"aria-label": name + ": where", id: "site" + index, onchange: event => set("site", event.target.value)},
          ...Object.entries(SITES).map(([site, shown]) => make("option", {value: site, title: site}, shown)));
      sites.value = item.site;
      settings.append(sites);
    }
    const [field, said, sign] = item.op === "ablate" ? [] : SETTINGS[item.kind] ?? [];
    const set = (to, value) => {
      item[to] = value;
      changed();
    };
    if (field) {
      settings.append(make("span", {}, sign), make("input", {
        type: "number", step: "any", value: item[field], id: "value" + index, "aria-label": `${name}: ${said}`,
        onchange: event => set(field, Number.isFinite(event.target.valueAsNumber) ? event.target.valueAsNumber : item[field])
      }));
    }
    const away = make("button", {type: "button", class: "away", "aria-label": "Take away: " + name, onclick: () => {
      plan.items.splice(index, 1);
      element("said").textContent = name + " is taken away.";
      changed();
      (element("items").querySelectorAll("button.away")[index] ?? element("plan")).focus();
    }}, "✕");
    return make("li", {}, what, settings, away);
  }));
  if (focused) element(focused)?.focus();
  element("times").textContent = times(plan.strength);
  element("strength").setAttribute("aria-valuetext", plan.strength + " times");
  drawCopies();
}

/** JSON with one intervention a line. */
function lines({name, interventions}) {
  return `{"name": ${JSON.stringify(name)},\n "interventions": [\n  ${interventions.map(spaced).join(",\n  ")}]}`;
}

function spaced(value) {
  if (Array.isArray(value)) return `[${value.map(spaced).join(", ")}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  return `{${Object.entries(value).map(([name, each]) => `${JSON.stringify(name)}: ${spaced(each)}`).join(", ")}}`;
}

function drawCopies() {
  const now = written();
  element("json").textContent = now ? lines(now) : "";
  const last = turns.at(-1)?.steered.messages ?? [{role: "user", content: element("question").value || element("question").placeholder}];
  const body = {
    model: server.model, messages: last, temperature: number("temperature"), seed: number("seed"), max_tokens: number("most"),
    ...(number("least") > 0 && {min_tokens: number("least")})
  };
  const head = spaced(body).slice(0, -1);
  const document = now ? `${head},\n"plan": ${lines(now)}}` : head + "}";
  element("curl").textContent = `curl -s ${location.origin}/v1/chat/completions -H 'Content-Type: application/json'`
      + (key ? ' -H "Authorization: Bearer $KEY"' : "") + ` -d '${document.replaceAll("'", "'\\''")}'`;
}

function drawAll() {
  drawItems();
  drawButtons();
}

// ---- what a plan is put together from

const visible = token => token.replaceAll(" ", "␣").replaceAll("\n", "⏎");

/**
 * Neurons that speak of a token: by the decoding that tells most, or by the map that the server was given. One
 * that is still being made is waited for, with the server's word on how far it is.
 */
async function search(token) {
  let decode = "norm";
  while (true) {
    try {
      return await ask("/v1/neurons/search", {token, top: FOUND, ...(decode && {decode})});
    } catch (error) {
      if (error.status === 409 && decode) decode = null;
      else if (error.status === 503) {
        element("sought").textContent = error.message;
        await new Promise(done => setTimeout(done, 1000));
      } else throw error;
    }
  }
}

async function find(wanted) {
  const said = element("sought");
  const [, layer, neuron] = /^\s*(\d+)\.(\d+)\s*$/.exec(wanted) ?? [];
  if (layer) {
    const {n_layers: layers, d_mlp: neurons} = server.shape;
    if (layer >= layers || neuron >= neurons) {
      said.textContent = `No neuron ${wanted.trim()}: layers are 0 to ${layers - 1}, neurons 0 to ${neurons - 1}.`;
    } else {
      said.textContent = "";
      add({kind: "neuron", neuron: wanted.trim(), site: "hook_pre_linear", value: 10});
    }
    return;
  }
  said.textContent = "The neurons are decoded …";
  try {
    const {map, data} = await search(wanted);
    if (wanted !== element("token").value) return; // another search came first
    said.textContent = data.length
        ? `${data.length === 1 ? "One neuron" : data.length + " neurons"} whose ${map.proj}-projection speaks of it, the surest first.`
        : `No neuron has “${wanted}” among its likeliest tokens.`;
    drawFound(data, PROJECTED[map.proj]);
  } catch (error) {
    said.textContent = error.message;
    element("found").replaceChildren();
  }
}

function drawFound(rows, site) {
  const minus = sign => sign > 0 ? "+" : "−";
  element("found").replaceChildren(...(rows.length ? [make("table", {},
      make("thead", {}, make("tr", {}, make("th", {}, "neuron"), make("th", {}, "sign"), make("th", {}, "token"),
          make("th", {class: "number"}, "probability"), make("th", {}, make("span", {class: "unseen"}, "add")))),
      make("tbody", {}, ...rows.map(row => {
        const name = row.layer + "." + row.neuron;
        return make("tr", {}, make("td", {}, name), make("td", {}, minus(row.sign)),
            make("td", {}, make("span", {class: "token"}, visible(row.token))), cell(row.probability.toPrecision(2)),
            make("td", {class: "number"}, make("button", {type: "button", "aria-label": "Add neuron " + name, onclick: () =>
              add({kind: "neuron", neuron: name, site, value: 10, token: visible(row.token)})}, "Add")));
      })))] : []));
}

/** Heads as buttons that arrow keys walk among; the tab key comes to one of them. */
function drawGrid() {
  const {n_layers: layers, n_heads: heads} = server.shape;
  const count = [...Array(heads).keys()];
  const buttons = [...Array(layers).keys()].map(layer => count.map(head => make("button", {
    type: "button", "aria-pressed": false, tabindex: layer + head === 0 ? 0 : -1, "aria-label": `Head ${layer}.${head}`,
    title: `${layer}.${head}`, "data-head": `${layer}.${head}`
  })));
  const table = make("table", {class: "grid", "aria-label": "Heads, by layer"},
      make("thead", {}, make("tr", {}, make("td"), ...count.map(head => make("th", {scope: "col"}, String(head))))),
      make("tbody", {}, ...buttons.map((row, layer) => make("tr", {}, make("th", {scope: "row"}, String(layer)),
          ...row.map(button => make("td", {}, button))))));
  table.addEventListener("click", event => {
    const button = event.target.closest("button");
    if (!button) return;
    button.setAttribute("aria-pressed", button.getAttribute("aria-pressed") !== "true");
    element("heads").querySelector("button").disabled = !picked().length;
  });
  table.addEventListener("keydown", event => {
    const [layer, head] = named(event.target.dataset.head ?? "0.0");
    const to = {ArrowUp: [layer - 1, head], ArrowDown: [layer + 1, head], ArrowLeft: [layer, head - 1], ArrowRight: [layer, head + 1],
      Home: [layer, 0], End: [layer, heads - 1]}[event.key];
    const next = to && buttons[to[0]]?.[to[1]];
    if (to) event.preventDefault();
    if (!next) return;
    event.target.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });
  element("grid").replaceChildren(table);
}

const picked = () => [...element("grid").querySelectorAll("[aria-pressed=true]")];

function drawVectors() {
  const usable = server.vectors.filter(each => !each.error);
  element("novectors").hidden = usable.length > 0;
  element("vectors").hidden = usable.length === 0;
  const names = usable.flatMap(each => each.kind === "vectors" && each.tensors.length > 1
      ? each.tensors.map(tensor => each.name + "#" + tensor) : [each.name]);
  element("vector").replaceChildren(...names.map(name => make("option", {value: name}, name)));
  if (names.length) drawVector();
}

const chosen = () => server.vectors.find(each => each.name === element("vector").value.split("#")[0]);

async function drawVector() {
  const {name, kind, layers = []} = chosen();
  const isDictionary = kind === "dictionary";
  const ops = kind === "head_control" ? [["head_affine", "move the heads"]]
      : [["add", "add it"], ["ablate", "take it out"], ...(isDictionary ? [["remove_concepts", "take it out of the sparse code"]] : [])];
  element("op").replaceChildren(...ops.map(([op, said]) => make("option", {value: op}, said)));
  const all = layers.length ? layers.filter(layer => layer < server.shape.n_layers) : [...Array(server.shape.n_layers).keys()];
  element("layer").replaceChildren(...all.map(layer => make("option", {value: layer}, String(layer))));
  element("conceptfield").hidden = !isDictionary;
  element("concept").required = isDictionary;
  element("concept").value = "";
  drawOp();
  if (!isDictionary) return;
  try {
    const {concepts} = await ask("/v1/vectors/" + encodeURIComponent(name));
    element("concepts").replaceChildren(...concepts.map(concept => make("option", {value: concept})));
  } catch (error) {
    tell(error);
  }
}

function drawOp() {
  element("layerfield").hidden = element("op").value === "head_affine";
  element("amountfield").hidden = element("op").value !== "add";
}

function addVector() {
  const {name, kind} = chosen();
  const op = element("op").value;
  const layer = Number(element("layer").value);
  const concept = element("concept").value;
  if (op === "head_affine") add({kind: "control", file: name});
  else if (op === "remove_concepts") add({kind: "removal", dictionary: name, concept, layer});
  else {
    const vector = kind === "dictionary" ? {dictionary: name, concept} : element("vector").value;
    add({kind: "vector", op, layer, vector, scale: number("amount")});
  }
}

function drawPlans() {
  const names = [...server.plans.keys()];
  element("plans").replaceChildren(...(names.length
      ? names.map(name => make("button", {type: "button", onclick: () => add({kind: "plan", name})}, "Add " + name))
      : [make("p", {class: "faint"}, "It has none (", make("code", {}, "--plans DIR"), ").")]));
}

// ---- what the user does

/** A form does what it is for and stays on the page. */
function onSubmit(id, does) {
  element(id).addEventListener("submit", event => {
    event.preventDefault();
    does();
  });
}

onSubmit("ask", () => {
  const asked = element("question").value.trim();
  if (!asked || !server.model || turns.some(turn => turn.plain.isRunning || turn.steered.isRunning)) return;
  element("question").value = "";
  question(asked);
});
element("question").addEventListener("keydown", event => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    element("ask").requestSubmit();
  }
});
element("stop").addEventListener("click", () => {
  for (const {plain, steered} of turns) for (const each of [plain, steered]) each.stopped?.abort();
});
document.addEventListener("keydown", event => {
  if (event.key === "Escape") element("stop").click();
});
element("on").addEventListener("click", () => {
  const answers = unfinished();
  for (const each of answers) if (each.finish === "length") each.room = each.ids.length + number("most");
  watch(answers);
});
element("again").addEventListener("click", () => {
  const last = turns.pop();
  last.plain.view.closest(".turn").remove();
  question(last.question);
});
element("clear").addEventListener("click", () => {
  element("stop").click();
  turns.length = 0;
  element("turns").replaceChildren(element("hint"));
  element("hint").hidden = false;
  element("status").textContent = "";
  drawAll();
  element("question").focus();
});
element("strength").addEventListener("input", () => {
  plan.strength = element("strength").valueAsNumber;
  changed();
});
element("acts").addEventListener("change", () => {
  plan.acts = element("acts").value;
  changed();
});
for (const id of ["temperature", "seed", "least", "most", "question"]) element(id).addEventListener("input", drawCopies);
onSubmit("search", () => find(element("token").value));
onSubmit("heads", () => {
  add({kind: "heads", heads: picked().map(button => button.dataset.head), scale: number("scale")});
  for (const button of picked()) button.setAttribute("aria-pressed", false);
  element("heads").querySelector("button").disabled = true;
});
element("vector").addEventListener("change", drawVector);
element("op").addEventListener("change", drawOp);
onSubmit("vectors", addVector);
onSubmit("access", () => {
  key = element("key").value;
  sessionStorage.setItem("key", key);
  load();
});
for (const button of document.querySelectorAll("[data-copies]")) {
  button.addEventListener("click", async () => {
    const source = element(button.dataset.copies);
    try {
      await navigator.clipboard.writeText(source.textContent);
      button.textContent = "Copied";
    } catch { // elsewhere than on this machine a browser gives it to https alone
      getSelection().selectAllChildren(source);
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
}

load();
