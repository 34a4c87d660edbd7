"use strict";

// Elements are made here alone, and text enters them as text: nothing in the data can become markup.

const SVG = "http://www.w3.org/2000/svg";
const DATA = JSON.parse(document.getElementById("data").textContent);

/** An HTML element. Attributes whose value is null or false are left out; a list of children may hold strings and nulls. */
function html(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(3).filter((child) => child !== null && child !== undefined));
  return element;
}

/** One of the small shapes of page.html. */
function shape(kind) {
  return svg("svg", { class: `shape ${kind}`, viewBox: "0 0 16 16", "aria-hidden": "true" }, svg("use", { href: `#shape-${kind}` }));
}

/** A number as people read it: three decimals for shares, fewer for large numbers. */
function number(value) {
  if (value === null || value === undefined) return "";
  if (Number.isInteger(value)) return value.toLocaleString("en");
  const size = Math.abs(value);
  if (size >= 1000) return Math.round(value).toLocaleString("en");
  if (size >= 10) return value.toFixed(1);
  if (size >= 0.001) return value.toFixed(3);
  return value.toPrecision(2);
}

/** `59.9 s`, then `1:00.0`. */
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

/** Whether less of a metric is better. */
function lessIsBetter(key) {
  return Boolean((DATA.metrics[key] || {}).less_is_better);
}
