// The head of the page, results with baselines, curves over thresholds, and training over steps.

function drawHeader() {
  document.getElementById("name").textContent = DATA.name;
  const { step, code, reason } = DATA.status;
  const ended = code === undefined ? "no end written: running, or killed" : code === 0 ? "done" : `code ${code}, ${reason}`;
  const about = { Model: DATA.model, "Fine-tuning": DATA.mode, Step: step === null ? "none yet" : number(step), End: ended };
  for (const [split, names] of Object.entries(DATA.data)) if (names.length) about[`Data, ${split}`] = names.join(", ");
  document.getElementById("about").append(...Object.entries(about).map(([term, text]) => html("div", {}, html("dt", {}, term), html("dd", {}, text))));
}

function drawResults() {
  const section = document.getElementById("results");
  section.append(...DATA.notes.map((text) => note(text)));
  if (!DATA.evaluations.length) section.append(note("Not evaluated yet. ", html("code", {}, "dst-dist evaluate RUN"), " measures the run, with ", html("code", {}, "--streaming"), " as in use."));
  else if (!DATA.evaluations.some((one) => one.kind === "streaming")) section.append(note("Not streamed yet. ", html("code", {}, "dst-dist evaluate RUN --streaming"), " measures the run as in use."));
  const isFirst = (evaluation) => evaluation === DATA.evaluations.find((one) => one.kind === evaluation.kind);
  section.append(...DATA.evaluations.map((evaluation) => evaluationBox(evaluation, isFirst(evaluation))));
}

/** Return one evaluation: the first of its kind with cards, the others folded. */
function evaluationBox({ split, kind, measured, result }, isFirst) {
  const title = `${split}, ${DATA.kinds[kind]}`;
  const columns = { ...(result.on_the_clock ? { "on the clock": result.on_the_clock } : {}), ...result.baselines };
  const tableKeys = DATA.table_keys[kind].filter((key) => key in result);
  const all = { ...result.on_the_clock, ...result };
  const others = Object.keys(all).filter((key) => typeof all[key] === "number" && !tableKeys.includes(key));
  const more = (name, table, isSpare) => html("details", { class: isSpare ? "fold spare" : "fold" }, html("summary", {}, name), table);
  const parts = [
    html("p", { class: "quiet" }, measured),
    metricTable(tableKeys, { model: result, ...columns }, `${title}: the model and baselines`),
    ...["dataset", "domain"].filter((by) => result[`by_${by}`]).map((by) => more(`By ${by}`, metricTable(tableKeys, result[`by_${by}`], `${title}, by ${by}`))),
    others.length ? more(`${plural(others.length, "more number")}`, metricTable(others, { model: result, ...columns }, `${title}: more numbers`), true) : null,
  ];
  if (!isFirst) return html("details", { class: "fold evaluation" }, html("summary", {}, html("h3", {}, title), ` ${plural(result.num_videos, "video")}`), parts);
  const headlines = Object.values(DATA.metrics).filter((one) => one.label && one.kinds.includes(kind) && typeof result[one.key] === "number");
  return html("div", { class: "evaluation" }, html("h3", {}, title), html("p", { class: "quiet" }, `${plural(result.num_videos, "video")}. Lines show 95 % intervals over videos, ticks the baselines.`),
    html("div", { class: "cards" }, headlines.map(({ key, label }) => card(label, key, result, columns))), parts);
}

function card(name, key, result, columns) {
  const interval = result[`${key}/ci95`];
  const others = Object.entries(columns).filter(([, values]) => typeof values[key] === "number").map(([label, values]) => [label, values[key]]);
  return html("div", { class: "card" }, html("p", { class: "card-name" }, name), html("p", { class: "figure" }, metric(key, result[key])),
    html("p", { class: "quiet" }, interval ? `95 %: ${between(key, interval)}` : "no interval"),
    strip(result[key], interval, others),
    html("p", { class: "quiet" }, others.map(([label, value]) => `${label} ${metric(key, value)}`).join(", ")));
}

/** Draw a share between 0 and 1 with its interval and the baselines' ticks. */
function strip(value, interval, others) {
  const at = (share) => `${share * 100}%`;
  return svg("svg", { class: "strip", "aria-hidden": "true", width: "100%", height: 18 },
    svg("line", { class: "base", x1: 0, x2: "100%", y1: 9, y2: 9 }),
    others.map(([, share]) => svg("line", { class: "tick", x1: at(share), x2: at(share), y1: 3, y2: 15 })),
    interval ? svg("line", { class: "interval", x1: at(interval[0]), x2: at(interval[1]), y1: 9, y2: 9 }) : null,
    svg("circle", { class: "value", cx: at(value), cy: 9, r: 4.5 }));
}

/** Return a metric's value as text: three decimals, none for counts. */
function metric(key, value) {
  const isCount = DATA.metrics[key]?.is_count;
  return typeof value === "number" && !isCount && Math.abs(value) <= 1 ? value.toFixed(3) : number(value);
}

