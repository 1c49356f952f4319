// The table and the plot of the page "Results". Tabulator sorts and filters; Vega-Lite draws what is left.
(() => {
  const rows = JSON.parse(document.getElementById("board-rows").textContent);
  const small = (text) => (text ? `<small>${text}</small>` : "");
  const safe = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;");
  const pick = (title, field, width) => ({
    title, field, width,
    headerFilter: "list", headerFilterFunc: "=", headerFilterPlaceholder: "all",
    headerFilterParams: { valuesLookup: true, clearable: true, sort: "asc" },
  });
  const find = (title, field, width, formatter) => ({
    title, field, width, formatter, headerFilter: "input", headerFilterPlaceholder: "find",
  });
  const number = (title, field, width, formatter) => ({
    title, field, width, formatter, hozAlign: "right", sorter: "number", sorterParams: { alignEmptyValues: "bottom" },
  });
  const columns = [
    { ...find("method", "method", 165, (cell) => safe(cell.getValue())), frozen: window.innerWidth > 900 },
    number("value", "value", 125, (cell) => {
      const row = cell.getData();
      return safe(row.told) + (row.better === "lower" ? small("less is better") : "");
    }),
    { title: "minus its rival", field: "gap", width: 150, sorter: (one, other) => gain(one) - gain(other),
      formatter: (cell) => safe(cell.getValue()) + small(safe(cell.getData().rival)) },
    pick("metric", "metric", 110),
    pick("labels", "labels", 80),
    pick("kind", "kind", 100),
    pick("data", "data", 145),
    pick("budget", "budget", 110),
    number("bytes", "bytes", 85, (cell) => (cell.getValue() === null ? "" : cell.getValue().toLocaleString("en"))),
    number("seeds", "seeds", 80),
    find("to repeat it", "command", 230, (cell) => `<code>${safe(cell.getValue())}</code>`),
  ];
  const gain = (text) => (text ? parseFloat(text) : -Infinity);

  document.getElementById("board").hidden = false;
  const table = new Tabulator("#board-table", {
    data: rows, columns, layout: "fitDataStretch",
    pagination: true, paginationSize: 25, paginationSizeSelector: [25, 100, true], paginationCounter: "rows",
    headerFilterLiveFilterDelay: 0,
  });

  const color = "currentColor";
  const plot = vegaEmbed("#board-plot", {
    $schema: "https://vega.github.io/schema/vega-lite/v6.json",
    data: { name: "rows", values: [] }, width: "container", height: 360, background: null,
    autosize: { type: "fit-x", contains: "padding" },
    transform: [
      { calculate: "datum.value - (datum.spread || 0)", as: "low" },
      { calculate: "datum.value + (datum.spread || 0)", as: "high" },
      { joinaggregate: [{ op: "count", as: "count" }] },
      { calculate: "datum.labels || 'none'", as: "learned" },
    ],
    encoding: {
      x: { field: "bytes", type: "quantitative", scale: { type: "log", nice: false, padding: 20 }, title: "bytes",
        axis: { format: "~s", tickCount: 5, grid: false } },
      y: { field: "value", type: "quantitative", scale: { zero: false }, title: "accuracy, %" },
      color: { field: "data", title: "data" },
      tooltip: ["method", "data", "budget", "labels", "told", "gap", "rival", "bytes", "command"]
        .map((field) => ({ field, title: field === "told" ? "value" : field })),
    },
    layer: [
      { mark: { type: "rule", opacity: 0.4 }, encoding: { y: { field: "low" }, y2: { field: "high" } } },
      { mark: { type: "point", filled: true, size: 60 },
        encoding: { shape: { field: "learned", title: "labels", legend: { symbolFillColor: color } } } },
      { mark: { type: "text", align: "left", dx: 7, fontSize: 10, fill: color },
        transform: [{ filter: "datum.count <= 40" }], encoding: { text: { field: "method" } } },
    ],
    config: {
      view: { stroke: null }, axis: { labelColor: color, titleColor: color, domainColor: color, tickColor: color,
        gridColor: color, gridOpacity: 0.12 },
      legend: { labelColor: color, titleColor: color, orient: "bottom", columns: 4, labelLimit: 260 },
    },
  }, { renderer: "svg", actions: { export: true, source: false, compiled: false, editor: false } });

  const show = (kept) => {
    document.getElementById("board-count").textContent = `${kept.length} of ${rows.length} rows`;
    const drawn = kept.filter((row) => row.bytes && row.metric.startsWith("accuracy"));
    plot.then(({ view }) => {
      view.data("rows", drawn).resize().runAsync();
      document.getElementById("board-plot").classList.toggle("empty", drawn.length === 0);
    });
  };
  table.on("dataFiltered", (_, kept) => show(kept.map((row) => row.getData())));
  table.on("tableBuilt", () => show(rows));
  // A box that still has the focus would apply its filter once more when it is taken away.
  document.getElementById("board-clear").addEventListener("click", (event) => {
    event.currentTarget.focus();
    setTimeout(() => table.clearHeaderFilter());
  });
})();
