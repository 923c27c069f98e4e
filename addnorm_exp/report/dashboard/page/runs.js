// The list of runs: sorted, filtered, ticked.

const number = (label, value, text) => ({ label, value, text: text || ((run) => fixed(value(run), 4)), right: true });
const result = (...column) => ({ ...number(...column), result: true });
const fixed = (value, digits) => (value === null ? NOTHING : value.toFixed(digits));

function runColumns() {
  const study = state.study, metric = study.metric + study.arrow;
  const words = (label, value) => ({ label, value, text: (run) => value(run) || NOTHING });
  return [
    { ...words("scheme", (run) => study.schemes[run.scheme].name), swatch: true },
    ...(study.phases.length > 1 ? [words("phase", (run) => run.phases.join(", "))] : []),
    { ...words("status", (run) => run.status), status: true, result: true },
    number("seed", (run) => run.seed, (run) => String(run.seed)),
    ...study.axes.map((key) => axisColumn(key)),
    result(`val ${metric}`, (run) => run.val),
    result(`best val ${metric}`, (run) => run.best),
    result(`test ${metric}`, (run) => run.test),
    result("step", (run) => run.step, (run) => (run.step === null ? NOTHING : `${run.step} / ${run.steps ?? "?"}`)),
    result("ms/step", (run) => run.ms, (run) => fixed(run.ms, 1)),
    result("params", (run) => run.params, (run) => (run.params === null ? NOTHING : run.params.toLocaleString("en"))),
    { ...words("run", (run) => run.id), id: true },
  ];
}

function axisColumn(key) {
  const column = state.study.config[key];
  const texts = Array.isArray(column) ? column[0] : [column];
  const numeric = texts.every((text) => text === null || text === "default" || Number.isFinite(Number(text)));
  const text = (run) => configured(state.study.config, key, run.place) ?? NOTHING;
  const value = (run) => (!numeric ? text(run) : Number.isFinite(Number(text(run))) ? Number(text(run)) : null);
  return { label: key.replace(/^optim\./, ""), value, text, right: numeric };
}

// What the text filter looks in: everything that the list shows, and `key=value` of whatever differs between runs.
function haystack(run) {
  if (run.haystack) return run.haystack;
  const config = state.study.config;
  const varying = Object.keys(config).filter((key) => Array.isArray(config[key]));
  const pairs = varying.map((key) => [key, configured(config, key, run.place)]).filter(([, text]) => text !== null);
  const words = [run.id, state.study.schemes[run.scheme].name, run.status, run.reason || "", `seed=${run.seed}`, ...run.phases];
  for (const [key, text] of pairs) words.push(`${key}=${text}`, `${key.split(".").pop()}=${text}`);
  return (run.haystack = words.map((word) => word.toLowerCase()));
}

// A word with `=` is the whole of a pair, so that lr=0.01 does not find lr=0.012; other words are found anywhere.
function matches(run, word) {
  return haystack(run).some((held) => (word.includes("=") && !word.endsWith("=") ? held === word : held.includes(word)));
}

function listed() {
  const words = state.text.toLowerCase().split(/\s+/).filter(Boolean);
  return state.study.runs.filter(
    (run) =>
      (state.scheme === "" || state.study.schemes[run.scheme].name === state.scheme) &&
      (state.status === "" || run.status === state.status) &&
      (state.phase === "" || run.phases.includes(state.phase)) &&
      words.every((word) => matches(run, word)),
  );
}

function sorted(runs) {
  const column = runColumns().find((found) => found.label === state.sort.key);
  if (!column) return runs;
  const sign = state.sort.up ? 1 : -1;
  return [...runs].sort((a, b) => {
    const x = column.value(a), y = column.value(b);
    if (x === null || y === null) return (x === null) - (y === null); // what has no value stands last either way
    return sign * (typeof x === "number" ? x - y : String(x).localeCompare(String(y), "en", { numeric: true }));
  });
}

function drawRuns() {
  const found = sorted(listed()), columns = runColumns(), all = state.study.runs.length;
  const head = columns.map((column) => {
    const here = column.label === state.sort.key;
    const attributes = { scope: "col", class: column.right ? "right" : null, "aria-sort": here ? (state.sort.up ? "ascending" : "descending") : null };
    return element("th", attributes, element("button", { type: "button", onclick: () => sortBy(column.label) }, column.label));
  });
  const whole = found.length > 0 && found.every((run) => state.ticked.has(run.place));
  const everything = element("input", { type: "checkbox", "aria-label": "tick all listed runs", onchange: (event) => tickAll(found, event.target.checked) });
  everything.checked = whole;
  $("runs-table").tHead.replaceChildren(element("tr", {}, element("th", { class: "tick" }, everything), ...head));
  $("runs-table").tBodies[0].replaceChildren(...found.map((run) => runRow(run, columns)));
  countRuns(found.length, all);
}

function countRuns(count, all) {
  $("runs-count").textContent = `${count === all ? all : `${count} of ${all}`} run${all === 1 ? "" : "s"}${state.ticked.size ? `, ${state.ticked.size} ticked` : ""}`;
  $("untick").hidden = !state.ticked.size;
}

function runRow(run, columns) {
  const tick = element("input", { type: "checkbox", "aria-label": `tick ${run.id}`, onchange: (event) => tickOne(run, event.target) });
  tick.checked = state.ticked.has(run.place);
  const cells = columns.map((column) => {
    if (column.status) {
      const known = ["done", "diverged", "running", "stopped", "failed"].includes(run.status) ? run.status : "";
      return element("td", { title: run.reason }, element("span", { class: `status ${known}` }, run.status));
    }
    const lead = column.swatch ? [swatch(run)] : [];
    return element("td", { class: column.right ? "right" : column.id ? "id" : null }, ...lead, column.text(run));
  });
  return element("tr", { class: tick.checked ? "ticked" : null, "data-run": run.id }, element("td", { class: "tick" }, tick), ...cells);
}

function sortBy(label) {
  state.sort = { key: label, up: state.sort.key === label ? !state.sort.up : true };
  drawRuns();
}

function tickOne(run, box) {
  if (box.checked) state.ticked.add(run.place);
  else state.ticked.delete(run.place);
  box.closest("tr").classList.toggle("ticked", box.checked);
  countRuns(listed().length, state.study.runs.length);
  tickedChanged();
}

function tickAll(runs, on) {
  for (const run of runs) on ? state.ticked.add(run.place) : state.ticked.delete(run.place);
  drawRuns();
  tickedChanged();
}

function startFilters() {
  const study = state.study;
  const pairs = (names) => [["", "all"], ...names.map((name) => [name, name])];
  options($("filter-scheme"), pairs(study.schemes.map((found) => found.name)), state.scheme);
  options($("filter-status"), pairs(study.statuses), state.status);
  options($("filter-phase"), pairs(study.phases), state.phase);
  $("filter-phase").parentElement.hidden = study.phases.length < 2;
  $("filter-text").value = state.text;
}
