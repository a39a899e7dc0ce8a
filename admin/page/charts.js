"use strict";
// The last 15 minutes, of samples that the process keeps: what was before the page was opened
// is there, too. Drawn by dygraphs, which is in vendor.

// The library's legend sets a style attribute, which the page's policy forbids; it is not used.
Dygraph.PLUGINS = Dygraph.PLUGINS.filter((plugin) => plugin !== Dygraph.Plugins.Legend);

let past = { every_ms: 5000, of_ms: 900000, started: 0, samples: [] };
let pastAt = 0; // when the last sample was got, by performance.now()

const served = ["executed", "replayed-store", "replayed-local", "passed", "accepted", "joined", "outcome-asked"];
const failed = (o) => Boolean(failures[o]);

// shade is an outcome's colour: what was served is blue and green, what was refused amber,
// what failed red.
function shade(outcome, all) {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const kind = served.includes(outcome) ? "served" : failed(outcome) ? "failed" : "refused";
  const alike = all.filter((o) => (served.includes(o) ? "served" : failed(o) ? "failed" : "refused") === kind);
  const i = kind === "served" ? served.indexOf(outcome) : alike.indexOf(outcome);
  const hues = { served: [215, 160, 185, 250, 135, 200, 275], refused: [40, 28, 52, 20], failed: [4, 350, 330, 14] }[kind], hue = hues[i % hues.length];
  const light = (dark ? 62 : 42) + 9 * (Math.floor(i / hues.length) % 3);
  return "hsl(" + hue + " " + (kind === "served" ? 55 : 75) + "% " + light + "%)";
}

const ink = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const rounded = (v) => v === null || v === undefined || Number.isNaN(v) ? "–"
  : v.toLocaleString("en", { maximumFractionDigits: v < 10 ? 2 : v < 100 ? 1 : 0 });

// Each chart says which series there are, and what they are in a sample.
const charts = [
  {
    id: "c-requests", unit: "/s", stacked: true,
    // What was served is at the bottom, failures are on top; the library begins with the last.
    series: () => {
      const all = new Set(past.samples.flatMap((s) => Object.keys(s.requests)));
      const rank = (o) => served.includes(o) ? served.indexOf(o) : failed(o) ? 200 : 100;
      const sorted = [...all].sort((a, b) => rank(b) - rank(a) || a.localeCompare(b));
      return (sorted.length ? sorted : ["executed"]).map((o) => ({ name: o, of: (s) => s.requests[o] || 0, colour: shade(o, sorted) }));
    },
  },
  ...["store", "backend"].map((what) => ({
    id: "c-" + what, unit: " ms",
    series: () => [
      { name: "p99", of: (s) => s[what] ? s[what].p99_ms : null, colour: ink("--warn") },
      { name: "p50", of: (s) => s[what] ? s[what].p50_ms : null, colour: ink("--mark") },
    ],
  })),
  {
    id: "c-keys", unit: "",
    series: () => [
      { name: "in flight here", of: (s) => s.in_flight, colour: ink("--mark") },
      { name: "requests waiting", of: (s) => s.waiters, colour: ink("--good") },
      { name: "keys waiting for a person", of: (s) => s.unknown === undefined ? null : s.unknown, colour: ink("--bad") },
    ],
  },
];

// rows are the chart's data; where the process took no samples there is a gap.
function rowsOf(series) {
  const out = [];
  let last = 0;
  for (const s of past.samples) {
    if (last && s.at - last > 2.5 * past.every_ms) out.push([last + 1, ...series.map(() => null)]);
    out.push([s.at, ...series.map((one) => one.of(s))]);
    last = s.at;
  }
  return out.length ? out : [[Date.now(), ...series.map(() => null)]];
}

// legend shows the values of one moment: those pointed at, else the last.
function legend(c, row) {
  const sample = row === undefined ? past.samples.at(-1) : past.samples.find((s) => s.at === c.rows[row][0]);
  const list = $(c.id).querySelector("ul");
  const items = [element("li", sample ? (row === undefined ? "now" : new Date(sample.at).toLocaleTimeString("en-GB")) : "no sample yet", "when")];
  for (const one of [...c.lines].reverse()) {
    const li = element("li"), mark = element("i");
    mark.style.backgroundColor = one.colour;
    const v = sample ? one.of(sample) : null;
    li.append(mark, one.name + " ", element("b", rounded(v) + (v === null ? "" : c.unit)));
    items.push(li);
  }
  if (sample && !sample.store_up) items.push(element("li", "the store did not answer", "bad"));
  list.replaceChildren(...items);
  const plot = $(c.id).querySelector(".plot");
  plot.setAttribute("aria-label", $(c.id).querySelector("h3").textContent + ", last 15 minutes. " + items.map((li) => li.textContent).join(", "));
}

