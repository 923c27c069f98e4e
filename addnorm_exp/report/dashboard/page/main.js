// Puts the parts together: what changes what.

function filtersChanged() {
  drawRuns();
  if ($("curve-runs").value === "listed") drawCurves();
}

function tickedChanged() {
  drawDifferences();
  if ($("curve-runs").value === "ticked") drawCurves();
}

function drawAll() {
  drawTable();
  drawRuns();
  drawCurves();
  drawHeat();
  drawRates();
  drawDifferences();
}

function startStudy(study) {
  study.runs.forEach((run, place) => { run.place = place; });
  Object.assign(state, { study, text: "", scheme: "", status: "", phase: study.phases.length > 1 ? study.shown : "", sort: { key: null, up: true }, ticked: new Set() });
  $("name").textContent = study.name;
  startFilters();
  startCurves();
  startHeat();
  startRates();
  drawAll();
}

function setTheme(name) {
  theme = name;
  $("theme").textContent = `theme: ${name}`;
  document.documentElement.dataset.theme = dark() ? "dark" : "light";
}

function listen() {
  const filters = { "filter-text": "text", "filter-scheme": "scheme", "filter-status": "status", "filter-phase": "phase" };
  for (const [id, name] of Object.entries(filters)) {
    $(id).addEventListener("input", (event) => { state[name] = event.target.value; filtersChanged(); });
  }
  $("filter-clear").addEventListener("click", () => {
    Object.assign(state, { text: "", scheme: "", status: "", phase: "" });
    startFilters();
    filtersChanged();
  });
  $("untick").addEventListener("click", () => { state.ticked.clear(); drawRuns(); tickedChanged(); });
  $("curve-quantity").addEventListener("input", () => { startSmoothing(); drawCurves(); });
  for (const id of ["curve-grouping", "curve-runs", "curve-smoothing", "curve-log-y", "curve-log-x"]) $(id).addEventListener("input", drawCurves);
  for (const id of ["heat-quantity", "heat-run", "heat-beside", "heat-family", "heat-common"]) $(id).addEventListener("input", drawHeat);
  $("rates-panel").addEventListener("input", drawRates);
  $("difference-all").addEventListener("input", drawDifferences);
  $("study").addEventListener("input", (event) => startStudy(STUDIES[Number(event.target.value)]));
  $("theme").addEventListener("click", () => {
    setTheme({ system: "light", light: "dark", dark: "system" }[theme]);
    drawAll();
  });
  night.addEventListener("change", () => { setTheme(theme); drawAll(); });
}

setTheme("system");
if (STUDIES.length > 1) {
  options($("study"), STUDIES.map((study, i) => [i, study.name]), 0);
  $("study-label").hidden = false;
  $("name").hidden = true;
}
listen();
startStudy(STUDIES[0]);
document.documentElement.dataset.ready = "yes"; // for those who wait for the page
