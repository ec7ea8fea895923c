// Charts of the filtered rows. A chart is drawn at the width of its container, in pixels.
const data = JSON.parse(byId("data").textContent);
const MOST_PAIRS = 40;
const MOST_PANELS = 24;
// With more points than this only the Pareto front and the baseline are labelled.
const MOST_LABELS = 20;
const GLYPHS = { better: "▲", worse: "▼", "no worse": "≥", undecided: "?", "": "" };

function node(tag, attributes = {}, ...children) {
  const svg = ["svg", "g", "line", "circle", "rect", "path", "text", "title"].includes(tag);
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children.filter((child) => child !== null));
  return made;
}

// A page that is not shown yet has no width.
const widthOf = (place) => Math.max(place.clientWidth, 140);
const costName = (key) => data.costNames[key].replace(" (s)", "");
const fixed = (value, digits = 1) => value.toFixed(digits).replace(/^-(?=[0.]*$)/, "").replace("-", "−");
const signed = (value) => (Number(value.toFixed(1)) > 0 ? "+" : "") + fixed(value);
const cssName = (verdict) => verdict.replace(" ", "-");
const shorten = (text, most) => (text.length > most ? `${text.slice(0, Math.max(1, most - 1))}…` : text);
const interval = ([value, low, high]) => signed(value) + (low === null ? "" : ` [${fixed(low)}, ${fixed(high)}]`);

// The unit of a number and its size: of times seconds, minutes or hours; else thousands, millions, ...
function unitOf(value, name) {
  const times = [[3600, " h", 5400], [60, " min", 90], [1, " s", 0]];
  const counts = [[1e9, " G", 1e9], [1e6, " M", 1e6], [1e3, " k", 1e3], [1, "", 0]];
  return (name.endsWith("(s)") ? times : counts).find(([, , least]) => value >= least);
}

function quantity(value, name) {
  const [size, unit] = unitOf(value, name);
  return Number((value / size).toPrecision(name.endsWith("(s)") && value / size < 100 ? 2 : 3)) + unit;
}

function omitted(count, most) {
  return count > most ? [node("p", { class: "hint wide" }, `The first ${most} of ${count} rows; sort or filter the table to see others.`)] : [];
}

function describe(row, difference) {
  if (!difference) return `${row.name}${row.name === data.baseline ? " (baseline)" : ""}`;
  return `${row.name} − ${difference[4]}\n${interval(difference)}\n${difference[5]}`;
}

// Round values for ticks.
function ticks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  const made = [];
  for (let at = Math.ceil(low / step) * step; at <= high + step * 1e-9; at += step) made.push(Math.abs(at) < step * 1e-9 ? 0 : at);
  return { values: made, digits: Math.max(0, -Math.floor(Math.log10(step))) };
}

function scale(low, high, from, to, log = false) {
  const f = log ? Math.log10 : (value) => value;
  const span = f(high) - f(low) || 1;
  return (value) => from + ((f(value) - f(low)) / span) * (to - from);
}

// A whisker between two pixels, with a cap at each end that is not cut off by the edges.
function whisker(from, to, at, edges, vertical) {
  const [start, end] = [from, to].map((value) => Math.min(Math.max(value, edges[0]), edges[1]));
  const line = (a, b, c, d) => (vertical ? node("line", { x1: b, y1: a, x2: d, y2: c }) : node("line", { x1: a, y1: b, x2: c, y2: d }));
  const caps = [[from, start], [to, end]].filter(([value, cut]) => value === cut).map(([value]) => line(value, at - 3, value, at + 3));
  return [line(start, at, end, at), ...caps];
}

function mark(kind, tip, children) {
  const hollow = kind !== "better" && kind !== "worse" && kind !== "baseline";
  return node("g", { class: `mark ${cssName(kind)}${hollow ? " hollow" : ""}`, tabindex: -1, role: "img", "aria-label": tip.replaceAll("\n", ": "), "data-tip": tip }, ...children);
}

// One mark of a chart is reached by Tab, the others from there by the arrow keys.
function moveBetweenMarks(svg) {
  const marks = [...svg.querySelectorAll(".mark")];
  if (marks.length) marks[0].setAttribute("tabindex", 0);
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
    const next = marks[marks.indexOf(event.target) + step];
    if (!next) return;
    event.preventDefault();
    event.target.setAttribute("tabindex", -1);
    next.setAttribute("tabindex", 0);
    next.focus();
  });
  return svg;
}

// ---- differences, one panel per column -------------------------------------------------------

