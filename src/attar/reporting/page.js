"use strict";
document.documentElement.classList.add("js");
const curves = JSON.parse(document.getElementById("curves").textContent);
const colours = ["var(--rose)", "#2a7f9e", "#c98a1b", "#5b8c3a", "#8159b5", "#777"];
const [LEFT, ROOM] = [92, 536]; // of a chart, as chart.py has it
const all = (selector, within = document) => [...within.querySelectorAll(selector)];

// Sorting by the first row of each body: by value where there is one, by text otherwise, what is missing last.
for (const button of all(".overview thead button")) button.addEventListener("click", () => {
  const head = button.parentElement, table = head.closest("table"), was = head.getAttribute("aria-sort");
  const down = was === "ascending" || (was === "none" && head.dataset.kind === "number");
  for (const other of all("thead th[aria-sort]", table)) other.setAttribute("aria-sort", "none");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const rows = [...table.tBodies].sort((one, other) => {
    const [a, b] = [one, other].map((body) => body.rows[0].cells[head.cellIndex]);
    if ("missing" in a.dataset || "missing" in b.dataset) return ("missing" in a.dataset) - ("missing" in b.dataset);
    const order = "value" in a.dataset ? a.dataset.value - b.dataset.value
      : a.textContent.localeCompare(b.textContent, undefined, { numeric: true });
    return down ? -order : order;
  });
  table.append(...rows);
});

const filter = document.getElementById("filter");
if (filter) filter.addEventListener("input", () => {
  const words = filter.value.toLowerCase().split(/\s*,\s*/).filter(Boolean);
  for (const body of all(".overview tbody")) {
    body.hidden = !words.every((word) => body.dataset.search.toLowerCase().includes(word));
  }
});

// A link to a run unfolds it.
const unfold = () => document.getElementById(location.hash.slice(1))?.closest("details")?.setAttribute("open", "");
addEventListener("hashchange", unfold);
unfold();

// A box that has more to the side says so.
const sized = new ResizeObserver((entries) => {
  for (const { target } of entries) target.classList.toggle("wide", target.scrollWidth > target.clientWidth + 1);
});
for (const box of all(".scroll")) sized.observe(box);

// One picture at a time, by a slider.
for (const time of all(".time")) {
  const frames = all("figure", time), slider = time.querySelector(".slider");
  const show = (place) => {
    frames.forEach((frame, number) => frame.classList.toggle("shown", number === place));
    slider.querySelector("output").textContent = frames[place].querySelector("figcaption").textContent;
  };
  time.classList.add("one");
  slider.hidden = false;
  slider.querySelector("input").addEventListener("input", (event) => show(Number(event.target.value)));
  show(frames.length - 1);
}

// The value under the pointer.
for (const chart of all(".run .chart")) {
  const points = curves[chart.closest(".body").id.replace("run-", "")][chart.dataset.name];
  const [first, last] = [points[0][0], points.at(-1)[0]], output = chart.querySelector("output");
  for (const svg of all("svg", chart)) {
    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect();
      const step = first + (last - first) * ((event.clientX - box.left) / box.width * 640 - LEFT) / ROOM;
      const near = points.reduce((a, b) => (Math.abs(b[0] - step) < Math.abs(a[0] - step) ? b : a));
      output.textContent = `step ${near[0]}: ${near[1].toPrecision(4)}`;
    });
    svg.addEventListener("pointerleave", () => { output.textContent = ""; });
  }
}

// Side by side, within a kind: curves in one chart, pictures in columns. A ticked method brings all its seeds.
const drawings = document.querySelector("svg")?.namespaceURI;
const make = (name, attributes, ...children) => {
  const svg = ["svg", "polyline", "line", "text"].includes(name);
  const element = svg ? document.createElementNS(drawings, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
};

function scaled(name, lines, logarithmic) {
  const scale = (value) => (logarithmic ? Math.log10(value) : value);
  const points = lines.flatMap((line) => line.points);
  const [steps, values] = [points.map((point) => point[0]), points.map((point) => scale(point[1]))];
  const [first, last, low, high] = [Math.min(...steps), Math.max(...steps), Math.min(...values), Math.max(...values)];
  const x = (step) => LEFT + ROOM * (step - first) / (last - first || 1);
  const y = (value) => 206 - 194 * (high > low ? (value - low) / (high - low) : 0.5);
  const kind = logarithmic ? "logarithmic" : "linear";
  const svg = make("svg", { viewBox: "0 0 640 240", role: "img", "aria-label": `${name} side by side`, class: kind });
  for (const value of high > low ? [low, (low + high) / 2, high] : [low]) {
    const shown = Number((logarithmic ? 10 ** value : value).toPrecision(3));
    svg.append(make("line", { x1: LEFT, x2: 628, y1: y(value), y2: y(value) }),
      make("text", { x: LEFT - 6, y: y(value) + 5, "text-anchor": "end" }, `${shown}`));
  }
  svg.append(make("text", { x: LEFT, y: 232 }, `step ${first}`),
    make("text", { x: 628, y: 232, "text-anchor": "end" }, `step ${last}`));
  for (const line of lines) {
    const drawn = make("polyline", { points: line.points.map(([step, value]) => `${x(step)},${y(scale(value))}`).join(" ") });
    drawn.style.stroke = line.colour;
    svg.append(drawn);
  }
  return svg;
}

function overlaid(name, ticked) {
  const lines = ticked.flatMap(({ runs, colour }) => runs.map((run) => ({ points: curves[run][name] || [], colour })));
  const figure = make("figure", { class: "chart" }, make("figcaption", {}, name));
  if (lines.every((line) => line.points.every((point) => point[1] > 0))) {
    figure.append(make("label", { class: "toggle" }, make("input", { type: "checkbox" }), " logarithmic"),
      scaled(name, lines, true));
  }
  figure.append(scaled(name, lines, false));
  return figure;
}

for (const kind of all(".kind")) {
  const ticks = all("[data-runs]", kind), together = kind.querySelector(".together");
  for (const tick of ticks) tick.addEventListener("change", () => {
    const ticked = ticks.filter((one) => one.checked).map(({ dataset }, number) => (
      { runs: dataset.runs.split(" "), label: dataset.label, colour: colours[number % colours.length] }));
    together.hidden = ticked.length < 2;
    const names = new Set(ticked.flatMap(({ runs }) => runs.flatMap((run) => Object.keys(curves[run]))));
    const legend = ticked.map(({ label, colour }) => {
      const entry = make("p", { class: "legend" }, label);
      entry.style.setProperty("--c", colour);
      return entry;
    });
    const charts = make("div", { class: "charts" }, ...[...names].map((name) => overlaid(name, ticked)));
    together.querySelector(".overlaid").replaceChildren(...(names.size ? [...legend, charts] : []));
    together.querySelector(".beside").replaceChildren(...ticked.flatMap(({ runs, label }) => {
      const drawn = document.getElementById(`run-${runs[0]}`).querySelector(".pictures");
      return drawn ? [make("div", {}, make("h4", {}, label), drawn.cloneNode(true))] : [];
    }));
    for (const box of all(".scroll", together)) sized.observe(box);
  });
}
