// Per-layer diagnostics of one run, or of two side by side: a cell a layer and step.

const LEVELS = 65535;
const GAP = 84; // pixels between two panels, one above the other

function startHeat() {
  const { quantities, runs } = state.study.layers;
  options($("heat-quantity"), quantities.map(([key, words]) => [key, words]), "grad_stream");
  const places = Object.keys(runs).map(Number);
  const shown = places.find((place) => state.study.runs[place].phases.includes(state.study.shown));
  const names = places.map((place) => [place, runName(state.study.runs[place])]);
  options($("heat-run"), names, shown ?? places[0]);
  options($("heat-beside"), [["", "none"], ...names], "");
  $("layers").querySelector(".controls").hidden = !places.length;
}

function runName(run) {
  const axes = state.study.axes.map((key) => `${key.replace(/^optim\./, "")} ${configured(state.study.config, key, run.place) ?? NOTHING}`);
  const words = [`${state.study.schemes[run.scheme].name} seed ${run.seed}`, ...axes];
  if (state.study.phases.length > 1) words.push(run.phases.join(" and "));
  if (run.status !== "done") words.push(run.status);
  return words.join(", ");
}

// A run's cells as values on the colour scale (logarithms where it is logarithmic), NaN where there is none; null if it has none.
function cellsOf(place, key) {
  const held = state.study.layers.runs[place]?.[key];
  if (!held) return null;
  const [names, steps, codes, low, high] = held;
  const levels = pooled(codes, Uint16Array), x = pooled(steps);
  const { labels, families } = state.study.layers.names[names];
  const value = (code) => (code === 0 ? NaN : low + ((code - 1) / (LEVELS - 1)) * (high - low));
  return { place, x, labels, families, value: (row, column) => value(levels[row * labels.length + column]), low, high };
}

function familyOptions(sets) {
  const counts = new Map();
  for (const cells of sets) for (const family of cells.families) if (family) counts.set(family, (counts.get(family) || 0) + 1);
  const former = $("heat-family").value;
  const several = [...counts].filter(([, count]) => count > 1).map(([family]) => family);
  const pairs = [["matrices", "all matrices in blocks"], ["all", "all"], ...several.map((family) => [`:${family}`, family])];
  options($("heat-family"), pairs, former || "matrices");
}

function keptColumns(cells) {
  const all = cells.labels.map((_, i) => i);
  if (!cells.families) return all;
  const family = $("heat-family").value;
  if (family.startsWith(":")) return all.filter((i) => cells.families[i] === family.slice(1));
  return family === "matrices" ? all.filter((i) => cells.families[i].endsWith("kernel")) : all;
}

function drawHeat() {
  const { quantities, runs, joined: rows, left_out: left } = state.study.layers;
  const found = quantities.find(([key]) => key === $("heat-quantity").value);
  $("heat-note").textContent = "";
  if (!found) return nothing("heat-plot", "No per-layer record in these runs (execution.diagnostics was off, or nothing is recorded yet).");
  const [key, words, log, kind] = found;
  const chosen = [$("heat-run").value, $("heat-beside").value].filter((place) => place !== "");
  const sets = chosen.map((place) => cellsOf(Number(place), key)).filter(Boolean);
  $("heat-family-label").hidden = kind !== "tensors" || !sets.length;
  if (!sets.length) return nothing("heat-plot", `This run has no ${words}.`);
  if (kind === "tensors") familyOptions(sets);
  const panels = sets.map((cells, i) => heatPanel(cells, i, log));
  const alike = panels.length > 1 && String(panels[0].labels) === String(panels[1].labels);
  const beside = alike && matchMedia("(min-width: 60rem)").matches;
  const partly = panels.some((panel, i) => panel.z.length < sets[i].labels.length);
  $("heat-common-label").hidden = partly;
  const most = Math.max(...panels.map((panel) => panel.z.length));
  const each = Math.min(900, Math.max(200, (most > 20 ? 14 : 28) * most));
  const inner = beside || panels.length < 2 ? each : 2 * each + GAP;
  const layout = { height: inner + 80, margin: { l: 30, r: 10, t: 34, b: 46 }, plot_bgcolor: inked("line") };
  panels.forEach((panel, i) => Object.assign(layout, heatAxes(panel, i, panels.length, beside, GAP / inner)));
  layout.annotations = panels.map((panel, i) => heatTitle(sets[i], i));
  layout.coloraxis = { colorscale: "Viridis", ...heatScale(panels, key, partly), colorbar: heatBar(words) };
  Object.assign(layout.coloraxis.colorbar, log ? logTicks(layout.coloraxis.cmin, layout.coloraxis.cmax) : {});
  draw("heat-plot", panels, layout);
  const told = ["Block 0 is at the bottom. Grey: no value (not finite, zero on a logarithmic scale, or after the run's end)."];
  if (rows > 1) told.push(`Thinned for this page: a column joins up to ${rows} recorded rows${log ? " by their geometric mean" : " by their mean"}.`);
  if (left) told.push(`${left} runs are left out to keep this page small; a page of one run (main.py dashboard RUN'S FOLDER) shows it.`);
  $("heat-note").textContent = told.join(" ");
}

