// The ablation table: the words of `main.py table`.

function drawTable() {
  const { title, columns, rows, notes, warnings } = state.study.table;
  const side = (i) => (columns[i][1] ? "right" : null);
  $("table-title").textContent = title;
  const scheme = columns.findIndex(([label]) => label === "scheme");
  const cell = (text, i) => {
    const place = i === scheme ? state.study.schemes.findIndex((found) => found.name === text) : -1;
    return element("td", { class: side(i) }, ...(place < 0 ? [] : [swatch(place)]), text);
  };
  $("ablation").replaceChildren(
    element("thead", {}, element("tr", {}, ...columns.map(([label], i) => element("th", { scope: "col", class: side(i) }, label)))),
    element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row.map(cell)))),
  );
  $("table-warnings").replaceChildren(...warnings.map((warning) => element("p", { class: "warning" }, warning)));
  $("table-notes").replaceChildren(...notes.map((note) => element("li", {}, note)));
}

function swatch(scheme) {
  const made = element("span", { class: "swatch", "aria-hidden": "true" });
  made.style.background = colour(scheme);
  return made;
}
