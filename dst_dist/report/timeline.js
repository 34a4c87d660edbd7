// One clip over time. All positions are shares of the track's width, so it fits a screen, a phone and paper alike.

// Kind of error: [name, meaning]. A mark with several shows the shape of the last one here.
const ERRORS = {
  missed: ["missed", "should have been written and was not"],
  false: ["false", "was written and should not have been"],
  wrong: ["wrong transition", "an update at the right time with another change; metrics count it as one missed and one extra"],
  wrong_words: ["wrong words", "a reply at the right time that says something else; metrics count it as not correct, or as one missing and one redundant"],
  unreadable: ["unreadable", "an update that is no valid JSON of known steps and transitions"],
  illegal: ["illegal", "a transition that the dialog state did not allow; the state stayed as it was"],
};
const GRAVEST_FIRST = Object.keys(ERRORS).reverse();
const LANES = {
  user: "user", gold_update: "gold update", predicted_update: "predicted update", gold_reply: "gold reply", predicted_reply: "predicted reply",
};
const MARK_ROWS = { "User": ["user"], "Updates": ["gold_update", "predicted_update"], "Replies": ["gold_reply", "predicted_reply"] };
const CURVES = { Updates: ["dst_update", "Probability of an update"], Replies: ["speaking", "Probability of a reply"] };
const THUMBNAIL_HEIGHT = 48;
const JPEG = "data:image/jpeg;base64,";

/** Return the inside of an opened clip. */
function clipBody(clip) {
  const detail = html("div", { class: "detail" });
  const playhead = html("div", { class: "playhead", hidden: true });
  const view = { clip, detail, playhead, rows: [], pinned: null };
  const track = html("div", { class: "track", style: `min-width:${trackWidth(clip)}px` },
    axisLane(clip), frameLane(clip),
    Object.entries(MARK_ROWS).map(([name, lanes]) => [markLane(view, name, lanes), CURVES[name] ? curveLane(clip, ...CURVES[name]) : null]),
    clip.steps.map((step) => stepLane(clip, step)),
    playhead);
  if (view.rows.length) makeTabStop(view, view.rows[0][0]);
  showHint(view);
  return html("div", { class: "clip-body" },
    html("p", { class: "quiet" }, facts(clip)), html("div", { class: "timeline", role: "group", "aria-label": `Timeline of ${clip.id}` }, track), detail, eventTable(clip));
}

/** Return the least width of a clip's track in CSS pixels; a long clip scrolls within itself. */
function trackWidth(clip) {
  const frames = clip.end - clip.start;
  return Math.round(frames * Math.min(20, Math.max(2.5, 3600 / frames)));
}

