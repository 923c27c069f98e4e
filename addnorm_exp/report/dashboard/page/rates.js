// The final validation against the learning rate: a line a scheme, a dot a run; diverged runs stand at the trivial prediction.

const FAR = 1.6; // the trivial prediction gets a strip of its own when it lies farther than this many heights of the rest above it

function startRates() {
  const rates = state.study.rates;
  const panels = rates ? rates.panels : [];
  options($("rates-panel"), panels.map((panel, i) => [i, panel.label || "all"]), 0);
  $("rates-controls").hidden = panels.length < 2;
}

function drawRates() {
  const { rates, schemes } = state.study;
  $("rates-note").textContent = "";
  if (!rates) return nothing("rates-plot", "No finished runs at two or more learning rates.");
  const lines = rates.panels[Number($("rates-panel").value)].lines;
  const alive = lines.flatMap((line) => line.points.filter((point) => !point[3]).map((point) => point[1]));
  const lost = lines.some((line) => line.points.some((point) => point[3]));
  const low = Math.min(...alive), high = Math.max(...alive);
  const strip = lost && rates.trivial !== null && alive.length > 0 && rates.trivial - high > FAR * Math.max(high - low, 0.02 * Math.abs(rates.trivial));
  const traces = [];
  lines.forEach((line, i) => {
    const own = line.points.length ? look(state.study.runs[line.points[0][2]]) : { ...schemes[line.scheme], colour: colour(line.scheme) };
    const shade = schemes.length > 1 ? colour(line.scheme) : own.colour, behind = lines.length - 1 - i; // later lines lie over it
    const base = { type: "scatter", legendgroup: String(line.scheme), showlegend: false };
    const kept = line.points.filter((point) => !point[3]), gone = line.points.filter((point) => point[3]);
    const text = (points) => points.map((point) => runText(state.study.runs[point[2]]));
    traces.push({
      ...base, showlegend: true, name: plain(schemes[line.scheme].title), mode: "lines+markers",
      x: line.means.map(([rate]) => rate),
      y: line.means.map(([, mean, dead, n]) => (strip && dead === n ? null : mean)),
      customdata: line.means.map(([rate, , dead, n]) => [rate, n, dead ? `, ${dead} diverged` : ""]),
      line: { color: shade, width: 2, dash: own.dash },
      marker: { symbol: own.symbol, size: 7 + 5 * behind / Math.max(1, lines.length - 1), opacity: 0.8 },
      hovertemplate: "%{fullData.name}, learning rate %{customdata[0]}<br>mean %{y:.5~g} of n = %{customdata[1]}%{customdata[2]}<extra></extra>",
    });
    const best = line.means.filter(([rate, , dead, n]) => rate === line.best && !(strip && dead === n));
    traces.push({ ...base, mode: "markers", x: best.map(([rate]) => rate), y: best.map((mean) => mean[1]), hoverinfo: "skip", marker: { symbol: "circle-open", size: 15, color: shade, line: { width: 1.5 } } });
    traces.push({ ...base, mode: "markers", x: kept.map(([rate]) => rate), y: kept.map((point) => point[1]), text: text(kept), marker: { color: shade, size: 5, opacity: 0.6 }, hovertemplate: "%{text}<br>%{y:.5~g}<extra></extra>" });
    traces.push({ ...base, mode: "markers", x: gone.map(([rate]) => rate), y: gone.map((point) => point[1]), text: text(gone), yaxis: strip ? "y2" : "y", cliponaxis: false, marker: { color: shade, symbol: "x-thin", size: 9 + Math.min(4, 16 / lines.length) * behind, line: { width: 2, color: shade } }, hovertemplate: "%{text}<extra></extra>" });
  });
  const every = [...new Set(lines.flatMap((line) => line.means.map(([rate]) => rate)))].sort((a, b) => a - b);
  const room = every.length > 1 ? 0.15 * Math.log10(every[every.length - 1] / every[0]) : 0.5;
  const pad = 0.07 * (high - low) || 0.02 * Math.abs(high);
  const layout = {
    height: 420, hovermode: "closest", legend: { orientation: "h", y: -0.2, yanchor: "top", x: 0, font: { size: 12 } },
    xaxis: axis("peak learning rate", { type: "log", tickvals: every, ticktext: every.map(String), range: [Math.log10(every[0]) - room, Math.log10(every[every.length - 1]) + room] }),
    yaxis: axis(`final validation ${rates.label}`, strip ? { domain: [0, 0.86], range: [low - pad, high + pad] } : {}),
    shapes: [],
  };
  if (strip) layout.yaxis2 = axis("", { domain: [0.9, 1], range: [rates.trivial - 1, rates.trivial + 1], tickvals: [rates.trivial], ticktext: [String(Number(rates.trivial.toPrecision(3)))], showgrid: false, anchor: "x" });
  if (lost && rates.trivial !== null) layout.shapes.push({ type: "line", xref: "paper", x0: 0, x1: 1, yref: strip ? "y2" : "y", y0: rates.trivial, y1: rates.trivial, line: { color: inked("muted"), width: 1, dash: "dot" } });
  draw("rates-plot", traces, layout);
  const words = [`${rates.phase === "tune" ? "Tuning runs" : "Runs"}; ring: ${lines.some((line) => line.means.some(([, , , n]) => n > 1)) ? "the best mean" : "the chosen rate"}.`];
  if (lost && rates.trivial !== null) words.push(`×: diverged, scored as the ${rates.trivially} prediction (dotted), which is also the worst that a run counts as in a mean.`);
  if (strip) words.push("The axis is broken below it.");
  $("rates-note").textContent = words.join(" ");
}
