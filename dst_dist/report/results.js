"use strict";

// The head of the page, results beside baselines, curves over thresholds, and training over steps.

/** The headlines of a kind of evaluation: [key, label] pairs. */
function headlinesOf(kind) {
  return Object.values(DATA.metrics).filter((metric) => metric.label && metric.kinds.includes(kind)).map((metric) => [metric.key, metric.label]);
}

function drawHeader() {
  document.getElementById("name").textContent = DATA.name;
  const { step, code, reason } = DATA.status;
  const ended = code === undefined ? "no end written: running, or killed" : code === 0 ? "done" : `code ${code}, ${reason}`;
  const about = {
    Model: DATA.model, "Fine-tuning": DATA.mode, Step: step === null || step === undefined ? "none yet" : number(step), End: ended,
    ...Object.fromEntries(Object.entries(DATA.data).filter(([, names]) => names.length).map(([split, names]) => [`Data, ${split}`, names.join(", ")])),
  };
  document.getElementById("about").append(...Object.entries(about).filter(([, text]) => text).map(([term, text]) => html("div", {}, html("dt", {}, term), html("dd", {}, text))));
}

function drawResults() {
  const section = document.getElementById("results");
  section.append(...DATA.notes.map((text) => note(text)));
  if (!DATA.evaluations.length) section.append(note("Not evaluated yet. ", html("code", {}, "dst-dist evaluate RUN"), " measures the run, with ", html("code", {}, "--streaming"), " as in use."));
  else if (!DATA.evaluations.some((one) => one.kind === "streaming")) section.append(note("Not streamed yet. ", html("code", {}, "dst-dist evaluate RUN --streaming"), " measures the run as in use."));
  const shown = new Set();
  for (const evaluation of DATA.evaluations) {
    const isFirst = !shown.has(evaluation.kind);
    shown.add(evaluation.kind);
    section.append(evaluationBox(evaluation, isFirst));
  }
}

/** One evaluation; the first of its kind with headlines, the others folded. */
function evaluationBox({ split, kind, result }, isFirst) {
  const title = `${split}, ${DATA.kinds[kind]}`;
  const columns = { ...(result.on_the_clock ? { "on the clock": result.on_the_clock } : {}), ...(result.baselines || {}) };
  const usual = DATA.table_keys[kind].filter((key) => key in result);
  const all = { ...(result.on_the_clock || {}), ...result };
  const others = Object.keys(all).filter((key) => typeof all[key] === "number" && !usual.includes(key));
  const more = (name, table, isSpare) => html("details", { class: isSpare ? "fold spare" : "fold" }, html("summary", {}, name), table);
  const parts = [
    metricTable(usual, { model: result, ...columns }, `${title}: the model beside baselines`),
    ...["dataset", "domain"].filter((by) => result[`by_${by}`]).map((by) => more(`By ${by}`, metricTable(usual, result[`by_${by}`], `${title}, by ${by}`))),
    others.length ? more(`${plural(others.length, "more number")}`, metricTable(others, { model: result, ...columns }, `${title}: more numbers`), true) : null,
  ];
  if (!isFirst) return html("details", { class: "fold evaluation" }, html("summary", {}, html("h3", {}, title), ` ${plural(result.num_videos || 0, "video")}`), parts);
  const headlines = headlinesOf(kind).filter(([key]) => typeof result[key] === "number");
  return html("div", { class: "evaluation" }, html("h3", {}, title), html("p", { class: "quiet" }, `${plural(result.num_videos || 0, "video")}. Lines show 95 % intervals over videos, ticks the baselines.`),
    html("div", { class: "cards" }, headlines.map(([key, name]) => card(name, key, result, columns))), parts);
}

function card(name, key, result, columns) {
  const interval = result[`${key}/ci95`];
  const beside = Object.entries(columns).filter(([, values]) => typeof values[key] === "number").map(([label, values]) => [label, values[key]]);
  return html("div", { class: "card" }, html("p", { class: "card-name" }, name), html("p", { class: "figure" }, metric(key, result[key])),
    html("p", { class: "quiet" }, interval ? `95 %: ${between(key, interval)}` : "no interval"),
    strip(result[key], interval, beside),
    html("p", { class: "quiet" }, beside.map(([label, value]) => `${label} ${metric(key, value)}`).join(", ")));
}

/** A share between 0 and 1 with its interval and the baselines' ticks. */
function strip(value, interval, beside) {
  if (value < 0 || value > 1) return null;
  const at = (share) => `${Math.min(1, Math.max(0, share)) * 100}%`;
  return svg("svg", { class: "strip", "aria-hidden": "true", width: "100%", height: 18 },
    svg("line", { class: "base", x1: 0, x2: "100%", y1: 9, y2: 9 }),
    beside.map(([, share]) => svg("line", { class: "tick", x1: at(share), x2: at(share), y1: 3, y2: 15 })),
    interval ? svg("line", { class: "interval", x1: at(interval[0]), x2: at(interval[1]), y1: 9, y2: 9 }) : null,
    svg("circle", { class: "value", cx: at(value), cy: 9, r: 4.5 }));
}

/** Three decimals, of counts none. */
function metric(key, value) {
  const isCount = (DATA.metrics[key] || {}).is_count;
  return typeof value === "number" && !isCount && Math.abs(value) <= 1 ? value.toFixed(3) : number(value);
}

/** A metric's name that may go on in the next line after / and _. */
function breakable(key) {
  return key.split(/(?<=[/_])/).flatMap((part) => [part, html("wbr")]);
}

function between(key, [low, high]) {
  return `${metric(key, low)} to ${metric(key, high)}`;
}

