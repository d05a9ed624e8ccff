// Sorting, filtering, drawers, the choice of a pair, hover values. Without it the page shows everything.
"use strict";
document.documentElement.classList.add("script");

function sortBy(table, column, header) {
  const descending = header.getAttribute("aria-sort") === "ascending"
    || (header.getAttribute("aria-sort") === null && header.dataset.first === "descending");
  const value = (body) => body.rows[0].cells[column].dataset.sort;
  const bodies = [...table.tBodies];
  const numeric = header.dataset.kind === "number";
  bodies.sort((first, second) => {
    const [a, b] = [value(first), value(second)];
    if (a === "" || b === "") return (a === "") - (b === ""); // what is missing comes last, either way
    const order = numeric ? a - b : a.localeCompare(b, undefined, { numeric: true });
    return descending ? -order : order;
  });
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", descending ? "descending" : "ascending");
  table.append(...bodies);
}

function makeSortable(table) {
  [...table.tHead.rows[0].cells].forEach((header, column) => {
    const button = header.querySelector(".sort");
    if (button) button.addEventListener("click", () => sortBy(table, column, header));
  });
}

function makeFilter(controls) {
  const table = document.getElementById(controls.dataset.table);
  const [text, choice, count] = ["input", "select", ".count"].map((name) => controls.querySelector(name));
  const update = () => {
    const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
    let visible = 0;
    for (const body of table.tBodies) {
      const cells = [...body.rows[0].cells].filter((cell) => !cell.querySelector(".open"));
      const content = cells.map((cell) => cell.textContent.toLowerCase()).join(" ");
      const found = words.every((word) => content.includes(word))
        && (!choice?.value || body.dataset.choice === choice.value);
      body.hidden = !found;
      visible += found;
    }
    count.textContent = `${visible} of ${table.tBodies.length} shown`;
  };
  text.addEventListener("input", update);
  choice?.addEventListener("change", update); // a table without verdicts has no choice
  update();
}

function showRow(row) { // whatever is filtered
  const controls = document.querySelector(`.controls[data-table="${row.closest("table").id}"]`);
  if (!controls) return; // a table of one row
  for (const field of controls.querySelectorAll("input, select")) field.value = "";
  controls.querySelector("input").dispatchEvent(new Event("input"));
}

function openDrawer(button, open) {
  button.setAttribute("aria-expanded", open);
  document.getElementById(button.getAttribute("aria-controls")).classList.toggle("opened", open);
}

function choosePair(select) {
  const update = () => document.querySelectorAll(".pair").forEach((pair) => { pair.hidden = pair.id !== select.value; });
  select.addEventListener("change", update);
  update();
}

const tip = document.getElementById("tip");
let shownMark = null;
function showTip(mark) {
  shownMark = mark;
  tip.textContent = mark.getAttribute("aria-label");
  tip.hidden = false;
  const [at, own] = [mark.getBoundingClientRect(), tip.getBoundingClientRect()];
  const left = Math.min(Math.max(8, at.left + at.width / 2 - own.width / 2), innerWidth - own.width - 8);
  const above = at.top - own.height - 8;
  tip.style.left = `${left}px`;
  tip.style.top = `${above < 4 ? at.bottom + 8 : above}px`;
}
function hideTip() { shownMark = null; tip.hidden = true; }

// One mark of a chart is in the tab order; the arrow keys move from there.
function giveTips(svg) {
  const marks = [...svg.querySelectorAll(".mark")];
  marks.forEach((mark, place) => {
    const title = mark.querySelector("title");
    mark.setAttribute("aria-label", title.textContent);
    mark.setAttribute("role", "img");
    mark.setAttribute("tabindex", place ? -1 : 0);
    title.remove();
    mark.addEventListener("pointerenter", () => showTip(mark));
    mark.addEventListener("pointerleave", hideTip);
    mark.addEventListener("focus", () => showTip(mark));
    mark.addEventListener("blur", hideTip);
    mark.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (event.key === "Escape") hideTip();
      if (!step) return;
      event.preventDefault();
      const next = marks[(place + step + marks.length) % marks.length];
      mark.setAttribute("tabindex", -1);
      next.setAttribute("tabindex", 0);
      next.focus();
    });
  });
}

document.querySelectorAll("table.sortable").forEach(makeSortable);
document.querySelectorAll(".controls[data-table]").forEach(makeFilter);
document.querySelectorAll(".open").forEach((button) => {
  button.addEventListener("click", () => openDrawer(button, button.getAttribute("aria-expanded") !== "true"));
});
document.querySelectorAll("a[data-run]").forEach((link) => {
  link.addEventListener("click", () => {
    const button = document.querySelector(`${link.getAttribute("href")} .open`);
    showRow(button);
    openDrawer(button, true);
  });
});
document.querySelectorAll("#pair-choice").forEach(choosePair);
document.querySelectorAll(".chart svg").forEach(giveTips);
addEventListener("scroll", () => shownMark && showTip(shownMark), { passive: true });
