// The ablation table: the words of `main.py table`.

function drawTable() {
  const { title, columns, rows, notes, warnings } = state.study.table;
  const side = (i) => (columns[i][1] ? "right" : null);
  $("table-title").textContent = title;
  const scheme = columns.findIndex(([label]) => label === "scheme");
  const cell = (text, i, row) => {
    const [place, variant] = (i === scheme && state.study.rows[row]) || [];
    return element("td", { class: side(i) }, ...(place === undefined ? [] : [swatch({ scheme: place, variant })]), text);
  };
  $("ablation").replaceChildren(
    element("thead", {}, element("tr", {}, ...columns.map(([label], i) => element("th", { scope: "col", class: side(i) }, label)))),
    element("tbody", {}, ...rows.map((row, i) => element("tr", {}, ...row.map((text, j) => cell(text, j, i))))),
  );
  $("table-warnings").replaceChildren(...warnings.map((warning) => element("p", { class: "warning" }, warning)));
  $("table-notes").replaceChildren(...notes.map((note) => element("li", {}, note)));
}
