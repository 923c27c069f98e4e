"""A table, with columns, rows of text and notes, and its formats: Markdown (aligned, readable in a terminal), LaTeX (booktabs), CSV."""

import csv
import io
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from addnorm_exp.errors import UserError, nearest
from addnorm_exp.report.tables.latex import escape

FORMATS = ("md", "latex", "csv")
NUMBER = re.compile(r"(?P<sign>[+-]?)(?P<whole>\d[\d,]*)(\.(?P<part>\d+))?( ± (?P<half>\d[\d,]*(\.\d+)?))?(?P<mark>†?)")


@dataclass(frozen=True)
class Column:
    """`key` is its name in CSV and in code, `label` its heading in the printed table."""

    key: str
    label: str
    right: bool = True  # aligned right, as numbers are
    axis: bool = False  # distinguishes rows


@dataclass(frozen=True)
class Table:
    """`rows` are texts, one per column; `records` are the same rows as {name: number or text}, in full precision.

    `warnings` are lines that a reader must see before the numbers: they are above the rows, `notes` below.
    """

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    records: Sequence[dict[str, Any]] = field(default=())
    warnings: tuple[str, ...] = ()  # above the rows
    name: str = ""  # of the study
    bold: Mapping[str, Collection[int]] = field(default_factory=dict)  # rows by column key; only in LaTeX
    bold_note: str = ""

    def __getitem__(self, key: str) -> list[str]:
        """One column's texts."""
        index = [column.key for column in self.columns].index(key)
        return [row[index] for row in self.rows]


def render(tables: Sequence[Table], form: str = "md", *, caption: str | None = None, label: str | None = None) -> str:
    """All tables, in one text that ends with a newline. `caption` and `label` are for LaTeX; labels of several tables are numbered."""
    if form not in FORMATS:
        raise UserError(f"--format={form}: unknown; {nearest(form, FORMATS)}")
    if form == "csv":
        return _csv(tables)
    if form == "md":
        return "\n".join(map(markdown, tables))
    labels = [label or f"tab:{re.sub(r'[^A-Za-z0-9]+', '-', table.name or table.title).strip('-')}" for table in tables]
    labels = [
        name if labels.count(name) == 1 else f"{name}-{1 + labels[:i].count(name)}" for i, name in enumerate(labels)
    ]
    return "\n".join(latex(table, caption, name) for table, name in zip(tables, labels, strict=True))


def markdown(table: Table) -> str:
    cells = [[column.label for column in table.columns], *table.rows]
    cells = [[_inline(cell).replace("|", "\\|") for cell in row] for row in cells]
    widths = [max(3, *(_width(row[i]) for row in cells)) for i in range(len(table.columns))]
    lines = [f"### {_inline(table.title)}", ""]
    lines += [line for warning in table.warnings for line in (f"**{_inline(warning)}**", "")]
    padded = [[_pad(cell, w, c.right) for cell, w, c in zip(row, widths, table.columns, strict=True)] for row in cells]
    rules = ["-" * (w - 1) + ":" if c.right else "-" * w for w, c in zip(widths, table.columns, strict=True)]
    lines += [f"| {' | '.join(row)} |" for row in (padded[0], rules, *padded[1:])]
    if table.notes:
        lines += ["", *(f"- {_inline(note)}" for note in table.notes)]
    return "\n".join(lines) + "\n"


def _inline(text: str) -> str:
    """Text for Markdown: characters that Markdown would read as code, emphasis or HTML are escaped."""
    return re.sub(r"([\\`*]|<(?=[A-Za-z/!?]))", r"\\\1", " ".join(text.split()))


