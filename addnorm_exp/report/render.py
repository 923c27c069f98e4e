"""A table, columns and rows of text with notes, and its forms: Markdown (aligned: it reads in a terminal), LaTeX (booktabs), CSV."""

import csv
import io
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from addnorm_exp.errors import UserError, nearest

FORMATS = ("md", "latex", "csv")


@dataclass(frozen=True)
class Column:
    """`key` names it in CSV and in code, `label` at the head of the printed table."""

    key: str
    label: str
    right: bool = True  # aligned right, as numbers are


@dataclass(frozen=True)
class Table:
    """`rows` are texts, one a column; `records` hold the same rows as {name: number or text}, without losses by rounding."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    records: Sequence[dict[str, Any]] = field(default=())

    def __getitem__(self, key: str) -> list[str]:
        """One column's texts."""
        index = [column.key for column in self.columns].index(key)
        return [row[index] for row in self.rows]


def render(tables: Sequence[Table], form: str = "md") -> str:
    """All tables, in one text that ends with a newline."""
    if form not in FORMATS:
        raise UserError(f"--format={form}: unknown; {nearest(form, FORMATS)}")
    if form == "csv":
        return _csv(tables)
    return "\n".join((markdown if form == "md" else latex)(table) for table in tables)


def markdown(table: Table) -> str:
    cells = [[column.label for column in table.columns], *table.rows]
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in cells]
    widths = [max(3, *(_width(row[i]) for row in cells)) for i in range(len(table.columns))]
    lines = [f"### {table.title}", ""]
    for number, row in enumerate(cells):
        padded = [
            _pad(cell, width, column.right) for cell, width, column in zip(row, widths, table.columns, strict=True)
        ]
        lines.append(f"| {' | '.join(padded)} |")
        if number == 0:
            rules = ["-" * (w - 1) + ":" if c.right else "-" * w for w, c in zip(widths, table.columns, strict=True)]
            lines.append(f"| {' | '.join(rules)} |")
    if table.notes:
        lines += ["", *(f"- {note}" for note in table.notes)]
    return "\n".join(lines) + "\n"


def _width(text: str) -> int:
    """Columns of a terminal."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _pad(text: str, width: int, right: bool) -> str:
    blank = " " * (width - _width(text))
    return blank + text if right else text + blank


_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "±": r"$\pm$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "–": "--",
    "…": r"\dots{}",
    "†": r"\textsuperscript{\textdagger}",
    "Δ": r"$\Delta$",
    "ε": r"$\varepsilon$",
    "α": r"$\alpha$",
    "β": r"$\beta$",
    "≥": r"$\geq$",
    "₀": r"\textsubscript{0}",
    "₁": r"\textsubscript{1}",
    "₂": r"\textsubscript{2}",
}


def escape(text: str) -> str:
    """Text for LaTeX: its special characters escaped, our symbols as commands, a minus before a number as a minus."""
    parts = re.split(r"((?<![\w.-])-(?=[\d.]))", text)
    return "".join("$-$" if i % 2 else "".join(_LATEX.get(c, c) for c in part) for i, part in enumerate(parts))


def latex(table: Table) -> str:
    """A `table*` float for `\\usepackage{booktabs,graphicx}`; the notes stand below the rows, in small type."""
    columns = "".join("r" if column.right else "l" for column in table.columns)
    lines = [
        r"% needs \usepackage{booktabs,graphicx}",
        r"\begin{table*}",
        r"\centering",
        rf"\caption{{{escape(table.title)}}}",
        r"\small",
        r"\setlength{\tabcolsep}{4pt}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",  # no wider than the page
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        " & ".join(escape(column.label) for column in table.columns) + r" \\",
        r"\midrule",
        *(" & ".join(escape(cell) for cell in row) + r" \\" for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}}",
    ]
    if table.notes:
        lines += ["", r"\smallskip", r"\begin{minipage}{\linewidth}\footnotesize\raggedright"]
        lines += [escape(note) + (r"\\" if i + 1 < len(table.notes) else "") for i, note in enumerate(table.notes)]
        lines.append(r"\end{minipage}")
    return "\n".join([*lines, r"\end{table*}"]) + "\n"


def _csv(tables: Sequence[Table]) -> str:
    """Numbers in full, one line a row over all tables; what a row does not have is left empty."""
    records = [record for table in tables for record in table.records]
    names = list(dict.fromkeys(name for record in records for name in record))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: "" if v is None else v for k, v in record.items()} for record in records)
    return text.getvalue()
