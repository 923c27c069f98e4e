"""The columns of a printed table that the user chooses. A note goes with its columns, and one names the omitted
columns that differ between rows."""

from collections.abc import Sequence
from dataclasses import replace

from addnorm_exp.errors import UserError, nearest
from addnorm_exp.report.protocol.notes import EDGE, Note
from addnorm_exp.report.tables.render import Table

PAGE = 388.0  # points: the text width of LaTeX's article, in a font of 9 points that is shrunk to 8 at most
LETTER, GAP = 4.6, 8.0  # widths of a letter in that font, and of the space between columns
RESULTS = ("difference", "p")  # they follow the metric in every choice


def choose_columns(table: Table, names: Sequence[str]) -> Table:
    """The table with its axes and these columns, in this order; each is named by its key (as in CSV) or its heading.

    Raises:
        UserError: no column has this name.
    """
    axes = [i for i, column in enumerate(table.columns) if column.axis]
    places = {column.label: i for i, column in enumerate(table.columns)}
    places |= {column.key: i for i, column in enumerate(table.columns)}
    chosen = list(axes)
    for name in names:
        if name not in places:
            known = [column.key for column in table.columns if not column.axis]
            raise UserError(
                f"--columns={name}: the table has no such column (values that all rows share are in a note); {nearest(name, known)}"
            )
        chosen += [places[name]] * (places[name] not in chosen)
    return _with(table, chosen)


def page(table: Table, tuned: Sequence[str] = ()) -> Table:
    """The axes, the metric, its difference, p, and of the others, tuned keys first, as many as a page is wide."""
    fixed = _results(table)
    room = PAGE - sum(_points(table, i) for i in fixed)
    others = [i for i in range(len(table.columns)) if i not in fixed]
    kept = list(fixed)
    for i in sorted(others, key=lambda i: (table.columns[i].key not in tuned, i)):
        if _points(table, i) > room:
            break
        room -= _points(table, i)
        kept.append(i)
    return _with(table, sorted(kept)) if len(kept) < len(table.columns) else table


def _points(table: Table, i: int) -> float:
    return GAP + LETTER * max(len(text) for text in (table.columns[i].label, *(row[i] for row in table.rows)))


def brief(table: Table) -> Table:
    """The axes, the metric, its difference to the baseline and p."""
    return _with(table, _results(table))


def _results(table: Table) -> list[int]:
    metric = _metric(table)
    return [i for i, column in enumerate(table.columns) if column.axis or i == metric or column.key in RESULTS]


def _metric(table: Table) -> int:
    """The first column after the axes."""
    return next(i for i, column in enumerate(table.columns) if not column.axis)


def _with(table: Table, chosen: Sequence[int]) -> Table:
    hidden = [
        column.label
        for i, column in enumerate(table.columns)
        if i not in chosen and len({row[i] for row in table.rows}) > 1
    ]
    keys = [table.columns[i].key for i in chosen]
    notes = [note.within(keys) if isinstance(note, Note) else note for note in table.notes]
    omitted = f"Omitted columns that differ between the rows: {'; '.join(hidden)}."
    return replace(
        table,
        columns=[table.columns[i] for i in chosen],
        rows=_marked(table, chosen),
        notes=[*(note for note in notes if note), *([omitted] if hidden else [])],
        bold={key: rows for key, rows in table.bold.items() if key in keys},
    )


def _marked(table: Table, chosen: Sequence[int]) -> list[list[str]]:
    """The rows' chosen cells. The mark of an omitted column, of a tuned key at its edge, is on the metric instead."""
    metric = _metric(table)
    omitted = [i for i in range(len(table.columns)) if i not in chosen]
    marked = [any(row[i].endswith(EDGE) for i in omitted) for row in table.rows]
    return [
        [row[i] + EDGE * (i == metric and mark) for i in chosen] for row, mark in zip(table.rows, marked, strict=True)
    ]
