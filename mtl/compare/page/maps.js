// Heat maps, learning curves, and what draws all charts again.

function heatCell(difference, limit, tip) {
  const [value, , , verdict] = difference;
  const decided = verdict === "better" || verdict === "worse";
  // A large difference that is mostly noise is pale, so that it does not look like a finding.
  const strength = (decided ? 1 : 0.35) * Math.min(1, Math.abs(value) / limit);
  const cell = node("td", { tabindex: -1, "data-tip": tip, "aria-label": tip.replaceAll("\n", ": ") }, decided ? node("b", {}, signed(value)) : signed(value));
  if (GLYPHS[verdict]) cell.append(node("br"), node("span", { "aria-hidden": true }, GLYPHS[verdict]));
  cell.style.background = `rgba(var(--heat-${value < 0 ? "minus" : "plus"}), ${(0.03 + 0.42 * strength).toFixed(3)})`;
  return cell;
}

// The largest difference that gets its own colour: one far row does not wash out the others.
function colourLimit(values) {
  const sizes = values.map(Math.abs).sort((a, b) => a - b);
  return Math.max(1, sizes[Math.floor(sizes.length * 0.9)] ?? 1);
}

function heatTable(caption, columns, lines) {
  const head = node("tr", {}, node("td"), ...columns.map((name) => node("th", { scope: "col" }, name)));
  const body = lines.map(([name, cells]) => node("tr", {}, node("th", { scope: "row" }, name), ...cells));
  const table = node("table", { class: "heat", "aria-label": caption }, node("thead", {}, head), node("tbody", {}, ...body));
  table.addEventListener("keydown", moveBetweenCells);
  const first = table.querySelector("td[data-tip]");
  if (first) first.tabIndex = 0;
  return table;
}

function moveBetweenCells(event) {
  const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
  const cell = event.target.closest("td");
  if (!step || !cell) return;
  const next = event.currentTarget.rows[cell.parentElement.rowIndex + step[0]]?.cells[cell.cellIndex + step[1]];
  if (!next || next.tagName !== "TD") return;
  event.preventDefault();
  cell.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}

function numberedName(index) {
  const name = node("span", { title: data.rows[index].name }, data.rows[index].name);
  return node("span", { class: "numbered" }, node("span", { class: "number" }, String(index + 1)), name);
}

function drawPairs(place, rows) {
  const numbers = rows.map((row) => data.rows.indexOf(row)).slice(0, MOST_PAIRS);
  const known = new Map();
  for (const [one, two, value, low, high, verdict] of data.pairs) {
    known.set(`${one},${two}`, [value, low, high, verdict]);
    const opposite = { better: "worse", worse: "better", "no worse": low !== null && -high > -data.margin ? "no worse" : "undecided" }[verdict] ?? (low !== null && -high > -data.margin ? "no worse" : verdict);
    known.set(`${two},${one}`, [-value, low === null ? null : -high, low === null ? null : -low, opposite]);
  }
  const limit = colourLimit(data.pairs.map((pair) => pair[2]));
  const narrow = widthOf(place.parentElement) < 150 + numbers.length * 84;
  const lines = numbers.map((one) => [numberedName(one), numbers.map((two) => {
    const found = known.get(`${one},${two}`);
    if (!found) return node("td", { class: "self" }, one === two ? "·" : "");
    return heatCell(found, limit, `${data.rows[one].name} − ${data.rows[two].name}\n${interval(found)}, ${found[3] || "no verdict"}`);
  })]);
  const columns = numbers.map((index) => (narrow ? String(index + 1) : data.rows[index].name));
  const table = heatTable("Differences of all pairs of rows", columns, lines);
  table.classList.toggle("narrow", narrow);
  place.replaceChildren(table);
  place.append(...omitted(rows.length, MOST_PAIRS));
}

function drawCrossed(place, rows) {
  const { names, across, down, rows: indices } = data.crossed;
  const kept = new Set(rows);
  const limit = colourLimit(data.rows.filter((row) => row.decision).map((row) => row.decision[0]));
  const lines = down.map((name, line) => [name, across.map((_, column) => {
    const row = data.rows[indices[line][column]];
    if (!row?.decision || !kept.has(row)) return node("td", { class: "self" }, row && kept.has(row) && row.mean === null ? "–" : "");
    return heatCell(row.decision, limit, describe(row, row.decision));
  })]).filter(([, cells]) => cells.some((cell) => cell.dataset.tip));
  place.replaceChildren(heatTable(`Differences by ${names[0]} and ${names[1]}`, across, lines));
}

