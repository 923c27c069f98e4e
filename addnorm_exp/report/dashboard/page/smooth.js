// Running means, and what the seeds of a group say together; plain functions on arrays.

const ENOUGH = 5; // seeds for an interval (report/statistics.py)

// The mean over a window of so many steps, centred, shorter at the ends; NaN where a value is.
function smooth(x, y, window) {
  if (!(window > 1) || y.length < 2) return y;
  const found = new Float64Array(y.length);
  let low = 0, high = 0, total = 0, count = 0;
  const enter = (i, sign) => { if (Number.isFinite(y[i])) { total += sign * y[i]; count += sign; } };
  for (let i = 0; i < y.length; i++) {
    while (high < y.length && x[high] <= x[i] + window / 2) enter(high++, 1);
    while (x[low] < x[i] - window / 2) enter(low++, -1);
    found[i] = Number.isFinite(y[i]) ? total / count : NaN;
  }
  return found;
}

// Curves of one group -> {x, y, low, high, kind}. Five whole ones or more: mean with its 95 % t interval. Fewer: their mean. Where one
// diverged: the median with the diverged ones as worst from their ends on, never a mean of survivors. `lost` says which diverged,
// `t` holds quantiles for n = 5, 6, …; `sign` is -1 where higher is better. Null where there is nothing to join.
function joined(curves, lost, t, sign = 1) {
  const whole = curves.filter((_, i) => !lost[i] && curves[i].x.length);
  if (!whole.length || curves.length < 2) return null;
  let steps = Array.from(whole[0].x);
  for (const other of whole.slice(1)) {
    const here = new Set(other.x);
    steps = steps.filter((step) => here.has(step));
  }
  const tables = curves.map((curve, i) => {
    const values = new Map();
    curve.x.forEach((step, j) => values.set(step, curve.y[j]));
    return lost[i] ? (step) => (Number.isFinite(values.get(step)) ? values.get(step) : sign * Infinity) : (step) => values.get(step);
  });
  const rows = steps.map((step) => tables.map((value) => value(step)));
  const n = curves.length;
  if (lost.some(Boolean)) return { x: steps, y: rows.map(median), kind: "median" };
  const y = rows.map((row) => row.reduce((a, b) => a + b, 0) / n);
  if (n < ENOUGH) return { x: steps, y, kind: "mean" };
  const half = rows.map((row, i) => (t[n - ENOUGH] * Math.sqrt(row.reduce((a, b) => a + (b - y[i]) ** 2, 0) / (n - 1))) / Math.sqrt(n));
  return { x: steps, y, low: y.map((v, i) => v - half[i]), high: y.map((v, i) => v + half[i]), kind: "band" };
}

function median(row) {
  const ranked = [...row].sort((a, b) => a - b), half = ranked.length >> 1;
  const found = ranked.length % 2 ? ranked[half] : (ranked[half - 1] + ranked[half]) / 2;
  return Number.isFinite(found) ? found : NaN;
}

function quantile(values, share) {
  const ranked = Float64Array.from(values).sort();
  return ranked.length ? ranked[Math.min(ranked.length - 1, Math.floor(share * ranked.length))] : NaN;
}
