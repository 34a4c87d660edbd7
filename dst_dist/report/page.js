// The list of clips with its filters, print, and the start of the page.

const shown = { words: "", kinds: [], order: "given" };
const entries = [];

function drawClips() {
  const section = document.getElementById("clips");
  section.append(...DATA.clip_notes.map((text) => note(text)));
  if (!DATA.clips.length) {
    section.append(note("No clips: ", html("code", {}, "dst-dist evaluate RUN --streaming"), " streams the videos, so that they are shown here."));
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
  const errors = GRAVEST_FIRST.filter((kind) => clip.errors[kind]);
  const badges = errors.length
    ? errors.map((kind) => html("span", { class: "badge" }, shape(kind), html("span", {}, ` ${clip.errors[kind]}`, html("span", { class: "unseen" }, ` ${ERRORS[kind][0]}`))))
    : html("span", { class: "badge" }, shape("right"), " no errors");
  const element = html("details", { class: "clip", ontoggle: () => element.open && render(entry) },
    html("summary", {}, html("span", { class: "clip-title" }, html("strong", {}, clip.goal || clip.id), html("span", { class: "quiet" }, `${clip.id}, ${seconds((clip.end - clip.start) / clip.fps)}`)), html("span", { class: "badges" }, badges)));
  const text = [clip.id, clip.video, clip.dataset, clip.domain, clip.split, clip.goal].join(" ").toLowerCase();
  const entry = { clip, element, text, rendered: false, numErrors: errors.reduce((sum, kind) => sum + clip.errors[kind], 0) };
  return entry;
}

/** Draw a clip when it is first opened: a page of hundreds stays quick. */
function render(entry) {
  if (entry.rendered) return;
  entry.rendered = true;
  entry.element.append(clipBody(entry.clip));
}

function controls(list) {
  const update = (key, value) => { shown[key] = value; filter(list); };
  const kindButton = (kind) => {
    const numClips = DATA.clips.filter((clip) => clip.errors[kind]).length;
    const button = html("button", {
      type: "button", class: "kind", "aria-pressed": "false", "data-kind": kind, title: ERRORS[kind][1], disabled: !numClips,
      onclick: () => {
        button.setAttribute("aria-pressed", String(!shown.kinds.includes(kind)));
        update("kinds", shown.kinds.includes(kind) ? shown.kinds.filter((one) => one !== kind) : [...shown.kinds, kind]);
      },
    }, shape(kind), ` ${ERRORS[kind][0]} `, html("span", { class: "quiet" }, String(numClips)));
    return button;
  };
  return html("form", { class: "controls", onsubmit: (event) => event.preventDefault() },
    html("label", {}, "Video ", html("input", { type: "search", id: "search", placeholder: "part of a name, task or dataset", autocomplete: "off", oninput: (event) => update("words", event.target.value) })),
    html("label", {}, "Order ", html("select", { id: "order", onchange: (event) => update("order", event.target.value) }, html("option", { value: "given" }, "as evaluated"), html("option", { value: "errors" }, "most errors first"))),
    html("div", { class: "kinds", role: "group", "aria-label": "Clips with any of these errors" }, Object.keys(ERRORS).map(kindButton)));
}

/** Return the explanation of colours, patterns and shapes. */
function key() {
  const swatch = (name, ...bars) => html("span", { class: "key" }, svg("svg", { width: 26, height: 12, "aria-hidden": "true" }, bars), name);
  const statuses = DATA.statuses.map((status) => swatch(status.replace("_", " "), bar(null, null, null, status, 0)));
  const differs = swatch("gold and predicted differ", rect(null, null, null, 4, 3, "differs"));
  const sign = (kind) => html("span", { class: "key" }, shape(kind), ERRORS[kind]?.[0] || kind);
  return html("div", { class: "key-box" },
    html("p", { role: "status", id: "matches" }),
    html("p", {}, html("span", { class: "quiet" }, "Marks "), ["user", "right", ...Object.keys(ERRORS)].map(sign)),
    html("p", {}, html("span", { class: "quiet" }, "Steps, gold above predicted "), statuses, differs));
}

/** Show the clips that contain every word and have one of the chosen kinds of error, in the chosen order. */
function filter(list) {
  const words = shown.words.toLowerCase().split(/\s+/).filter(Boolean);
  for (const { element, text, clip } of entries) {
    element.hidden = !(words.every((word) => text.includes(word)) && (!shown.kinds.length || shown.kinds.some((kind) => clip.errors[kind])));
  }
  const ordered = shown.order === "errors" ? [...entries].sort((a, b) => b.numErrors - a.numErrors) : entries;
  if (ordered.some((entry, index) => list.children[index] !== entry.element)) list.append(...ordered.map((entry) => entry.element));
  const matches = entries.filter((entry) => !entry.element.hidden).length;
  const kinds = shown.kinds.map((kind) => ERRORS[kind][0]).join(" or ");
  const how = [words.length ? `, matching "${shown.words.trim()}"` : "", kinds ? `, with ${kinds}` : ""].join("");
  document.getElementById("matches").textContent = `${matches} of ${plural(entries.length, "clip")}${how}${matches ? "" : ": change the words or the kinds of error"}`;
}

/** Print what the filters leave with everything unfolded but spare numbers, and fold it again. */
function preparePrint() {
  let opened = [];
  window.addEventListener("beforeprint", () => {
    entries.filter((entry) => !entry.element.hidden).forEach(render);
    opened = [...document.querySelectorAll("details:not([open], .spare)")];
    opened.forEach((element) => { element.open = true; });
  });
  window.addEventListener("afterprint", () => opened.forEach((element) => { element.open = false; }));
}

drawHeader();
drawResults();
drawDecisions();
drawTraining();
drawClips();
preparePrint();