/** Return a metric's name that may break into two lines after / and _. */
function breakable(key) {
  return key.split(/(?<=[/_])/).flatMap((part) => [part, html("wbr")]);
}

function between(key, [low, high]) {
  return `${metric(key, low)} to ${metric(key, high)}`;
}

/** Return a table with a row for each metric and a column for each result; intervals are below their values. */
function metricTable(keys, columns, caption) {
  const names = Object.keys(columns), rows = keys.filter((key) => names.some((name) => typeof columns[name][key] === "number"));
  const cell = (key, values) => {
    const interval = values[`${key}/ci95`];
    return html("td", {}, metric(key, values[key]), interval ? html("span", { class: "ci" }, between(key, interval)) : null);
  };
  return html("div", { class: "scroller", tabindex: "0", role: "region", "aria-label": caption }, html("table", {},
    html("caption", { class: "unseen" }, caption),
    html("thead", {}, html("tr", {}, html("th", { scope: "col" }, "metric"), names.map((name) => html("th", { scope: "col" }, name)))),
    html("tbody", {}, rows.map((key) => html("tr", {}, html("th", { scope: "row" }, breakable(key), lessIsBetter(key) ? html("abbr", { title: "less is better" }, " \u2193") : null), names.map((name) => cell(key, columns[name])))))));
}

function drawDecisions() {
  const section = document.getElementById("decisions");
  const withCurves = DATA.evaluations.filter(({ result }) => result.curves && Object.keys(result.curves).length);
  if (!withCurves.length) {
    section.append(note("No curves over thresholds yet; ", html("code", {}, "dst-dist evaluate RUN"), " makes them."));
    return;
  }
  withCurves.forEach(({ split, kind, result }, index) => {
    const charts = Object.entries(DATA.heads).filter(([head]) => result.curves[head]).flatMap(([head, name]) => decisionCharts(name, result.curves[head], result[`${head}/threshold`]));
    const title = html("h3", {}, `${split}, ${DATA.kinds[kind]}`), box = html("div", { class: "charts" }, charts);
    section.append(...(index ? [html("details", { class: "fold" }, html("summary", {}, title), box)] : [title, box]));
  });
}

function decisionCharts(name, curve, threshold) {
  const points = (column) => curve.threshold.map((at, index) => [at, curve[column][index]]);
  const distance = (index) => Math.abs(curve.threshold[index] - threshold);
  const nearest = curve.threshold.reduce((best, _, index) => (distance(index) < distance(best) ? index : best), 0);
  const text = `chosen: ${number(threshold)}`;
  const chosen = threshold === undefined ? [] : [{ x: threshold, text }];
  const ring = threshold === undefined || curve.precision[nearest] === null ? [] : [{ x: curve.recall[nearest], y: curve.precision[nearest], text }];
  const scores = ["precision", "recall", "f1"].map((column, index) => ({ name: column, style: `s${index + 1}`, points: points(column) }));
  return [
    lineChart(`${name}: precision and recall`, [{ name: "precision", style: "s1", points: curve.recall.map((at, index) => [at, curve.precision[index]]).filter(([recall, precision]) => recall || precision) }], { x: "recall", y: "precision", xRange: [0, 1], yRange: [0, 1], marks: ring }),
    lineChart(`${name}: over thresholds`, scores, { x: "threshold", xRange: [0, 1], yRange: [0, 1], marks: chosen }),
    lineChart(`${name}: false alarms a minute`, [{ name: "false alarms a minute", style: "s4", points: points("false_per_minute") }], { x: "threshold", xRange: [0, 1], marks: chosen }),
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

/** Return whether a line of validation is a score of its own: a metric, but no loss term and no count. */
function isScore(key, series) {
  return series[key].val && key in DATA.metrics && !DATA.terms.includes(key) && !DATA.metrics[key].is_given;
}

/** Return the title of a score's chart; both heads' scores of one name share a chart. */
function scoreName(key) {
  const [head, ...name] = key.split("/");
  return head in DATA.heads ? name.join("/").replaceAll("_", " ") : key;
}

function scoreChart(name, keys, series) {
  const lines = keys.map((key, index) => ({ name: DATA.heads[key.split("/")[0]] || key, style: `s${index + 1}`, points: series[key].val, dots: series[key].val.length <= 60 }));
  return lineChart(name, lines, { x: "step" });
}

function stepChart(key, bySplit) {
  const lines = ["train", "val"].filter((split) => bySplit[split]).map((split) => ({ name: split, style: `split-${split}`, points: bySplit[split], dots: split !== "train" && bySplit[split].length <= 60 }));
  const [low, high] = extent(lines.flatMap((line) => line.points.map((point) => point[1])));
  return lineChart(key, lines, { x: "step", log: lessIsBetter(key) && low > 0 && high / low > 20 });
}
