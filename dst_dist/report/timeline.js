"use strict";

// One clip over time. All places are shares of the track's width, so it fits a screen, a phone and paper alike.

const ERRORS = {
  missed: "missed", false: "false", wrong: "wrong transition", wrong_words: "wrong words", unreadable: "unreadable", illegal: "illegal",
};
const ERROR_HELP = {
  missed: "should have been written and was not",
  false: "was written and should not have been",
  wrong: "an update at the right time that says another change; metrics count it as one missed and one extra",
  wrong_words: "a reply at the right time that says something else; metrics count it as not correct, or as one missing and one redundant",
  unreadable: "an update that is no valid JSON of known steps and transitions",
  illegal: "a transition that the dialog state did not allow; it left the state alone",
};
// Of several, the one that a mark's shape shows.
const GRAVITY = ["unreadable", "illegal", "wrong", "wrong_words", "false", "missed"];
const LANES = {
  user: "user", gold_update: "gold update", predicted_update: "predicted update", gold_reply: "gold reply", predicted_reply: "predicted reply",
};
const MARK_ROWS = { "User": ["user"], "Updates": ["gold_update", "predicted_update"], "Replies": ["gold_reply", "predicted_reply"] };
const CURVES = { Updates: ["dst_update", "Probability of an update"], Replies: ["speaking", "Probability of a reply"] };
const THUMBNAIL_HEIGHT = 48;

/** The inside of an opened clip. */
function clipBody(clip) {
  const detail = html("div", { class: "detail" });
  const playhead = html("div", { class: "playhead", hidden: true });
  const view = { clip, detail, playhead, rows: [], pinned: null };
  const track = html("div", { class: "track", style: `min-width:${trackWidth(clip)}px` },
    axisLane(clip), frameLane(clip),
    Object.entries(MARK_ROWS).map(([name, lanes]) => [markLane(view, name, lanes), CURVES[name] ? curveLane(clip, ...CURVES[name]) : null]),
    clip.steps.map((step) => stepLane(clip, step)),
    playhead);
  prepareMarks(view);
  rest(view);
  return html("div", { class: "clip-body" },
    html("p", { class: "quiet" }, facts(clip)), html("div", { class: "timeline", role: "group", "aria-label": `Timeline of ${clip.id}` }, track), detail, eventTable(clip));
}

/** At least so wide, in CSS pixels; a long clip scrolls within itself. */
function trackWidth(clip) {
  const frames = clip.end - clip.start;
  return Math.round(frames * Math.min(20, Math.max(2.5, 3600 / frames)));
}

function place(clip, frame) {
  return ((frame - clip.start + 0.5) / (clip.end - clip.start)) * 100;
}

function time(clip, frame) {
  return seconds(frame / clip.fps);
}

function facts(clip) {
  const counts = Object.entries(clip.counts).map(([kind, count]) => `${count} ${kind}`);
  const unknown = clip.unknown_steps.length ? [`steps that the clip does not declare: ${clip.unknown_steps.join(", ")}`] : [];
  const thinned = clip.thinned ? ["probabilities thinned, extremes kept"] : [];
  return [`${clip.dataset}${clip.domain ? `, ${clip.domain}` : ""}, ${clip.split}`, `video ${clip.video}, frames ${clip.start} to ${clip.end - 1} at ${number(clip.fps)} a second`, ...counts, ...unknown, ...thinned].join("; ");
}

function lane(name, className, ...content) {
  return html("div", { class: `lane ${className}` }, html("div", { class: "lane-name" }, html("span", {}, name)), content);
}

function axisLane(clip) {
  const start = clip.start / clip.fps, length = (clip.end - clip.start) / clip.fps;
  const raw = length / Math.max(4, trackWidth(clip) / 160);
  const step = [0.1, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300].find((size) => size >= raw) || 600;
  const marks = [];
  for (let index = Math.ceil(start / step); index * step < start + length; index++) {
    marks.push(html("span", { class: "time", style: `left:${((index * step - start) / length) * 100}%` }, seconds(index * step).replace(/\.0\b/, "")));
  }
  return html("div", { class: "lane axis", "aria-hidden": "true" }, marks);
}

/** As many of the pictures as fit side by side; the others are shown with the marks nearest to them. */
function frameLane(clip) {
  if (!clip.thumbnails.length) return lane("No pictures: the frames file was not there, or there was no room", "");
  const width = Math.max(trackWidth(clip), Math.min(window.innerWidth - 60, 1040));
  const stride = Math.ceil((clip.thumbnails.length * THUMBNAIL_HEIGHT * clip.aspect) / width);
  const shown = clip.thumbnails.filter((_, index) => index % stride === 0);
  const edge = (frame) => ((frame - clip.start) / (clip.end - clip.start)) * 100;
  return html("div", { class: "lane frames", "aria-hidden": "true" }, shown.map(([frame, picture], index) => {
    const end = index + 1 < shown.length ? shown[index + 1][0] : clip.end;
    return html("img", { alt: "", src: source(picture), title: time(clip, frame), style: `left:${edge(frame)}%;width:${edge(end) - edge(frame)}%` });
  }));
}