// The mean over the seeds' curves at the steps that all of them have.
function meanCurve(curves) {
  const byStep = new Map();
  for (const [, , points] of curves) for (const [step, value] of points) byStep.set(step, [...(byStep.get(step) ?? []), value]);
  return [...byStep].filter(([, values]) => values.length === curves.length).sort((a, b) => a[0] - b[0])
    .map(([step, values]) => [step, values.reduce((sum, value) => sum + value, 0) / values.length]);
}

function drawCurves(place, rows) {
  const of = (row) => data.curves.filter(([index]) => data.rows[index] === row);
  const shown = rows.filter((row) => of(row).length).slice(0, MOST_PANELS);
  place.replaceChildren();
  if (!shown.length) return place.append(node("p", { class: "hint" }, "These rows recorded no validation scores during training."));
  const base = data.rows.find((row) => row.name === data.baseline);
  const reference = base ? meanCurve(of(base)) : [];
  const values = [...shown.flatMap(of).flatMap((curve) => curve[2].map((point) => point[1])), ...reference.map((point) => point[1])];
  const steps = [...shown.flatMap(of).flatMap((curve) => curve[2].map((point) => point[0]))];
  const [low, high, last] = [Math.min(...values), Math.max(...values), Math.max(...steps)];
  for (const row of shown) {
    const figure = node("figure", {}, node("h3", {}, row.name));
    place.append(figure);
    figure.append(curvePanel(widthOf(figure), of(row), row === base ? [] : reference, [low, high, last], row.name));
  }
  place.append(...omitted(rows.length, MOST_PANELS));
}

function curvePanel(width, curves, reference, [low, high, last], name) {
  const [left, right, top, bottom] = [30, width - 6, 6, 124];
  const x = scale(0, last, left, right);
  const y = scale(low, high, bottom, top);
  const ends = curves.map(([, , points]) => points.at(-1)[1]);
  const text = `${name}: ${curves.length} seeds, last validation score ${fixed(Math.min(...ends))} to ${fixed(Math.max(...ends))}`;
  const svg = node("svg", { width, height: bottom + 36, role: "img", "aria-label": text });
  for (const { values, digits } of [ticks(low, high, 3)]) for (const value of values) {
    svg.append(node("line", { class: "axis", x1: left, x2: right, y1: y(value), y2: y(value) }), node("text", { x: left - 5, y: y(value) + 4, "text-anchor": "end" }, fixed(value, digits)));
  }
  for (const value of ticks(0, last, Math.max(2, (right - left) / 70)).values) svg.append(node("text", { x: x(value), y: bottom + 16, "text-anchor": value ? "middle" : "start" }, quantity(value, "")));
  svg.append(node("text", { x: (left + right) / 2, y: bottom + 32, "text-anchor": "middle" }, "steps"));
  const path = (points) => points.map(([step, value], at) => `${at ? "L" : "M"}${x(step).toFixed(1)},${y(value).toFixed(1)}`).join("");
  if (reference.length) svg.append(node("path", { class: "reference", d: path(reference) }));
  for (const [, seed, points] of curves) svg.append(node("path", { class: "seed", d: path(points), "data-tip": `${name}, seed ${seed}: ${fixed(points.at(-1)[1])} at the last step` }));
  if (curves.length > 1) svg.append(node("path", { class: "mean", d: path(meanCurve(curves)) }));
  return svg;
}

const CHARTS = { "chart-tasks": drawDifferences, "chart-cost": drawCost, "chart-crossed": drawCrossed, "chart-pairs": drawPairs, "chart-curves": drawCurves };

function drawAll() {
  const rows = shownRows().map((index) => data.rows[index]);
  for (const [id, draw] of Object.entries(CHARTS)) if (byId(id)) draw(byId(id), rows);
}

for (const key of Object.keys(data.costNames)) {
  if (data.rows.filter((row) => row.costs[key]).length > 1) byId("cost-choice").append(node("option", { value: key }, costName(key)));
}
byId("cost-choice").addEventListener("change", drawAll);
document.addEventListener("rows-changed", drawAll);
let drawnAt = innerWidth;
addEventListener("resize", () => {
  if (innerWidth !== drawnAt) drawAll();
  drawnAt = innerWidth;
});
drawAll();
