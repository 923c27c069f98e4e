// Learning curves: one line a run, or one a group of seeds.

const LEGEND = 12; // groups that have a line each in the legend
const STEEP = 0.2; // of a run: its start, which may lie beyond the picture, for it would press all else into a line

function curveOf(run, [split, name]) {
  const held = state.study.curves.runs[run.place][split];
  if (!held || held[name] === undefined) return null;
  return { run, x: pooled(held.x), y: pooled(held[name]) };
}

function startCurves() {
  const quantities = state.study.curves.quantities;
  options($("curve-quantity"), quantities.map(([, , label], i) => [i, label]), 0);
  startSmoothing();
}

function startSmoothing() {
  const quantity = state.study.curves.quantities[Number($("curve-quantity").value)];
  $("curve-smoothing").value = quantity && quantity[0] === "train" && quantity[1] !== "lr" ? 4 : 0;
}

function drawCurves() {
  const study = state.study, quantity = study.curves.quantities[Number($("curve-quantity").value)];
  $("curve-note").textContent = "";
  $("curve-window").textContent = "";
  if (!quantity) return nothing("curve-plot", "No metrics of these runs yet.");
  const runs = $("curve-runs").value === "ticked" ? study.runs.filter((run) => state.ticked.has(run.place)) : listed();
  const raw = runs.map((run) => curveOf(run, quantity)).filter((curve) => curve && curve.x.length);
  if (!raw.length) return nothing("curve-plot", runs.length ? "These runs have no such metrics." : "No runs are listed: loosen the filters, or tick some.");
  const longest = raw.reduce((far, curve) => Math.max(far, curve.x[curve.x.length - 1]), 1);
  const window = Math.round((longest * Number($("curve-smoothing").value)) / 100);
  $("curve-window").textContent = window > 1 ? `mean of ${window} steps` : "off";
  const curves = raw.map((curve) => ({ ...curve, y: smooth(curve.x, curve.y, window) }));
  const log = $("curve-log-y").checked;
  const single = $("curve-grouping").value === "single";
  const traces = single ? singleLines(curves, 1) : groupLines(curves, log, quantity);
  const range = log ? null : view(curves, quantity, longest);
  const shown = log ? { type: "log", dtick: decades(curves) > 2 ? 1 : "D2", tickfont: { size: 10 } } : range === null ? {} : { range };
  const wide = matchMedia("(min-width: 40rem)").matches;
  draw("curve-plot", traces, {
    height: wide ? 440 : 400,
    xaxis: axis("optimiser steps", { type: $("curve-log-x").checked ? "log" : "linear", exponentformat: "none" }),
    yaxis: axis(plain(quantity[2]), shown),
    hovermode: "closest",
    showlegend: true,
    legend: { orientation: "h", y: -0.2, yanchor: "top", x: 0, font: { size: 12 } },
    uirevision: [study.name, quantity[2], log, $("curve-log-x").checked].join(),
  });
  $("curve-note").textContent = curveWords(quantity, single, traces);
}

// Lines of single runs, a trace a scheme: hundreds of runs stay quick that way.
function singleLines(curves, width, faint = false, hidden = () => false) {
  const traces = new Map();
  for (const curve of curves) {
    const key = `${curve.run.scheme} ${curve.run.variant}`;
    if (!traces.has(key)) traces.set(key, { run: curve.run, x: [], y: [], text: [] });
    const trace = traces.get(key), text = runText(curve.run);
    for (let i = 0; i < curve.x.length; i++) {
      trace.x.push(curve.x[i]);
      trace.y.push(Number.isFinite(curve.y[i]) ? curve.y[i] : null);
      trace.text.push(text);
    }
    trace.x.push(curve.x[curve.x.length - 1]);
    trace.y.push(null);
    trace.text.push("");
  }
  const named = new Set();
  const first = (scheme) => !named.has(scheme) && Boolean(named.add(scheme));
  return [...traces.values()].sort((a, b) => a.run.scheme - b.run.scheme || a.run.variant - b.run.variant).map(({ run, ...trace }) => ({
    ...trace, type: "scatter", mode: dots(trace.y) ? "lines+markers" : "lines",
    name: plain(state.study.schemes[run.scheme].title), legendgroup: String(run.scheme), showlegend: !hidden(run.scheme) && first(run.scheme),
    opacity: faint ? 0.4 : 0.85, connectgaps: false, marker: { size: 4 },
    line: { color: look(run).colour, width, dash: faint ? "solid" : look(run).dash },
    hovertemplate: "%{text}<br>step %{x:.6~g}: %{y:.5~g}<extra></extra>",
  }));
}

// A curve of one point is a dot, or it would not be seen.
const dots = (y) => y.some((value, i) => value !== null && (i === 0 || y[i - 1] === null) && (i === y.length - 1 || y[i + 1] === null));

function runText(run) {
  const config = state.study.config;
  const axes = state.study.axes.map((key) => `${key} = ${configured(config, key, run.place)}`);
  const words = [`<b>${plain(state.study.schemes[run.scheme].name)}</b> seed ${run.seed}`, ...axes.map(plain)];
  if (run.status !== "done") words.push(plain(run.status));
  return words.join(", ") + `<br>${plain(run.id)}`;
}