function source(picture) {
  return `data:image/jpeg;base64,${picture}`;
}

function stepLane(clip, step) {
  const row = (course, y, who) => course.map(([from, status], index) => {
    const to = index + 1 < course.length ? course[index + 1][0] : null;
    return bar(clip, index ? from : null, to, status, y, `${who}: ${status} from ${time(clip, from)}`);
  });
  const apart = differences(step.gold, step.predicted).map(([from, to]) => rect(clip, from, to, 12, 3, "differs"));
  return lane(`${step.id} ${step.name}`, "step",
    svg("svg", { width: "100%", height: 27, role: "img", "aria-label": `${step.id}. Gold: ${courseText(clip, step.gold)}. Predicted: ${courseText(clip, step.predicted)}.` },
      row(step.gold, 0, "gold"), row(step.predicted, 16, "predicted"), apart));
}

function courseText(clip, course) {
  return course.map(([from, status], index) => (index ? `${status} from ${time(clip, from)}` : status)).join(", ");
}

function bar(clip, from, to, status, y, title) {
  if (status === "not_started") return rect(clip, from, to, y + 5, 1, status, title);
  return [rect(clip, from, to, y, 11, status, title), ["paused", "cancelled", "failed"].includes(status) ? rect(clip, from, to, y, 11, `${status} pattern`) : null];
}

/** From frame to frame; null is the clip's beginning or end. */
function rect(clip, from, to, y, height, className, title) {
  const left = from === null ? 0 : place(clip, from), right = to === null ? 100 : place(clip, to);
  return svg("rect", { class: className, x: `${+left.toFixed(4)}%`, width: `${+Math.max(0, right - left).toFixed(4)}%`, y, height }, title ? svg("title", {}, title) : null);
}

/** Stretches of frames where two courses have different statuses; null is the clip's beginning or end. */
function differences(one, other) {
  const at = (course, frame) => course.filter(([from], index) => !index || from <= frame).pop()[1];
  const cuts = [...new Set([...one, ...other].map(([from]) => from))].sort((a, b) => a - b);
  return cuts.map((from, index) => [index ? from : null, index + 1 < cuts.length ? cuts[index + 1] : null, from])
    .filter(([, , from]) => at(one, from) !== at(other, from));
}

function curveLane(clip, head, name) {
  if (!(clip.curves[head] || []).length) return null;
  const threshold = clip.thresholds[head], frames = clip.end - clip.start;
  const steps = clip.curves[head].map(([frame, share], index) => `${index ? "L" : "M"}${frame - clip.start + 0.5} ${1 - share}`).join("");
  const level = `${(1 - threshold) * 100}%`;
  return lane(`${name}; dashed: threshold ${number(threshold)}`, `curve ${head}`,
    svg("svg", { width: "100%", height: 44, "aria-hidden": "true" },
      svg("svg", { viewBox: `0 0 ${frames} 1`, preserveAspectRatio: "none", width: "100%", height: "100%", overflow: "visible" }, svg("path", { class: `line ${head}`, d: steps, "vector-effect": "non-scaling-stroke" })),
      svg("line", { class: "threshold", x1: 0, x2: "100%", y1: level, y2: level })));
}

function markLane(view, name, lanes) {
  const { clip } = view;
  const rows = lanes.map((of) => {
    const marks = clip.marks.filter((mark) => mark.lane === of).sort((a, b) => a.frame - b.frame);
    let before = null, beside = 0;
    const buttons = marks.map((mark) => {
      beside = mark.frame === before ? beside + 1 : 0;
      before = mark.frame;
      return markButton(view, mark, beside);
    });
    if (buttons.length) view.rows.push(buttons);
    return html("div", { class: "row", role: "group", "aria-label": LANES[of] }, buttons);
  });
  const both = lanes.length > 1 ? `${name}: gold above, predicted below` : name;
  return clip.marks.some((mark) => lanes.includes(mark.lane)) ? lane(both, "marks", rows) : null;
}

function look(mark) {
  return GRAVITY.find((kind) => mark.kinds.includes(kind)) || (mark.lane === "user" ? "user" : "right");
}

function markButton(view, mark, beside) {
  const button = html("button", {
    type: "button", class: "mark", tabindex: "-1", "aria-pressed": "false", "data-lane": mark.lane, "data-look": look(mark),
    style: `left:calc(${place(view.clip, mark.frame)}% + ${beside * 7}px)`, "aria-label": words(view.clip, mark),
    onpointerenter: () => view.pinned || tell(view, mark),
    onpointerleave: () => view.pinned || rest(view),
    onfocus: () => { choose(view, button); if (view.pinned !== button) { release(view); tell(view, mark); } },
    onclick: () => (view.pinned === button ? release(view) : hold(view, button, mark)),
  }, shape(look(mark)));
  button.frame = mark.frame;
  return button;
}