/** Metrics down, columns of results across; a column with intervals shows them beneath its values. */
function metricTable(keys, columns, caption) {
  const names = Object.keys(columns), told = keys.filter((key) => names.some((name) => typeof columns[name][key] === "number"));
  const cell = (key, values) => {
    const interval = values[`${key}/ci95`];
    return html("td", {}, metric(key, values[key]), interval ? html("span", { class: "ci" }, between(key, interval)) : null);
  };
  return html("div", { class: "scroller", tabindex: "0", role: "region", "aria-label": caption }, html("table", {},
    html("caption", { class: "unseen" }, caption),
    html("thead", {}, html("tr", {}, html("th", { scope: "col" }, "metric"), names.map((name) => html("th", { scope: "col" }, name)))),
    html("tbody", {}, told.map((key) => html("tr", {}, html("th", { scope: "row" }, breakable(key), lessIsBetter(key) ? html("abbr", { title: "less is better" }, " \u2193") : null), names.map((name) => cell(key, columns[name])))))));
}

function drawDecisions() {
  const section = document.getElementById("decisions");
  const withCurves = DATA.evaluations.filter(({ result }) => result.curves && Object.keys(result.curves).length);
  if (!withCurves.length) {
    section.append(note("No curves over thresholds yet; ", html("code", {}, "dst-dist evaluate RUN"), " makes them."));
    return;
  }
  withCurves.forEach(({ split, kind, result }, place) => {
    const charts = Object.entries(DATA.heads).filter(([head]) => result.curves[head]).flatMap(([head, name]) => decisionCharts(name, result.curves[head], result[`${head}/threshold`]));
    const title = `${split}, ${DATA.kinds[kind]}`;
    section.append(place ? html("details", { class: "fold" }, html("summary", {}, html("h3", {}, title)), html("div", { class: "charts" }, charts)) : html("div", {}, html("h3", {}, title), html("div", { class: "charts" }, charts)));
  });
}

function decisionCharts(name, curve, threshold) {
  const along = (column) => curve.threshold.map((at, place) => [at, curve[column][place]]);
  const known = typeof threshold === "number";
  let nearest = 0;
  curve.threshold.forEach((at, place) => { if (Math.abs(at - threshold) < Math.abs(curve.threshold[nearest] - threshold)) nearest = place; });
  const chosen = known ? [{ x: threshold, text: `chosen: ${number(threshold)}` }] : [];
  const ring = known && curve.precision[nearest] !== null ? [{ x: curve.recall[nearest], y: curve.precision[nearest], text: `chosen: ${number(threshold)}` }] : [];
  const scores = ["precision", "recall", "f1"].map((column, place) => ({ name: column, style: `s${place + 1}`, points: along(column) }));
  return [
    lineChart(`${name}: precision and recall`, [{ name: "precision", style: "s1", points: curve.recall.map((at, place) => [at, curve.precision[place]]).filter(([recall, precision]) => recall || precision) }], { x: "recall", y: "precision", xRange: [0, 1], yRange: [0, 1], marks: ring }),
    lineChart(`${name}: over thresholds`, scores, { x: "threshold", xRange: [0, 1], yRange: [0, 1], marks: chosen }),
    lineChart(`${name}: false alarms a minute`, [{ name: "false alarms a minute", style: "s4", points: along("false_per_minute") }], { x: "threshold", xRange: [0, 1], marks: chosen }),
  ];
}

function drawTraining() {
  const section = document.getElementById("training"), series = DATA.training.series;
  const keys = Object.keys(series);
  if (!keys.length) {
    section.append(note("No metrics over steps: metrics.jsonl is missing or empty."));
    return;
  }
  if (!keys.some((key) => series[key].val)) section.append(note("There was no validation in this run."));
  if (DATA.training.thinned_from) section.append(note(`${number(DATA.training.thinned_from)} steps are drawn with at most ${number(DATA.training.most_points)} points a line; the first, the last, the lowest and the highest are among them.`));
  const others = keys.filter((key) => !DATA.terms.includes(key) && !isScore(key, series));
  const scores = {};
  for (const key of keys.filter((one) => isScore(one, series))) (scores[scoreName(key)] ||= []).push(key);
  section.append(html("div", { class: "charts" }, DATA.terms.filter((key) => series[key]).map((key) => stepChart(key, series[key]))));
  if (Object.keys(scores).length) section.append(html("h3", {}, "Validation metrics"), html("div", { class: "charts" }, Object.entries(scores).map(([name, of]) => scoreChart(name, of, series))));
  if (others.length) section.append(html("details", { class: "fold spare" }, html("summary", {}, `${plural(others.length, "more line")} over steps`), html("div", { class: "charts" }, others.map((key) => stepChart(key, series[key])))));
}

function isScore(key, series) {
  return series[key].val && key in DATA.metrics && !DATA.terms.includes(key) && !DATA.metrics[key].is_given;
}

/** Both heads' scores of one name share a chart. */
function scoreName(key) {
  const [head, ...name] = key.split("/");
  return head in DATA.heads ? name.join("/").replaceAll("_", " ") : key;
}

function scoreChart(name, keys, series) {
  const lines = keys.map((key, place) => ({ name: DATA.heads[key.split("/")[0]] || key, style: `s${place + 1}`, points: series[key].val, dots: series[key].val.length <= 60 }));
  return lineChart(name, lines, { x: "step" });
}

function stepChart(key, bySplit) {
  const lines = ["train", "val", "test"].filter((split) => bySplit[split]).map((split) => ({ name: split, style: `split-${split}`, points: bySplit[split], dots: split !== "train" && bySplit[split].length <= 60 }));
  const [low, high] = extent(lines.flatMap((line) => line.points.map((point) => point[1])));
  return lineChart(key, lines, { x: "step", log: lessIsBetter(key) && low > 0 && high / low > 20 });
}