/** Return the position of a frame's middle, in percent of the track. */
function position(clip, frame) {
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

/** Return as many thumbnails as fit side by side; the others are shown with the marks nearest to them. */
function frameLane(clip) {
  if (!clip.thumbnails.length) return lane("No pictures: the frames file could not be opened, or the page would be too large", "");
  const width = Math.max(trackWidth(clip), Math.min(window.innerWidth - 60, 1040));
  const stride = Math.ceil((clip.thumbnails.length * THUMBNAIL_HEIGHT * clip.aspect) / width);
  const shown = clip.thumbnails.filter((_, index) => index % stride === 0);
  const edge = (frame) => ((frame - clip.start) / (clip.end - clip.start)) * 100;
  return html("div", { class: "lane frames", "aria-hidden": "true" }, shown.map(([frame, picture], index) => {
    const end = index + 1 < shown.length ? shown[index + 1][0] : clip.end;
    return html("img", { alt: "", src: JPEG + picture, title: time(clip, frame), style: `left:${edge(frame)}%;width:${edge(end) - edge(frame)}%` });
  }));
}

function stepLane(clip, step) {
  const row = (course, y, who) => course.map(([from, status], index) => {
    return bar(clip, index ? from : null, course[index + 1]?.[0] ?? null, status, y, `${who}: ${status} from ${time(clip, from)}`);
  });
  const differing = differences(step.gold, step.predicted).map(([from, to]) => rect(clip, from, to, 12, 3, "differs"));
  return lane(`${step.id} ${step.name}`, "step",
    svg("svg", { width: "100%", height: 27, role: "img", "aria-label": `${step.id}. Gold: ${courseText(clip, step.gold)}. Predicted: ${courseText(clip, step.predicted)}.` },
      row(step.gold, 0, "gold"), row(step.predicted, 16, "predicted"), differing));
}

function courseText(clip, course) {
  return course.map(([from, status], index) => (index ? `${status} from ${time(clip, from)}` : status)).join(", ");
}

function bar(clip, from, to, status, y, title) {
  if (status === "not_started") return rect(clip, from, to, y + 5, 1, status, title);
  return [rect(clip, from, to, y, 11, status, title), ["paused", "cancelled", "failed"].includes(status) ? rect(clip, from, to, y, 11, `${status} pattern`) : null];
}

/** Return a bar from frame to frame; null is the clip's beginning or end. */
function rect(clip, from, to, y, height, className, title) {
  const left = from === null ? 0 : position(clip, from), right = to === null ? 100 : position(clip, to);
  return svg("rect", { class: className, x: `${+left.toFixed(4)}%`, width: `${+Math.max(0, right - left).toFixed(4)}%`, y, height }, title ? svg("title", {}, title) : null);
}

/** Return the stretches [from, to] where two courses have different statuses; null is the clip's beginning or end. */
function differences(one, other) {
  const statusAt = (course, frame) => course.filter(([from], index) => !index || from <= frame).pop()[1];
  const cuts = [...new Set([...one, ...other].map(([from]) => from))].sort((a, b) => a - b);
  return cuts.map((from, index) => [index ? from : null, cuts[index + 1] ?? null, from])
    .filter(([, , from]) => statusAt(one, from) !== statusAt(other, from));
}

function curveLane(clip, head, name) {
  if (!clip.curves[head]?.length) return null;
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
  if (!clip.marks.some((mark) => lanes.includes(mark.lane))) return null;
  const rows = lanes.map((laneOfRow) => {
    const marks = clip.marks.filter((mark) => mark.lane === laneOfRow).sort((a, b) => a.frame - b.frame);
    const numBefore = (mark, index) => index - marks.findIndex((one) => one.frame === mark.frame);
    const buttons = marks.map((mark, index) => markButton(view, mark, numBefore(mark, index)));
    if (buttons.length) view.rows.push(buttons);
    return html("div", { class: "row", role: "group", "aria-label": LANES[laneOfRow] }, buttons);
  });
  return lane(lanes.length > 1 ? `${name}: gold above, predicted below` : name, "marks", rows);
}

/** Return the kind whose shape a mark has: its gravest error, `right` or `user`. */
function shapeOf(mark) {
  return GRAVEST_FIRST.find((kind) => mark.kinds.includes(kind)) || (mark.lane === "user" ? "user" : "right");
}

/** numBefore: how many marks of the row have the same frame and come before; the button moves aside for them. */
function markButton(view, mark, numBefore) {
  const button = html("button", {
    type: "button", class: "mark", tabindex: "-1", "aria-pressed": "false", "data-lane": mark.lane, "data-look": shapeOf(mark),
    style: `left:calc(${position(view.clip, mark.frame)}% + ${numBefore * 7}px)`, "aria-label": sentence(view.clip, mark),
    onpointerenter: () => view.pinned || showMark(view, mark),
    onpointerleave: () => view.pinned || showHint(view),
    onfocus: () => { makeTabStop(view, button); if (view.pinned !== button) { unpin(view); showMark(view, mark); } },
    onclick: () => (view.pinned === button ? unpin(view) : pinMark(view, button, mark)),
    onkeydown: (event) => moveFocus(view, button, event),
  }, shape(shapeOf(mark)));
  button.frame = mark.frame;
  return button;
}

function verdict(mark) {
  if (mark.lane === "user") return "";
  return mark.kinds.map((kind) => ERRORS[kind][0]).join(", ") || "right";
}

/** Return a mark as one sentence, for screen readers. */
function sentence(clip, mark) {
  return [time(clip, mark.frame), LANES[mark.lane], verdict(mark), mark.text].filter(Boolean).join(", ");
}

/** Return the thumbnail nearest to a frame, if it is no more than a second away. */
function nearestThumbnail(clip, frame) {
  const [nearest] = [...clip.thumbnails].sort(([a], [b]) => Math.abs(a - frame) - Math.abs(b - frame));
  return nearest && Math.abs(nearest[0] - frame) <= Math.max(1, clip.fps) ? nearest : null;
}

/** Show a mark's text below the timeline. */
function showMark(view, mark) {
  const { clip, detail, playhead } = view;
  const picture = nearestThumbnail(clip, mark.frame);
  const shares = ["probability", "similarity"].filter((name) => name in mark).map((name) => `${name} ${number(mark[name])}`);
  detail.replaceChildren(
    ...(picture ? [html("img", { alt: `Frame ${picture[0]}`, src: JPEG + picture[1] })] : []),
    html("div", {},
      html("p", { class: "quiet" }, [`${time(clip, mark.frame)}, frame ${mark.frame}`, LANES[mark.lane], ...shares].join("; ")),
      html("p", { class: "said" }, mark.text),
      html("p", {}, mark.parts ? mark.parts.map((part) => html("span", { class: "part" }, shape(shapeOf(part)), ` ${part.text}: ${verdict(part)}`)) : chips(mark))));
  detail.classList.add("showing");
  playhead.hidden = false;
  playhead.style.left = `${position(clip, mark.frame)}%`;
}

function chips(mark) {
  if (mark.lane === "user") return [];
  if (!mark.kinds.length) return html("span", { class: "part" }, shape("right"), " right");
  return mark.kinds.map((kind) => html("span", { class: "part" }, shape(kind), ` ${ERRORS[kind].join(": ")}`));
}

function showHint(view) {
  view.detail.replaceChildren(html("p", { class: "quiet" }, "Point at a mark, or go to one with Tab and the arrow keys, to see its text here. Enter or a click keeps it, Escape releases it."));
  view.detail.classList.remove("showing");
  view.playhead.hidden = true;
}

function pinMark(view, button, mark) {
  unpin(view);
  view.pinned = button;
  button.setAttribute("aria-pressed", "true");
  showMark(view, mark);
}

function unpin(view) {
  view.pinned?.setAttribute("aria-pressed", "false");
  view.pinned = null;
}

/** Put one of a clip's marks into the Tab order; the arrow keys reach the others. */
function makeTabStop(view, button) {
  view.rows.flat().forEach((one) => { one.tabIndex = one === button ? 0 : -1; });
}

function moveFocus(view, button, event) {
  if (event.key === "Escape") {
    unpin(view);
    showHint(view);
    return;
  }
  const across = view.rows.findIndex((row) => row.includes(button)), row = view.rows[across], along = row.indexOf(button);
  const nearest = (other) => other?.reduce((best, one) => (Math.abs(one.frame - button.frame) < Math.abs(best.frame - button.frame) ? one : best));
  const goals = {
    ArrowLeft: row[along - 1], ArrowRight: row[along + 1], Home: row[0], End: row.at(-1),
    ArrowUp: nearest(view.rows[across - 1]), ArrowDown: nearest(view.rows[across + 1]),
  };
  if (!(event.key in goals)) return;
  event.preventDefault();
  goals[event.key]?.focus();
}

/** Return all events of a clip as a table of text, for print and screen readers. */
function eventTable(clip) {
  const order = Object.keys(LANES);
  const marks = [...clip.marks].sort((a, b) => a.frame - b.frame || order.indexOf(a.lane) - order.indexOf(b.lane));
  if (!marks.length) return note("There are no events in this clip.");
  return html("details", { class: "fold events" }, html("summary", {}, `All ${plural(marks.length, "event")} as text`),
    html("table", {}, html("thead", {}, html("tr", {}, ["time", "what", "text", "verdict"].map((name) => html("th", { scope: "col" }, name)))),
      html("tbody", {}, marks.map((mark) => html("tr", {}, html("td", {}, time(clip, mark.frame)), html("td", {}, LANES[mark.lane]), html("td", { class: "said" }, mark.text),
        html("td", {}, mark.lane === "user" ? null : shape(shapeOf(mark)), ` ${verdict(mark)}`))))));
}
