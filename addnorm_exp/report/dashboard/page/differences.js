// How ticked runs differ: their results, and key by key their configs and what they were made with.

const WIDEST = 12; // runs side by side at most

function drawDifferences() {
  const study = state.study, runs = study.runs.filter((run) => state.ticked.has(run.place));
  const table = $("difference-table"), all = $("difference-all").checked;
  $("difference-all-label").hidden = runs.length < 2;
  if (runs.length < 2) {
    $("difference-note").textContent = `Tick two runs or more in the list above${runs.length ? " (one is ticked)" : ""}.`;
    return table.replaceChildren();
  }
  const seen = runs.slice(0, WIDEST), rows = [];
  let count = 0;
  for (const [title, columns] of [["config", study.config], ["resolved", study.resolved], ["made with", study.facts]]) {
    const part = [];
    for (const key of Object.keys(columns)) {
      const texts = runs.map((run) => configured(columns, key, run.place));
      const differs = texts.some((text) => text !== texts[0]);
      count += differs && columns === study.config;
      if (differs || all) part.push(differenceRow(key, texts.slice(0, WIDEST), differs));
    }
    if (part.length) rows.push(differencePart(title, seen), ...part);
  }
  const results = runColumns().filter((column) => column.result).map((column) => resultRow(column, seen));
  rows.unshift(differencePart("results", seen), ...results);
  const head = seen.map((run) => element("th", { scope: "col" }, swatch(run), `${study.schemes[run.scheme].name} seed ${run.seed}`, element("br"), element("span", { class: "muted" }, run.id)));
  table.replaceChildren(element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "key"), ...head)), element("tbody", {}, ...rows));
  const more = runs.length > WIDEST ? `; the first ${WIDEST} of ${runs.length} are shown` : "";
  $("difference-note").textContent = `${runs.length} runs differ in ${count || "no"} key${count === 1 ? "" : "s"} of the config${more}.`;
}

function differencePart(title, seen) {
  return element("tr", { class: "part" }, element("th", { scope: "rowgroup", colspan: seen.length + 1 }, title));
}

function resultRow(column, runs) {
  return element("tr", {}, element("th", { scope: "row" }, column.label), ...runs.map((run) => element("td", {}, column.text(run))));
}

function differenceRow(key, texts, differs) {
  const cells = texts.map((text) => element("td", { class: differs && text !== texts[0] ? "other" : null, title: text }, text ?? NOTHING));
  return element("tr", { "data-key": key }, element("th", { scope: "row" }, key), ...cells);
}
