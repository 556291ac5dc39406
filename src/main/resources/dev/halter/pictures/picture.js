"use strict";
// The figures are drawn; here named shapes become cells to walk among, and the names of rows stay in view.
const readout = document.getElementById("readout");

function say(grid, cell) {
  readout.textContent = grid.getAttribute("aria-label") + ", " + cell.querySelector("title").textContent;
}

// The figure listens, not the grid: Chromium lets the tab key stop at SVG that listens to focus.
for (const grid of document.querySelectorAll("[role=grid]")) {
  const rows = [...grid.querySelectorAll("[role=row]")].map(row => [...row.querySelectorAll("[role=gridcell]")]);
  const figure = grid.closest("figure");
  let [row, column] = [0, 0]; // the cell that the tab key comes to
  rows.flat().forEach(cell => cell.setAttribute("tabindex", -1));
  rows[0][0].setAttribute("tabindex", 0);

  function enter(cell) {
    rows[row][column].setAttribute("tabindex", -1);
    row = rows.findIndex(cells => cells.includes(cell));
    column = rows[row].indexOf(cell);
    cell.setAttribute("tabindex", 0);
    cell.scrollIntoView({block: "nearest", inline: "center"}); // beside the names of rows, not below them
    say(grid, cell);
  }

  figure.addEventListener("pointerover", event => {
    const cell = event.target.closest("[role=gridcell]");
    if (cell) say(grid, cell);
  });
  figure.addEventListener("focusin", event => { if (event.target.matches("[role=gridcell]")) enter(event.target); });
  figure.addEventListener("click", event => event.target.closest("[role=gridcell]")?.focus());
  figure.addEventListener("keydown", event => {
    if (!event.target.matches("[role=gridcell]")) return;
    const to = {
      ArrowUp: [row - 1, column], ArrowDown: [row + 1, column], ArrowLeft: [row, column - 1], ArrowRight: [row, column + 1],
      Home: [row, 0], End: [row, rows[row].length - 1]
    }[event.key];
    if (!to) return;
    event.preventDefault();
    rows[to[0]]?.[to[1]]?.focus();
  });
}

for (const figure of document.querySelectorAll("figure")) {
  const names = figure.querySelector(".rowheaders");
  if (names) figure.addEventListener("scroll", () => names.setAttribute("transform", `translate(${figure.scrollLeft} 0)`));
}