def _width(text: str) -> int:
    """The width in a terminal."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _pad(text: str, width: int, right: bool) -> str:
    blank = " " * (width - _width(text))
    return blank + text if right else text + blank


def latex(table: Table, caption: str | None = None, label: str = "") -> str:
    """A `table*` float for `\\usepackage{booktabs,graphicx,siunitx}`; the notes are below the rows, in small type."""
    numbers = [numeric(column, [row[i] for row in table.rows]) for i, column in enumerate(table.columns)]
    columns = "".join(
        f"S[{form}]" if form else "r" if column.right else "l"
        for form, column in zip(numbers, table.columns, strict=True)
    )
    heads = [
        f"{{{escape(c.label)}}}" if form else escape(c.label) for c, form in zip(table.columns, numbers, strict=True)
    ]
    lines = [
        r"% needs \usepackage{booktabs,graphicx,siunitx}",
        *(f"% {' '.join(warning.split())}" for warning in table.warnings),
        r"\begin{table*}",
        r"\centering",
        rf"\caption{{{escape(table.title if caption is None else caption)}}}",
        *([rf"\label{{{label}}}"] if label else []),
        *(_latex_warning(warning) for warning in table.warnings),
        r"\small",
        r"\setlength{\tabcolsep}{4pt}",
        r"\sisetup{detect-weight=true,mode=text,separate-uncertainty=true,table-align-uncertainty=true,table-align-text-post=false,"
        r"group-separator={,},group-minimum-digits=4,group-digits=integer}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",  # no wider than the page
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        _after_break(" & ".join(heads)) + r" \\",
        r"\midrule",
        *(_latex_row(table, numbers, place) for place in range(len(table.rows))),
        r"\bottomrule",
        r"\end{tabular}}",
    ]
    notes = [*table.notes, *([table.bold_note] if table.bold_note and table.bold else [])]
    if notes:
        lines += ["", r"\smallskip", r"\begin{minipage}{\linewidth}\footnotesize\raggedright"]
        lines += [_after_break(escape(note)) + (r"\\" if i + 1 < len(notes) else "") for i, note in enumerate(notes)]
        lines.append(r"\end{minipage}")
    return "\n".join([*lines, r"\end{table*}"]) + "\n"


def _latex_warning(text: str) -> str:
    """A paragraph between caption and rows."""
    return rf"\parbox{{\linewidth}}{{\footnotesize\raggedright\textbf{{{escape(text)}}}}}\par\smallskip"


def numeric(column: Column, cells: Sequence[str]) -> str | None:
    """siunitx's format of a column of single numbers, which may have ± and †; None for other columns."""
    parts = [match for cell in cells if (match := NUMBER.fullmatch(cell))]
    if (
        not column.right or not parts or column.key == "p"
    ):  # p has three decimals or is <0.001: right-aligned, points are aligned
        return None
    whole = max(len(part["whole"].replace(",", "")) for part in parts)
    digits = max(len(part["part"] or "") for part in parts)
    half = max(
        (len(part["half"].replace(".", "").replace(",", "").lstrip("0")) for part in parts if part["half"]), default=0
    )
    sign = "+" if any(part["sign"] for part in parts) else ""
    form = f"table-format={sign}{whole}.{digits}" + (f"({half})" if half else "")
    return form + (r",table-space-text-post={\textsuperscript{\textdagger}}" if any(p["mark"] for p in parts) else "")


def _latex_row(table: Table, numbers: Sequence[str | None], place: int) -> str:
    cells = []
    for cell, form, column in zip(table.rows[place], numbers, table.columns, strict=True):
        number = NUMBER.fullmatch(cell) if form else None
        strong = r"\bfseries " if place in table.bold.get(column.key, ()) else ""
        if number:
            text = cell.removesuffix("†").replace(",", "").replace(" ± ", "+-")
            cells.append(strong + text + (r"{\textsuperscript{\textdagger}}" if number["mark"] else ""))
        else:
            cells.append(f"{{{strong}{escape(cell)}}}" if form or strong else escape(cell))
    return _after_break(" & ".join(cells)) + r" \\"


def _after_break(text: str) -> str:
    r"""Prevents a bracket or star at the start of a line from being read as an argument of the `\\` before it."""
    return "{}" + text if text.startswith(("[", "*")) else text


def _csv(tables: Sequence[Table]) -> str:
    """Numbers in full precision, one line per row of all tables; missing values are empty."""
    records = [record for table in tables for record in table.records]
    names = list(dict.fromkeys(name for record in records for name in record))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: "" if v is None else v for k, v in record.items()} for record in records)
    return text.getvalue()