// timeOf is a label of the time axis; the first would stand under the other axis's zero.
function timeOf(at, granularity, option, g) {
  return at - g.xAxisRange()[0] < past.of_ms / 25 ? "" : new Date(at).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
}

// lost shades the times at which the store did not answer.
function lost(context, area, g) {
  context.fillStyle = ink("--lost");
  for (const s of past.samples) {
    if (s.store_up) continue;
    const from = g.toDomXCoord(s.at - s.over_ms), to = g.toDomXCoord(s.at);
    context.fillRect(from, area.y, Math.max(1, to - from), area.h);
  }
}

function draw(c) {
  c.lines = c.series();
  c.rows = rowsOf(c.lines);
  const last = past.samples.length ? past.samples.at(-1).at + Math.max(0, performance.now() - pastAt) : Date.now();
  const options = {
    file: c.rows.map(([at, ...values]) => [new Date(at), ...values]), labels: ["time", ...c.lines.map((l) => l.name)], colors: c.lines.map((l) => l.colour),
    dateWindow: [last - past.of_ms, last], gridLineColor: ink("--line"), axisLineColor: ink("--line"),
    // Room above the highest, and a scale that is not of nothing.
    valueRange: [0, 1.1 * Math.max(c.unit === "" ? 2 : 0.5, ...c.rows.map((r) => c.stacked
      ? r.slice(1).reduce((a, b) => a + (b || 0), 0) : Math.max(0, ...r.slice(1).map((v) => v || 0))))],
  };
  if (c.graph) {
    c.graph.updateOptions(options);
  } else {
    const plot = $(c.id).querySelector(".plot");
    const { file, ...others } = options;
    c.graph = new Dygraph(plot, file, {
      ...others, stackedGraph: Boolean(c.stacked), legend: "never", interactionModel: {}, strokeWidth: 1.5, fillAlpha: 0.65,
      highlightCircleSize: 3, axisLabelFontSize: 12, drawGapEdgePoints: true, underlayCallback: lost, xRangePad: 0,
      axes: {
        x: { pixelsPerLabel: 70, axisLabelFormatter: timeOf },
        y: { pixelsPerLabel: 28, axisLabelWidth: 48, axisLabelFormatter: (v) => rounded(v) + c.unit },
      },
      highlightCallback: (event, x, points, row) => { c.row = row; legend(c, row); },
      unhighlightCallback: () => { c.row = undefined; legend(c); },
    });
    new ResizeObserver(() => { if (plot.clientWidth) c.graph.resize(); }).observe(plot);
    plot.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) return;
      event.preventDefault();
      c.row = Math.min(c.rows.length - 1, Math.max(0, (c.row ?? c.rows.length) + step));
      c.graph.setSelection(c.row);
      legend(c, c.row);
    });
    plot.addEventListener("blur", () => { c.graph.clearSelection(); c.row = undefined; legend(c); });
  }
  if (c.row === undefined) legend(c);
}

function drawCharts() {
  if ($("overview").hidden) return;
  charts.forEach(draw);
  const last = past.samples.at(-1);
  for (const what of ["store", "backend"]) {
    $("t-" + what).textContent = last && last[what] ? rounded(last[what].p50_ms) + " / " + rounded(last[what].p99_ms) : "–";
  }
  const began = past.started > (last ? last.at : Date.now()) - past.of_ms;
  $("began").textContent = began ? "The process began at " + new Date(past.started).toLocaleTimeString("en-GB") + "; before that there is nothing. " : "";
}

// loadPast asks for what is new, or, of another process than before, for all.
async function loadPast() {
  try {
    const last = past.samples.at(-1);
    let found = await (await ask("history?after=" + (last ? last.at : 0))).json();
    if (past.started !== found.started) {
      past.samples = [];
      if (last) found = await (await ask("history")).json();
    }
    const samples = [...past.samples, ...found.samples];
    past = { ...found, samples: samples.filter((s) => s.at > samples.at(-1).at - found.of_ms) };
    if (found.samples.length) pastAt = performance.now();
    $("history-error").textContent = "";
  } catch (e) {
    $("history-error").textContent = "Not up to date: " + e.message;
  }
  drawCharts();
  banner();
  setTimeout(loadPast, past.every_ms);
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawCharts);
