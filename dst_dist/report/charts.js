// Line charts in plain SVG. A pointer over a chart, or the arrow keys on it, show its values.

const CHART = { width: 340, height: 190, left: 44, right: 10, top: 8, bottom: 30 };

/**
 * Return a chart with its title, legend, and a line of text for the values at one x.
 *
 * lines: [{name, style, points: [[x, y], ...], dots}]; style is a CSS class: a colour and a dash.
 * options: {x, y: names of the axes, xRange, yRange, log, marks: [{x, y, text}]}
 */
function lineChart(title, lines, options) {
  const drawn = lines.filter((line) => line.points.length);
  const scale = scales(drawn, options);
  const readout = html("p", { class: "readout", "aria-live": "polite" });
  const cursor = svg("line", { class: "cursor", y1: CHART.top, y2: CHART.height - CHART.bottom, visibility: "hidden" });
  const picture = svg(
    "svg", {
      viewBox: `0 0 ${CHART.width} ${CHART.height}`, class: "chart", tabindex: "0", role: "img",
      "aria-label": `${title}. ${summary(drawn, options)} Arrow keys show the values.`,
    },
    axes(scale, options), drawn.map((line) => path(line, scale)), (options.marks || []).map((mark) => pin(mark, scale)), cursor,
  );
  addReading(picture, cursor, readout, drawn, scale, options);
  return html("figure", { class: "chart-box" }, html("figcaption", {}, html("strong", {}, title), options.log ? " (log scale)" : null, legend(drawn)), picture, readout);
}

function summary(lines, options) {
  return lines.flatMap((line) => {
    const last = line.points.filter(([, y]) => y !== null).at(-1);
    return last ? `${line.name}: ${number(last[1])} at ${options.x} ${number(last[0])}.` : [];
  }).join(" ");
}

function legend(lines) {
  if (lines.length < 2) return null;
  return html("span", { class: "legend" }, lines.map((line) =>
    html("span", { class: "key" }, svg("svg", { class: "swatch", viewBox: "0 0 24 8", "aria-hidden": "true" }, svg("path", { class: `line ${line.style}`, d: "M1 4H23" })), line.name)));
}

function scales(lines, options) {
  const points = lines.flatMap((line) => line.points).filter(([, y]) => y !== null);
  const [xLow, xHigh] = options.xRange || extent(points.map(([x]) => x));
  let [yLow, yHigh] = options.yRange || extent(points.map(([, y]) => y));
  if (!options.yRange && !options.log && yLow > 0 && yLow < yHigh / 2) yLow = 0;
  const transform = options.log ? Math.log10 : (value) => value;
  const x = (value) => CHART.left + ((value - xLow) / (xHigh - xLow)) * (CHART.width - CHART.left - CHART.right);
  const y = (value) => CHART.height - CHART.bottom - ((transform(value) - transform(yLow)) / (transform(yHigh) - transform(yLow))) * (CHART.height - CHART.top - CHART.bottom);
  return { x, y, xTicks: ticks(xLow, xHigh), yTicks: options.log ? logTicks(yLow, yHigh) : ticks(yLow, yHigh) };
}

/** Return [lowest, highest], widened if equal. Not Math.min(...values): a long list is too many arguments. */
function extent(values) {
  const low = values.reduce((a, b) => Math.min(a, b), Infinity), high = values.reduce((a, b) => Math.max(a, b), -Infinity);
  return low === high ? [low - Math.abs(low) * 0.1 - 0.001, high + Math.abs(high) * 0.1 + 0.001] : [low, high];
}

/** Return about five round numbers between two values. */
function ticks(low, high) {
  const raw = (high - low) / 5;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((times) => times * power).find((size) => size >= raw);
  const found = [];
  for (let index = Math.ceil(low / step); index * step <= high + step * 1e-6; index++) found.push(+(index * step).toPrecision(12));
  return found;
}

function logTicks(low, high) {
  const first = Math.floor(Math.log10(low)), last = Math.floor(Math.log10(high));
  const powers = Array.from({ length: last - first + 1 }, (_, index) => 10 ** (first + index));
  const within = powers.flatMap((power) => [1, 2, 5].map((times) => times * power)).filter((value) => value >= low && value <= high);
  const tens = within.filter((value) => powers.includes(value));
  return within.length <= 5 ? within : tens.length > 1 ? tens : within.filter((_, index) => index % 2 === 0);
}

