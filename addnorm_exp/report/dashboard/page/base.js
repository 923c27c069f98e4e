"use strict";
// What every part of the page uses: the data, the state, elements made of text (never of markup), colours and plots.

const STUDIES = JSON.parse(document.getElementById("data").textContent);
const NOTHING = "–";
const state = {
  study: STUDIES[0],
  text: "", scheme: "", status: "", phase: "",
  sort: { key: null, up: true },
  ticked: new Set(), // places of runs in the study
};

const $ = (id) => document.getElementById(id);

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

function options(select, pairs, chosen) {
  select.replaceChildren(...pairs.map(([value, text]) => element("option", { value }, text)));
  if (pairs.some(([value]) => String(value) === String(chosen))) select.value = chosen;
}

// Plotly reads a little markup in its texts; a name is to be read as it stands.
const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

const arrays = new WeakMap(); // study -> decoded arrays of its pool
function pooled(place, Kind = Float32Array) {
  if (!arrays.has(state.study)) arrays.set(state.study, []);
  const decoded = arrays.get(state.study);
  if (!decoded[place]) decoded[place] = new Kind(bytes(state.study.pool[place]).buffer);
  return decoded[place];
}

function bytes(text) {
  const raw = atob(text), found = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) found[i] = raw.charCodeAt(i);
  return found;
}

// A config key's text for a run; null where it has no such key.
function configured(columns, key, run) {
  const column = columns[key];
  if (column === undefined) return null;
  return Array.isArray(column) ? column[0][column[1][run]] : column;
}

// Colours and type

const night = matchMedia("(prefers-color-scheme: dark)");
let theme = "system";
const dark = () => theme === "dark" || (theme === "system" && night.matches);
const colour = (scheme) => state.study.schemes[scheme][dark() ? "dark" : "light"];

// The line and marker of a row, as small as a letter: a copy of the page's template.
function swatch(run) {
  const own = look(run), made = $("swatch").content.firstElementChild.cloneNode(true);
  const [line, marker] = made.children;
  line.setAttribute("stroke", own.colour);
  if (own.dash !== "solid") line.setAttribute("stroke-dasharray", own.dash.split(",").map((part) => 0.6 * parseFloat(part)).join(" "));
  marker.setAttribute("stroke", own.colour);
  marker.setAttribute("fill", own.symbol.endsWith("-open") ? inked("card") : own.colour);
  return made;
}

// The look of a run: its scheme's colour and symbol; where rows differ in other axes too these give the dash, as in the pictures.
function look(run) {
  const own = { ...state.study.schemes[run.scheme], ...(state.study.variants[run.variant] || {}) };
  return { colour: own[dark() ? "dark" : "light"], dash: own.dash, symbol: own.symbol + (own.open ? "-open" : "") };
}
const inked = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

function clear(hex, alpha) {
  const part = (i) => parseInt(hex.slice(i, i + 2), 16);
  return `rgba(${part(1)},${part(3)},${part(5)},${alpha})`;
}

function axis(title, more = {}) {
  return {
    title: { text: title, standoff: 10, font: { size: 12.5 } }, gridcolor: inked("line"), linecolor: inked("muted"), tickcolor: inked("muted"),
    zeroline: false, showline: true, ticks: "outside", ticklen: 4, automargin: true, exponentformat: "power", ...more,
  };
}

// No button of plotly's may send a study to somebody's server: newer versions have one unless told otherwise.
const PLOTS = {
  responsive: true, displaylogo: false, showSendToCloud: false, plotlyServerURL: "",
  modeBarButtons: [["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d", "toImage"]],
};

function draw(id, traces, layout) {
  const place = $(id);
  if (place.querySelector(":scope > p")) place.replaceChildren();
  place.style.minHeight = `${layout.height}px`;
  const whole = {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 12.5, color: inked("ink") },
    margin: { l: 62, r: 16, t: 14, b: 48 }, colorway: [inked("ink")],
    hoverlabel: { bgcolor: inked("card"), bordercolor: inked("muted"), font: { color: inked("ink"), size: 12 }, align: "left", namelength: -1 },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: inked("missing"), activecolor: inked("ink") },
    ...layout,
  };
  Plotly.react(place, traces, whole, PLOTS);
}

function nothing(id, line) {
  Plotly.purge($(id));
  $(id).replaceChildren(element("p", { class: "muted" }, line));
  $(id).style.minHeight = "";
}