function drawDifferences(place, rows) {
  const panels = [[data.scoreName, (row) => row.decision], ...data.columns.map((column) => [column, (row) => row.tasks[column]])];
  const all = panels.flatMap(([, pick]) => rows.map(pick).filter(Boolean));
  const values = all.map(([value]) => value);
  if (!values.length) return place.replaceChildren(node("p", { class: "hint" }, "No differences: fewer than two rows have scores."));
  // Intervals of few seeds may be much wider than the differences: they are cut off.
  const [least, most] = [Math.min(...values, -data.margin), Math.max(...values, data.margin)];
  const room = Math.max(most - least, 4);
  const low = Math.max(least - room, Math.min(least, ...all.map((each) => each[1] ?? 0)));
  const high = Math.min(most + room, Math.max(most, ...all.map((each) => each[2] ?? 0)));
  const pad = (high - low) * 0.03;
  place.replaceChildren();
  panels.forEach(([column, pick], index) => {
    const shown = rows.filter((row) => pick(row)).slice(0, MOST_PANELS);
    if (!shown.length) return;
    const title = index ? column : `${column === "mean" ? "Mean over tasks" : "Score of the suite"}`;
    const figure = node("figure", { class: index ? "" : "wide" }, node("h3", {}, title));
    place.append(figure);
    figure.append(differencePanel(widthOf(figure), shown, pick, [low - pad, high + pad], title));
  });
  place.append(...omitted(rows.length, MOST_PANELS));
}

// Wide panels have the name left and the interval right of the whisker; narrow ones above it.
function differencePanel(width, rows, pick, [low, high], title) {
  const stacked = width < 430;
  const names = stacked ? 0 : Math.min(width * 0.36, 8 + 7 * Math.max(...rows.map((row) => row.name.length)));
  const [left, right, step, first] = stacked ? [8, width - 8, 44, 32] : [names + 8, width - 126, 24, 14];
  const x = scale(low, high, left, right);
  const bottom = rows.length * step + 4;
  const svg = node("svg", { width, height: bottom + 36, role: "group", "aria-label": `Differences: ${title}` });
  svg.append(node("rect", { x: x(Math.max(-data.margin, low)), y: 0, width: x(0) - x(Math.max(-data.margin, low)), height: bottom, class: "band" }));
  const marks = ticks(low, high, Math.max(3, (right - left) / 50));
  for (const value of marks.values) {
    svg.append(node("line", { x1: x(value), x2: x(value), y1: 0, y2: bottom, class: value ? "axis" : "zero" }));
    svg.append(node("text", { x: x(value), y: bottom + 15, "text-anchor": "middle" }, value > 0 ? `+${fixed(value, marks.digits)}` : fixed(value, marks.digits)));
  }
  svg.append(node("text", { x: (left + right) / 2, y: bottom + 31, "text-anchor": "middle" }, "difference (points)"));
  rows.forEach((row, index) => {
    const found = pick(row);
    const [value, from, to, verdict] = found;
    const y = index * step + first;
    const style = `name halo${verdict === "better" ? " strong" : ""}`;
    const at = y + (stacked ? -12 : 4);
    const most = stacked ? Math.floor((width - 124) / 7) : Math.floor(names / 6.8);
    svg.append(node("text", { x: names, y: at, "text-anchor": stacked ? "start" : "end", class: style }, shorten(row.name, most)));
    svg.append(node("text", { x: width, y: at, "text-anchor": "end", class: style }, interval(found)));
    const whiskers = from === null ? [] : whisker(x(from), x(to), y, [left, right], false);
    svg.append(mark(verdict, describe(row, found), [...whiskers, node("circle", { cx: Math.min(Math.max(x(value), left), right), cy: y, r: 4 })]));
  });
  return moveBetweenMarks(svg);
}

// ---- score against cost ----------------------------------------------------------------------

// The rows of which no other is both at most as dear and higher, from cheap to dear.
function paretoFront(points) {
  const sorted = [...points].sort((a, b) => a.cost - b.cost || b.score - a.score);
  return sorted.filter((point, index) => sorted.slice(0, index).every((other) => other.score < point.score));
}

// Whiskers: the interval of the difference, around the row's score.
function costPoints(rows, key) {
  return rows.filter((row) => row.mean !== null && row.costs[key]).map((row) => {
    const [value, low, high, verdict] = row.decision ?? [0, null, null, "baseline"];
    const whiskers = low === null ? null : [row.mean - value + low, row.mean - value + high];
    return { row, cost: row.costs[key], score: row.mean, whiskers, verdict };
  }).sort((a, b) => a.cost - b.cost);
}

