"use strict";

// The list of clips with its filters, printing, and the start of the page.

const shown = { words: "", kinds: new Set(), order: "given" };
const entries = [];

function drawClips() {
  const section = document.getElementById("clips");
  section.append(...DATA.clip_notes.map((text) => note(text)));
  if (!DATA.clips.length) {
    section.append(note("No clips: ", html("code", {}, "dst-dist evaluate RUN --streaming"), " lets the run watch its videos and leaves here what it wrote."));
    return;
  }
  const list = html("div", { id: "clip-list" });
  entries.push(...DATA.clips.map(clipEntry));
  list.append(...entries.map((entry) => entry.element));
  section.append(controls(list), key(), list);
  filter(list);
  entries[0].element.open = true;
}

function clipEntry(clip) {
  const errors = GRAVITY.filter((kind) => clip.errors[kind]);
  const badges = errors.length
    ? errors.map((kind) => html("span", { class: "badge" }, shape(kind), html("span", {}, ` ${clip.errors[kind]}`, html("span", { class: "unseen" }, ` ${ERRORS[kind]}`))))
    : html("span", { class: "badge" }, shape("right"), " no errors");
  const element = html("details", { class: "clip", ontoggle: () => element.open && render(entry) },
    html("summary", {}, html("span", { class: "clip-title" }, html("strong", {}, clip.goal || clip.id), html("span", { class: "quiet" }, `${clip.id}, ${seconds((clip.end - clip.start) / clip.fps)}`)), html("span", { class: "badges" }, badges)));
  const entry = {
    clip, element, rendered: false,
    text: [clip.id, clip.video, clip.dataset, clip.domain, clip.split, clip.goal].join(" ").toLowerCase(),
    total: errors.reduce((sum, kind) => sum + clip.errors[kind], 0),
  };
  return entry;
}

/** A clip is drawn when it is first opened, so that a page of hundreds stays quick. */
function render(entry) {
  if (entry.rendered) return;
  entry.rendered = true;
  entry.element.append(clipBody(entry.clip));
}

function controls(list) {
  const again = () => filter(list);
  const kindButton = (kind) => {
    const clips = DATA.clips.filter((clip) => clip.errors[kind]).length;
    const button = html("button", {
      type: "button", class: "kind", "aria-pressed": "false", "data-kind": kind, title: ERROR_HELP[kind], disabled: !clips,
      onclick: () => {
        const on = shown.kinds.delete(kind) ? false : Boolean(shown.kinds.add(kind));
        button.setAttribute("aria-pressed", String(on));
        again();
      },
    }, shape(kind), ` ${ERRORS[kind]} `, html("span", { class: "quiet" }, String(clips)));
    return button;
  };
  return html("form", { class: "controls", onsubmit: (event) => event.preventDefault() },
    html("label", {}, "Video ", html("input", { type: "search", id: "search", placeholder: "part of a name, task or dataset", autocomplete: "off", oninput: (event) => { shown.words = event.target.value; again(); } })),
    html("label", {}, "Order ", html("select", { id: "order", onchange: (event) => { shown.order = event.target.value; again(); } }, html("option", { value: "given" }, "as evaluated"), html("option", { value: "errors" }, "most errors first"))),
    html("div", { class: "kinds", role: "group", "aria-label": "Clips with any of these errors" }, Object.keys(ERRORS).map(kindButton)));
}

/** What colours, patterns and shapes mean. */
function key() {
  const swatch = (status) => html("span", { class: "key" }, svg("svg", { width: 26, height: 12, "aria-hidden": "true" }, status === "differs" ? svg("rect", { class: "differs", width: 26, y: 4, height: 3 }) : bar({ start: 0, end: 1 }, null, null, status, 0)), status === "differs" ? "gold and predicted differ" : status.replace("_", " "));
  const sign = (kind) => html("span", { class: "key" }, shape(kind), ERRORS[kind] || { right: "right", user: "user" }[kind]);
  return html("div", { class: "key-box" },
    html("p", { role: "status", id: "matches" }),
    html("p", {}, html("span", { class: "quiet" }, "Marks "), ["user", "right", ...Object.keys(ERRORS)].map(sign)),
    html("p", {}, html("span", { class: "quiet" }, "Steps, gold above predicted "), [...DATA.statuses, "differs"].map(swatch)));
}

function filter(list) {
  const words = shown.words.toLowerCase().split(/\s+/).filter(Boolean);
  let matches = 0;
  for (const entry of entries) {
    const found = words.every((word) => entry.text.includes(word)) && (!shown.kinds.size || [...shown.kinds].some((kind) => entry.clip.errors[kind]));
    entry.element.hidden = !found;
    matches += found;
  }
  const ordered = shown.order === "errors" ? [...entries].sort((a, b) => b.total - a.total) : entries;
  if (ordered.some((entry, index) => list.children[index] !== entry.element)) list.append(...ordered.map((entry) => entry.element));
  const kinds = [...shown.kinds].map((kind) => ERRORS[kind]).join(" or ");
  const how = [words.length ? `matching "${shown.words.trim()}"` : "", kinds ? `with ${kinds}` : ""].filter(Boolean).join(", ");
  document.getElementById("matches").textContent = `${matches} of ${plural(entries.length, "clip")}${how ? `, ${how}` : ""}${matches ? "" : ": change the words or the kinds of error"}`;
}

/** On paper all clips that the filters leave are open, and what else is folded but spare numbers; afterwards as before. */
function preparePrint() {
  let opened = [];
  window.addEventListener("beforeprint", () => {
    entries.filter((entry) => !entry.element.hidden).forEach(render);
    opened = [...document.querySelectorAll("details:not([open], .spare)")];
    opened.forEach((element) => { element.open = true; });
  });
  window.addEventListener("afterprint", () => {
    opened.forEach((element) => { element.open = false; });
    opened = [];
  });
}

drawHeader();
drawResults();
drawDecisions();
drawTraining();
drawClips();
preparePrint();
