"""A table, columns and rows of text with notes, and its forms: Markdown (aligned: it reads in a terminal), LaTeX (booktabs), CSV."""

import csv
import io
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from addnorm_exp.errors import UserError, nearest
from addnorm_exp.report.latex import escape

FORMATS = ("md", "latex", "csv")


@dataclass(frozen=True)
class Column:
    """`key` names it in CSV and in code, `label` at the head of the printed table."""

    key: str
    label: str
    right: bool = True  # aligned right, as numbers are


@dataclass(frozen=True)
class Table:
    """`rows` are texts, one a column; `records` hold the same rows as {name: number or text}, without losses by rounding.

    `warnings` are lines that a reader must see before the numbers: they stand above the rows, `notes` below.
    """

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    records: Sequence[dict[str, Any]] = field(default=())
    warnings: tuple[str, ...] = ()

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
    cells = [[_inline(cell).replace("|", "\\|") for cell in row] for row in cells]
    widths = [max(3, *(_width(row[i]) for row in cells)) for i in range(len(table.columns))]
    lines = [f"### {_inline(table.title)}", ""]
    lines += [line for warning in table.warnings for line in (f"**{_inline(warning)}**", "")]
    for number, row in enumerate(cells):
        padded = [
            _pad(cell, width, column.right) for cell, width, column in zip(row, widths, table.columns, strict=True)
        ]
        lines.append(f"| {' | '.join(padded)} |")
        if number == 0:
            rules = ["-" * (w - 1) + ":" if c.right else "-" * w for w, c in zip(widths, table.columns, strict=True)]
            lines.append(f"| {' | '.join(rules)} |")
    if table.notes:
        lines += ["", *(f"- {_inline(note)}" for note in table.notes)]
    return "\n".join(lines) + "\n"


def _inline(text: str) -> str:
    """Text for Markdown: what a name may hold that Markdown would read as code, emphasis or HTML is escaped."""
    return re.sub(r"([\\`*]|<(?=[A-Za-z/!?]))", r"\\\1", " ".join(text.split()))


def _width(text: str) -> int:
    """Columns of a terminal."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _pad(text: str, width: int, right: bool) -> str:
    blank = " " * (width - _width(text))
    return blank + text if right else text + blank


def latex(table: Table) -> str:
    """A `table*` float for `\\usepackage{booktabs,graphicx}`; the notes stand below the rows, in small type."""
    columns = "".join("r" if column.right else "l" for column in table.columns)
    lines = [
        r"% needs \usepackage{booktabs,graphicx}",
        *(f"% {' '.join(warning.split())}" for warning in table.warnings),
        r"\begin{table*}",
        r"\centering",
        rf"\caption{{{escape(table.title)}}}",
        *(_latex_warning(warning) for warning in table.warnings),
        r"\small",
        r"\setlength{\tabcolsep}{4pt}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",  # no wider than the page
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        _latex_row([column.label for column in table.columns]),
        r"\midrule",
        *(_latex_row(row) for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}}",
    ]
    if table.notes:
        lines += ["", r"\smallskip", r"\begin{minipage}{\linewidth}\footnotesize\raggedright"]
        lines += [
            _after_break(escape(note)) + (r"\\" if i + 1 < len(table.notes) else "")
            for i, note in enumerate(table.notes)
        ]
        lines.append(r"\end{minipage}")
    return "\n".join([*lines, r"\end{table*}"]) + "\n"


def _latex_warning(text: str) -> str:
    """A paragraph between caption and rows."""
    return rf"\parbox{{\linewidth}}{{\footnotesize\raggedright\textbf{{{escape(text)}}}}}\par\smallskip"


def _latex_row(cells: Sequence[str]) -> str:
    return _after_break(" & ".join(escape(cell) for cell in cells)) + r" \\"


def _after_break(text: str) -> str:
    r"""Keeps a bracket or star at the start of a line from being read as an argument of the `\\` before it."""
    return "{}" + text if text.startswith(("[", "*")) else text


def _csv(tables: Sequence[Table]) -> str:
    """Numbers in full, one line a row over all tables; what a row does not have is left empty."""
    records = [record for table in tables for record in table.records]
    names = list(dict.fromkeys(name for record in records for name in record))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: "" if v is None else v for k, v in record.items()} for record in records)
    return text.getvalue()
