"use strict";
// Sorting, filtering and tooltips. All text of the comparison is set as text, never as markup.
const byId = (id) => document.getElementById(id);
const lines = [...document.querySelectorAll("#rows tbody tr")];
document.documentElement.classList.add("js");

// A cell's sort key: a number if it is one, else its text. Empty cells come last.
function sortKey(line, column) {
  const key = line.cells[column].dataset.sort;
  return key === "" || isNaN(key) ? key.toLowerCase() : Number(key);
}

function compare(a, b, sign) {
  if (a === "" || b === "") return (a === "") - (b === "");
  if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
  return sign * (a < b ? -1 : a > b ? 1 : 0);
}

function sortBy(header) {
  const column = header.cellIndex;
  const first = header.dataset.first;
  const sorted = header.getAttribute("aria-sort");
  const order = !sorted ? first : sorted === "ascending" ? "descending" : "ascending";
  for (const other of header.parentElement.cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", order);
  const sign = order === "ascending" ? 1 : -1;
  lines.sort((one, two) => compare(sortKey(one, column), sortKey(two, column), sign));
  byId("rows").tBodies[0].append(...lines);
  document.dispatchEvent(new CustomEvent("rows-changed"));
}

function applyFilter() {
  const words = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const refused = new Set([...document.querySelectorAll(".chips input:not(:checked)")].map((box) => box.value));
  let count = 0;
  for (const line of lines) {
    const name = line.dataset.name.toLowerCase();
    const shown = words.every((word) => name.includes(word)) && !refused.has(line.dataset.verdict);
    line.hidden = !shown;
    count += shown;
  }
  byId("count").textContent = `${count} of ${lines.length}`;
  document.dispatchEvent(new CustomEvent("rows-changed"));
}

// Indices of the filtered rows, in the order of the table.
function shownRows() {
  return lines.filter((line) => !line.hidden).map((line) => Number(line.dataset.row));
}

function showTip(target) {
  const tip = byId("tip");
  tip.textContent = target.dataset.tip;
  tip.hidden = false;
  const mark = target.getBoundingClientRect();
  const left = Math.min(mark.left + mark.width / 2 - tip.offsetWidth / 2, innerWidth - tip.offsetWidth - 8);
  tip.style.left = `${Math.max(8, left)}px`;
  const above = mark.top - tip.offsetHeight - 8;
  tip.style.top = `${above > 4 ? above : mark.bottom + 8}px`;
}

function followTips() {
  const hide = () => { byId("tip").hidden = true; };
  for (const kind of ["mouseover", "focusin", "click"]) {
    document.addEventListener(kind, (event) => {
      const target = event.target.closest?.("[data-tip]");
      if (target) showTip(target); else hide();
    });
  }
  document.addEventListener("scroll", hide, { capture: true, passive: true });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
}

for (const header of document.querySelectorAll("#rows thead th")) {
  header.querySelector("button").addEventListener("click", () => sortBy(header));
}
byId("filter").addEventListener("input", applyFilter);
for (const box of document.querySelectorAll(".chips input")) box.addEventListener("change", applyFilter);
followTips();
applyFilter();