function verdict(mark) {
  if (mark.lane === "user") return "";
  return mark.kinds.length ? mark.kinds.map((kind) => ERRORS[kind]).join(", ") : "right";
}

/** A mark in one sentence, for those who hear the page. */
function words(clip, mark) {
  return [time(clip, mark.frame), LANES[mark.lane], verdict(mark), mark.text].filter(Boolean).join(", ");
}

/** The picture nearest to a frame, if it is no more than a second away. */
function pictureAt(clip, frame) {
  const away = ([at]) => Math.abs(at - frame);
  const near = clip.thumbnails.filter((one) => away(one) <= Math.max(1, clip.fps));
  return near.reduce((best, one) => (best && away(best) <= away(one) ? best : one), null);
}

/** Show what a mark says below the timeline. */
function tell(view, mark) {
  const { clip, detail, playhead } = view;
  const picture = pictureAt(clip, mark.frame);
  const shares = ["probability", "similarity"].filter((name) => mark[name] !== undefined).map((name) => `${name} ${number(mark[name])}`);
  detail.replaceChildren(
    ...(picture ? [html("img", { alt: `Frame ${picture[0]}`, src: source(picture[1]) })] : []),
    html("div", {},
      html("p", { class: "quiet" }, [`${time(clip, mark.frame)}, frame ${mark.frame}`, LANES[mark.lane], ...shares].join("; ")),
      html("p", { class: "said" }, mark.text),
      html("p", {}, mark.parts ? mark.parts.map((part) => html("span", { class: "part" }, shape(look({ kinds: part.kinds })), ` ${part.text}: ${verdict(part)}`)) : chips(mark))));
  detail.classList.add("telling");
  playhead.hidden = false;
  playhead.style.left = `${place(clip, mark.frame)}%`;
}

function chips(mark) {
  if (mark.lane === "user") return [];
  return (mark.kinds.length ? mark.kinds : ["right"]).map((kind) => html("span", { class: "part" }, shape(kind), ` ${ERRORS[kind] ? `${ERRORS[kind]}: ${ERROR_HELP[kind]}` : kind}`));
}

function rest(view) {
  view.detail.replaceChildren(html("p", { class: "quiet" }, "Point at a mark, or go to one with Tab and the arrow keys, and its text stands here; Enter or a click keeps it, Escape lets go."));
  view.detail.classList.remove("telling");
  view.playhead.hidden = true;
}

function hold(view, button, mark) {
  release(view);
  view.pinned = button;
  button.setAttribute("aria-pressed", "true");
  tell(view, mark);
}

function release(view) {
  if (view.pinned) view.pinned.setAttribute("aria-pressed", "false");
  view.pinned = null;
}

/** Of a clip's marks one is in the Tab order; the arrow keys move it. */
function choose(view, button) {
  view.rows.flat().forEach((one) => { one.tabIndex = one === button ? 0 : -1; });
}

function prepareMarks(view) {
  if (view.rows.length) view.rows[0][0].tabIndex = 0;
  for (const row of view.rows) for (const button of row) button.addEventListener("keydown", (event) => move(view, button, event));
}

function move(view, button, event) {
  if (event.key === "Escape") {
    release(view);
    rest(view);
    return;
  }
  const across = view.rows.findIndex((row) => row.includes(button)), along = view.rows[across].indexOf(button);
  const nearest = (row) => row && row.reduce((best, one) => (Math.abs(one.frame - button.frame) < Math.abs(best.frame - button.frame) ? one : best));
  const goals = {
    ArrowLeft: () => view.rows[across][along - 1], ArrowRight: () => view.rows[across][along + 1],
    ArrowUp: () => nearest(view.rows[across - 1]), ArrowDown: () => nearest(view.rows[across + 1]),
    Home: () => view.rows[across][0], End: () => view.rows[across][view.rows[across].length - 1],
  };
  if (!goals[event.key]) return;
  event.preventDefault();
  const goal = goals[event.key]();
  if (goal) goal.focus();
}

/** Everything that was said and written, as text: for print, and for those who read rather than look. */
function eventTable(clip) {
  const order = Object.keys(LANES);
  const marks = [...clip.marks].sort((a, b) => a.frame - b.frame || order.indexOf(a.lane) - order.indexOf(b.lane));
  if (!marks.length) return note("Nothing was said or written in this clip.");
  return html("details", { class: "fold events" }, html("summary", {}, `All ${plural(marks.length, "event")} as text`),
    html("table", {}, html("thead", {}, html("tr", {}, ["time", "what", "text", "verdict"].map((name) => html("th", { scope: "col" }, name)))),
      html("tbody", {}, marks.map((mark) => html("tr", {}, html("td", {}, time(clip, mark.frame)), html("td", {}, LANES[mark.lane]), html("td", { class: "said" }, mark.text),
        html("td", {}, mark.lane === "user" ? null : shape(look(mark)), ` ${verdict(mark)}`))))));
}