function heatPanel(cells, i, log) {
  const columns = keptColumns(cells), nth = i ? i + 1 : "";
  const z = [], values = [], text = [];
  for (const column of columns) {
    const row = Array.from(cells.x, (_, step) => cells.value(step, column));
    z.push(row.map((value) => (Number.isFinite(value) ? value : null)));
    values.push(row.map((value) => (log ? 10 ** value : value)));
    text.push(new Array(row.length).fill(plain(cells.labels[column])));
  }
  return {
    type: "heatmap", x: Array.from(cells.x), y: columns.map((_, row) => row), z, customdata: values, text,
    xaxis: `x${nth}`, yaxis: `y${nth}`, coloraxis: "coloraxis", hoverongaps: false, labels: columns.map((column) => plain(cells.labels[column])),
    hovertemplate: "%{text}<br>step %{x:.6~g}: %{customdata:.4~g}<extra></extra>",
  };
}

function heatAxes(panel, i, count, beside, gap) {
  const nth = i ? i + 1 : "", stride = Math.ceil(panel.labels.length / 48);
  const ticks = panel.y.filter((row) => row % stride === 0);
  const steps = panel.x.length > 1 ? { range: [panel.x[0], panel.x[panel.x.length - 1]] } : {}; // not from before the first step
  const x = axis("optimiser steps", { anchor: `y${nth}`, showgrid: false, exponentformat: "none", ...steps });
  const y = axis("", { anchor: `x${nth}`, showgrid: false, tickvals: ticks, ticktext: ticks.map((row) => panel.labels[row]), tickfont: { size: 11.5 }, showticklabels: !(beside && i) });
  if (count > 1 && beside) x.domain = i ? [0.52, 1] : [0, 0.48];
  if (count > 1 && !beside) y.domain = i ? [0, 0.5 - gap / 2] : [0.5 + gap / 2, 1];
  return { [`xaxis${nth}`]: x, [`yaxis${nth}`]: y };
}

function heatTitle(cells, i) {
  const run = state.study.runs[cells.place], nth = i ? i + 1 : "";
  const axes = state.study.row_axes.map((key) => `, ${key} = ${configured(state.study.config, key, run.place) ?? NOTHING}`);
  const name = `<b>${plain(state.study.schemes[run.scheme].name)}</b>${plain(axes.join(""))}${axes.length ? "," : ""}`;
  return {
    text: `${name} seed ${run.seed}${run.status === "done" ? "" : ` (${plain(run.status)})`}`,
    xref: `x${nth} domain`, yref: `y${nth} domain`, x: 0, y: 1, xanchor: "left", yanchor: "bottom", showarrow: false, font: { size: 12.5 },
  };
}

// Bounds of the colours: those of the reported runs, or of what is shown without its utmost cells.
function heatScale(panels, key, partly) {
  let bounds = state.study.layers.scale[key];
  if (!$("heat-common").checked || !bounds || partly) {
    const seen = panels.flatMap((panel) => panel.z.flat()).filter((value) => value !== null);
    bounds = [quantile(seen, 0.002), quantile(seen, 0.998)];
  }
  const [cmin, cmax] = bounds;
  return cmax > cmin ? { cmin, cmax } : { cmin: (cmin || 0) - 0.01, cmax: (cmin || 0) + 0.01 };
}

function heatBar(words) {
  const title = matchMedia("(min-width: 40rem)").matches ? words : "";
  return { title: { text: plain(title), side: "right", font: { size: 12.5 } }, thickness: 13, outlinewidth: 0, ticks: "outside", ticklen: 3, len: 1, exponentformat: "power" };
}

// Ticks of a scale in common logarithms: powers of ten, with 2 and 5 between where they are few.
function logTicks(low, high) {
  const factors = high - low > 2.2 ? [1] : [1, 2, 5], tickvals = [], ticktext = [];
  for (let power = Math.floor(low); power <= high; power++) {
    for (const factor of factors) {
      const at = power + Math.log10(factor);
      if (at < low || at > high) continue;
      tickvals.push(at);
      const number = factor * 10 ** power;
      ticktext.push(Math.abs(power) < 3 ? String(Number(number.toPrecision(3))) : `${factor > 1 ? `${factor}·` : ""}10<sup>${power}</sup>`);
    }
  }
  return { tickvals, ticktext };
}