function axes(scale, options) {
  const bottom = CHART.height - CHART.bottom, right = CHART.width - CHART.right;
  return svg("g", { class: "axes" },
    scale.yTicks.map((value) => [
      svg("line", { class: "grid", x1: CHART.left, x2: right, y1: scale.y(value), y2: scale.y(value) }),
      svg("text", { x: CHART.left - 6, y: scale.y(value) + 3.5, "text-anchor": "end" }, tickText(value)),
    ]),
    scale.xTicks.map((value) => svg("text", { x: scale.x(value), y: bottom + 14, "text-anchor": "middle" }, tickText(value))),
    svg("line", { class: "base", x1: CHART.left, x2: right, y1: bottom, y2: bottom }),
    svg("text", { class: "axis-name", x: right, y: bottom + 27, "text-anchor": "end" }, options.x),
    options.y ? svg("text", { class: "axis-name", x: CHART.left, y: bottom + 27 }, `up: ${options.y}`) : null);
}

function tickText(value) {
  const size = Math.abs(value);
  if (size >= 10000) return `${+(value / 1000).toPrecision(4)}k`;
  return size !== 0 && size < 0.001 ? value.toExponential(0) : String(+value.toPrecision(6));
}

function path(line, scale) {
  let steps = "", pen = "M";
  for (const [x, y] of line.points) {
    if (y === null) { pen = "M"; continue; }
    steps += `${pen}${scale.x(x).toFixed(1)} ${scale.y(y).toFixed(1)}`;
    pen = "L";
  }
  const dots = line.dots ? line.points.filter((point) => point[1] !== null).map(([x, y]) => svg("circle", { class: `dot ${line.style}`, cx: scale.x(x), cy: scale.y(y), r: 3 })) : [];
  return svg("g", {}, svg("path", { class: `line ${line.style}`, d: steps }), dots);
}

/** Draw a mark: a ring if it has a y, otherwise a vertical line. */
function pin(mark, scale) {
  const x = scale.x(mark.x), near = x > CHART.width * 0.6;
  const text = { class: "pin-text", x: near ? x - 8 : x + 8, "text-anchor": near ? "end" : "start" };
  if (mark.y === undefined) {
    return svg("g", { class: "pin" }, svg("line", { x1: x, x2: x, y1: CHART.top, y2: CHART.height - CHART.bottom }), svg("text", { ...text, y: CHART.height - CHART.bottom - 8 }, mark.text));
  }
  const y = scale.y(mark.y);
  return svg("g", { class: "pin" }, svg("circle", { cx: x, cy: y, r: 5 }), svg("text", { ...text, y: y < CHART.height / 2 ? y + 20 : y - 12 }, mark.text));
}

/** Show the values at the x nearest to the pointer, or chosen with the arrow keys. */
function addReading(picture, cursor, readout, lines, scale, options) {
  const stops = [...new Set(lines.flatMap((line) => line.points.map(([x]) => x)))].sort((a, b) => a - b);
  let current = -1;
  const show = (index) => {
    current = Math.max(0, Math.min(stops.length - 1, index));
    const x = stops[current];
    cursor.setAttribute("x1", scale.x(x));
    cursor.setAttribute("x2", scale.x(x));
    cursor.setAttribute("visibility", "visible");
    const points = lines.map((line) => [line.name, line.points.find((point) => point[0] === x)?.[1] ?? null]);
    readout.textContent = `${options.x} ${number(x)}: ${points.filter(([, y]) => y !== null).map(([name, y]) => `${name} ${number(y)}`).join(", ")}`;
  };
  picture.addEventListener("pointermove", (event) => {
    const box = picture.getBoundingClientRect();
    const distances = stops.map((stop) => Math.abs(scale.x(stop) - ((event.clientX - box.left) / box.width) * CHART.width));
    show(distances.indexOf(Math.min(...distances)));
  });
  const jump = Math.max(1, Math.round(stops.length / 50));
  const keys = { ArrowRight: () => current + (current < 0 ? 1 : jump), ArrowLeft: () => current - jump, Home: () => 0, End: () => stops.length - 1 };
  picture.addEventListener("keydown", (event) => {
    if (!keys[event.key]) return;
    event.preventDefault();
    show(keys[event.key]());
  });
}