function drawCost(place, rows) {
  const key = byId("cost-choice").value;
  const points = costPoints(rows, key);
  if (points.length < 2) return place.replaceChildren(node("p", { class: "hint" }, "Fewer than two rows have both a score and this cost."));
  const width = widthOf(place);
  const [left, right, top, bottom] = [44, width - 14, 14, Math.min(420, Math.max(300, width * 0.5)) - 46];
  const costs = points.map((point) => point.cost);
  const [cheap, dear] = [Math.min(...costs), Math.max(...costs)];
  const log = dear / cheap > 8;
  const domain = log ? [cheap / 1.25, dear * 1.25] : [0, dear * 1.06];
  const x = scale(...domain, left, right, log);
  const scores = points.map((point) => point.score);
  const [least, most] = [Math.min(...scores), Math.max(...scores)];
  const room = Math.max((most - least) * 0.8, 1.5);
  const low = Math.max(least - room, Math.min(...points.flatMap((point) => point.whiskers ?? [point.score])));
  const high = Math.min(most + room, Math.max(...points.flatMap((point) => point.whiskers ?? [point.score])));
  const pad = (high - low) * 0.05;
  const y = scale(low - pad, high + pad, bottom, top);
  const svg = node("svg", { width, height: bottom + 46, role: "group", "aria-label": "Score against cost" });
  drawCostAxes(svg, x, y, [low - pad, high + pad], domain, log, { left, right, top, bottom, key });
  const placed = points.map((point) => ({ x: x(point.cost) - 7, y: y(point.score) - 7, width: 14, height: 14 }));
  const front = paretoFront(points);
  svg.append(node("path", { class: "front", d: front.map((point, at) => (at ? `H${x(point.cost)}V${y(point.score)}` : `M${x(point.cost)},${y(point.score)}`)).join("") }));
  const base = points.find((point) => point.row.name === data.baseline);
  if (base) svg.append(node("line", { class: "base", x1: left, x2: right, y1: y(base.score), y2: y(base.score) }));
  for (const point of points) {
    const whiskers = point.whiskers ? whisker(y(point.whiskers[1]), y(point.whiskers[0]), x(point.cost), [top, bottom], true) : [];
    const tip = `${describe(point.row, point.row.decision)}\nscore ${fixed(point.score)}, ${quantity(point.cost, data.costNames[key])}`;
    const shape = point.verdict === "baseline" ? node("rect", { x: x(point.cost) - 5, y: y(point.score) - 5, width: 10, height: 10 }) : node("circle", { cx: x(point.cost), cy: y(point.score), r: 5 });
    svg.append(mark(point.verdict, tip, [...whiskers, shape]));
  }
  const first = [...points].sort((a, b) => front.includes(b) + 2 * (b === base) - front.includes(a) - 2 * (a === base));
  const labelled = points.length > MOST_LABELS ? first.filter((point) => front.includes(point) || point === base) : first;
  svg.classList.toggle("dense", points.length > MOST_LABELS);
  for (const point of labelled) svg.append(...[label(point, x(point.cost), y(point.score), placed, { left, right, top, bottom })].filter(Boolean));
  place.replaceChildren(moveBetweenMarks(svg));
}

function drawCostAxes(svg, x, y, [low, high], costs, log, { left, right, top, bottom, key }) {
  const across = ticks(low, high, 5);
  for (const value of across.values) {
    svg.append(node("line", { class: "axis", x1: left, x2: right, y1: y(value), y2: y(value) }));
    svg.append(node("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, fixed(value, across.digits)));
  }
  let last = -Infinity;
  for (const [value, text] of costTicks(costs, log, (right - left) / 80, data.costNames[key])) {
    if (x(value) - last < 52) continue;
    last = x(value);
    svg.append(node("line", { class: "axis", x1: last, x2: last, y1: top, y2: bottom }));
    svg.append(node("text", { x: last, y: bottom + 16, "text-anchor": "middle" }, text));
  }
  svg.append(node("text", { x: (left + right) / 2, y: bottom + 38, "text-anchor": "middle" }, `${costName(key)}${log ? ", logarithmic" : ""}`));
  svg.append(node("text", { x: 0, y: top - 4 }, `score (${data.scoreName}, points)`));
}

// Round numbers of the unit that is shown, and their texts.
function costTicks([low, high], log, count, name) {
  const [size, unit] = unitOf(high, name);
  if (!log) {
    const { values, digits } = ticks(low / size, high / size, Math.max(2, count));
    return values.map((value) => [value * size, `${fixed(value, digits)}${unit}`]);
  }
  const powers = Array.from({ length: 16 }, (_, index) => size * 10 ** (index - 9));
  const values = powers.flatMap((power) => [power, 2 * power, 5 * power]).filter((value) => value >= low && value <= high);
  return values.map((value) => [value, quantity(value, name)]);
}

// The name of a point where it covers no other mark; else its number; else nothing.
function label(point, x, y, placed, edges) {
  for (const text of [shorten(point.row.name, 28), String(data.rows.indexOf(point.row) + 1)]) {
    const width = text.length * 6.3 + 2;
    for (const [dx, dy, anchor] of [[9, 4, "start"], [-9, 4, "end"], [0, -11, "middle"], [0, 20, "middle"], [8, -9, "start"], [8, 17, "start"], [-8, -9, "end"], [-8, 17, "end"]]) {
      const start = x + dx - { start: 0, middle: width / 2, end: width }[anchor];
      const box = { x: start, y: y + dy - 11, width, height: 14 };
      const free = placed.every((other) => box.x > other.x + other.width || other.x > box.x + box.width || box.y > other.y + other.height || other.y > box.y + box.height);
      if (free && box.x > edges.left && box.x + width < edges.right + 10 && box.y > edges.top - 8 && box.y < edges.bottom) {
        placed.push(box);
        return node("text", { x: x + dx, y: y + dy, "text-anchor": anchor, class: `name halo${point.verdict === "better" ? " strong" : ""}`, "aria-hidden": true }, text);
      }
    }
  }
  return null;
}