// A line a group: runs that have ended are joined; those still on their way, and seeds below five, are thin lines of their own.
function groupLines(curves, log, quantity) {
  const study = state.study, traces = [], thin = [], inGroups = new Set();
  const byPlace = new Map(curves.map((curve) => [curve.run.place, curve]));
  for (const group of study.groups) {
    if (state.phase !== "" && group.phase !== state.phase) continue;
    const members = group.runs.map((place) => byPlace.get(place)).filter(Boolean);
    if (!members.length || members.every((curve) => inGroups.has(curve))) continue;
    members.forEach((curve) => inGroups.add(curve));
    const ended = members.filter((curve) => ["done", "diverged"].includes(curve.run.status));
    const whole = joined(ended, ended.map((curve) => curve.run.status === "diverged"), study.t, study.curves.better[quantity[1]] || 1);
    const scheme = members[0].run.scheme, own = look(members[0].run);
    if (!whole || whole.kind !== "band") thin.push(...(whole || members.length > 1 ? members : []));
    else thin.push(...members.filter((curve) => !ended.includes(curve)));
    const line = whole || (members.length === 1 ? members[0] : null);
    if (!line) continue;
    const name = plain(group.label + (state.phase === "" && study.phases.length > 1 ? ` (${group.phase})` : "")), legendgroup = String(scheme);
    if (whole && whole.kind === "band") traces.push(band(whole, scheme, own.colour, log));
    const n = whole ? `, ${whole.kind === "median" ? "median" : "mean"} of n = ${ended.length}` : `, seed ${line.run.seed}`;
    traces.push({
      x: line.x, y: Array.from(line.y, (value) => (Number.isFinite(value) ? value : null)), name, legendgroup,
      type: "scatter", mode: line.x.length > 1 ? "lines" : "markers", marker: { symbol: own.symbol, size: 7 },
      line: { color: own.colour, width: 2, dash: own.dash },
      hovertemplate: `<b>%{fullData.name}</b>${n}<br>step %{x:.6~g}: %{y:.5~g}<extra></extra>`,
    });
  }
  thin.push(...curves.filter((curve) => !inGroups.has(curve)));
  const named = new Set(traces.filter((trace) => trace.showlegend !== false).map((trace) => trace.legendgroup));
  const lines = traces.filter((trace) => trace.showlegend !== false);
  if (lines.length > LEGEND) {
    lines.forEach((trace) => { trace.showlegend = false; });
    traces.push(...[...named].sort((a, b) => a - b).map(schemeKey));
  }
  return [...singleLines(thin, 1, true, (scheme) => named.has(String(scheme))), ...traces];
}

// A scheme's place in the legend where a line a group would be too many for it.
function schemeKey(legendgroup) {
  const scheme = Number(legendgroup);
  return { x: [null], y: [null], type: "scatter", mode: "lines", line: { color: colour(scheme), width: 2 }, name: plain(state.study.schemes[scheme].title), legendgroup };
}

function band(whole, scheme, shade, log) {
  const low = log ? whole.low.map((value, i) => Math.max(value, whole.y[i] / 1e3)) : whole.low;
  return {
    x: [...whole.x, ...[...whole.x].reverse()], y: [...whole.high, ...[...low].reverse()],
    type: "scatter", mode: "lines", fill: "toself", fillcolor: clear(shade, 0.18), line: { width: 0 },
    hoverinfo: "skip", showlegend: false, legendgroup: String(scheme),
  };
}

// The values of a metric to show first: every validation after step 0, or those of training after the steep start; of runs that did not diverge.
// A double click shows everything.
function view(curves, [split, name], longest) {
  const sign = state.study.curves.better[name]; // of costs: lower is better
  if (!sign) return null;
  const alive = curves.some((curve) => curve.run.status !== "diverged");
  let low = Infinity, high = -Infinity;
  for (const { run, x, y } of curves) {
    const late = [];
    for (let i = 0; i < x.length; i++) if (Number.isFinite(y[i]) && (split === "val" ? x[i] > 0 : x[i] >= STEEP * Math.min(longest, x[x.length - 1]))) late.push(sign * y[i]);
    if (!late.length) continue;
    low = Math.min(low, ...late);
    if (run.status !== "diverged" || !alive) high = Math.max(high, split === "val" ? Math.max(...late) : quantile(late, 0.98));
  }
  if (!(high > low)) return null;
  const room = 0.05 * (high - low);
  return [sign * (low - room), sign * (high + room)].sort((a, b) => a - b);
}

// The span of the positive values, in powers of ten.
function decades(curves) {
  let low = Infinity, high = 0;
  for (const { y } of curves) for (const value of y) if (value > 0 && value < Infinity) { low = Math.min(low, value); high = Math.max(high, value); }
  return high > 0 ? Math.log10(high / low) : 0;
}

function curveWords(quantity, single, traces) {
  const words = [];
  if (!single) words.push("Thick: mean of a group's finished seeds, with its 95 % interval from n = 5 on; where a seed diverged, the median with it as worst. Thin: single seeds, and runs that have not finished.");
  const size = state.study.curves.thinned[quantity[0]];
  if (size) words.push(`Thinned for this page: a point is the mean of up to ${size} steps; the record holds every one.`);
  if (state.study.curves.better[quantity[1]]) words.push(`${quantity[0] === "val" ? "The validation before training" : "The steep start"} is off the scale; double-click to see it.`);
  else words.push("Drag to look closer, double click to go back.");
  return words.join(" ");
}
