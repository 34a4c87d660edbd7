"use strict";

// All elements are made here, with text as text nodes: nothing in the data can become markup.
// page.py joins the scripts into one.

const SVG = "http://www.w3.org/2000/svg";
const DATA = JSON.parse(document.getElementById("data").textContent);

/** Return an HTML element. Attributes that are null or false are left out, `on...` are listeners; children may be nested lists with nulls. */
function html(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** Return an SVG element, in the same way. */
function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(3).filter((child) => child !== null));
  return element;
}

/** Return a small shape of page.html, in the colour of its kind. */
function shape(kind) {
  return svg("svg", { class: `shape ${kind}`, style: `color:var(--${kind})`, viewBox: "0 0 16 16", "aria-hidden": "true" }, svg("use", { href: `#shape-${kind}` }));
}

/** Return a number as text: three decimals for shares, fewer for large numbers. */
function number(value) {
  if (value === null || value === undefined) return "";
  if (Number.isInteger(value)) return value.toLocaleString("en");
  const size = Math.abs(value);
  if (size >= 1000) return Math.round(value).toLocaleString("en");
  if (size >= 10) return value.toFixed(1);
  if (size >= 0.001) return value.toFixed(3);
  return value.toPrecision(2);
}

/** Return a time as `59.9 s`, from a minute on as `1:00.0`. */
function seconds(value) {
  const tenths = Math.round(value * 10), rest = ((tenths % 600) / 10).toFixed(1);
  return tenths < 600 ? `${rest} s` : `${Math.floor(tenths / 600)}:${rest.padStart(4, "0")}`;
}

function plural(count, one, many = `${one}s`) {
  return `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
}

function note(...text) {
  return html("p", { class: "note" }, ...text);
}

/** Return whether less of a metric is better; unknown keys of metrics.jsonl are no metrics. */
function lessIsBetter(key) {
  return Boolean(DATA.metrics[key]?.less_is_better);
}
