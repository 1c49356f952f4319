"use strict";
const curves = JSON.parse(document.getElementById("curves").textContent);
const colours = ["var(--rose)", "#2a7f9e", "#c98a1b", "#5b8c3a", "#8159b5", "#777"];

// Sorting: by value where there is one, by text otherwise, what is missing last.
const table = document.getElementById("comparison");
for (const button of table ? table.querySelectorAll("thead button") : []) {
  button.addEventListener("click", () => {
    const head = button.parentElement;
    const down = head.getAttribute("aria-sort") === "ascending"
      || (head.getAttribute("aria-sort") === "none" && head.dataset.kind === "number");
    for (const other of table.querySelectorAll("thead th[aria-sort]")) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...table.tBodies[0].rows];
    rows.sort((one, other) => {
      const [a, b] = [one.cells[head.cellIndex], other.cells[head.cellIndex]];
      if ("missing" in a.dataset || "missing" in b.dataset) return ("missing" in a.dataset) - ("missing" in b.dataset);
      const order = "value" in a.dataset ? a.dataset.value - b.dataset.value
        : a.textContent.localeCompare(b.textContent, undefined, { numeric: true });
      return down ? -order : order;
    });
    table.tBodies[0].append(...rows);
  });
}

const filter = document.getElementById("filter");
if (filter) filter.addEventListener("input", () => {
  const words = filter.value.toLowerCase().split(/\s*,\s*/).filter(Boolean);
  for (const row of table.tBodies[0].rows) {
    const text = `${row.textContent} seed ${row.cells[6].textContent}`.toLowerCase();
    row.hidden = !words.every((word) => text.includes(word));
  }
});

// One picture at a time, by a slider.
for (const time of document.querySelectorAll(".time")) {
  const frames = [...time.querySelectorAll("figure")];
  const slider = time.querySelector(".slider");
  const show = (place) => {
    frames.forEach((frame, number) => frame.classList.toggle("shown", number === place));
    slider.querySelector("output").textContent = frames[place].querySelector("figcaption").textContent.replace("step ", "");
  };
  time.classList.add("one");
  slider.hidden = false;
  slider.querySelector("input").addEventListener("input", (event) => show(Number(event.target.value)));
  show(frames.length - 1);
}

// The value under the pointer.
for (const chart of document.querySelectorAll(".run .chart")) {
  const run = chart.closest(".run").id.replace("run-", "");
  const points = curves[run][chart.dataset.name];
  for (const svg of chart.querySelectorAll("svg")) {
    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect();
      const share = ((event.clientX - box.left) / box.width * 640 - 72) / (640 - 72 - 12);
      const place = Math.round(Math.min(1, Math.max(0, share)) * (points.length - 1));
      chart.querySelector("output").textContent = `step ${points[place][0]}: ${points[place][1].toPrecision(4)}`;
    });
    svg.addEventListener("pointerleave", () => { chart.querySelector("output").textContent = ""; });
  }
}

// Side by side: curves in one chart, pictures in columns.
const drawings = document.querySelector("svg")?.namespaceURI;
const make = (name, attributes, ...children) => {
  const svg = ["svg", "polyline", "line", "text"].includes(name);
  const element = svg ? document.createElementNS(drawings, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
};

function overlaid(name, runs) {
  const all = runs.flatMap((run) => curves[run][name] || []);
  const [steps, values] = [all.map((point) => point[0]), all.map((point) => point[1])];
  const [last, low, high] = [Math.max(...steps), Math.min(...values), Math.max(...values)];
  const y = (value) => 206 - 194 * (value - low) / (high - low || 1);
  const svg = make("svg", { viewBox: "0 0 640 240", role: "img", "aria-label": `${name} of the ticked runs` });
  for (const value of [low, (low + high) / 2, high]) {
    svg.append(make("line", { x1: 72, x2: 628, y1: y(value), y2: y(value) }),
      make("text", { x: 66, y: y(value) + 4, "text-anchor": "end" }, value.toPrecision(3)));
  }
  svg.append(make("text", { x: 628, y: 232, "text-anchor": "end" }, `step ${last}`));
  runs.forEach((run, number) => {
    const points = (curves[run][name] || []).map(([step, value]) => `${72 + 556 * step / last},${y(value)}`);
    const line = make("polyline", { points: points.join(" ") });
    line.style.stroke = colours[number % colours.length];
    svg.append(line);
  });
  return make("figure", {}, make("figcaption", {}, name), svg);
}

const together = document.getElementById("together");
const ticks = [...document.querySelectorAll("[data-run][type=checkbox]")];
for (const tick of ticks) tick.addEventListener("change", () => {
  const runs = ticks.filter((one) => one.checked).map((one) => one.dataset.run);
  together.hidden = runs.length < 2;
  const [charts, columns] = [document.getElementById("overlaid"), document.getElementById("beside")];
  charts.replaceChildren();
  columns.replaceChildren();
  if (together.hidden) return;
  const names = new Set(runs.flatMap((run) => Object.keys(curves[run])));
  const legend = make("p", { class: "legend" }, ...runs.map((run, number) => {
    const entry = make("span", {}, document.getElementById(`name-${run}`).textContent);
    entry.style.setProperty("--c", colours[number % colours.length]);
    return entry;
  }));
  if (names.size) charts.append(legend, ...[...names].map((name) => overlaid(name, runs)));
  for (const run of runs) {
    const section = document.getElementById(`run-${run}`);
    const title = make("h3", {}, document.getElementById(`name-${run}`).textContent);
    columns.append(make("div", {}, title, section.querySelector(".pictures").cloneNode(true)));
  }
});
