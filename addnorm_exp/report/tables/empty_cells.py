"""Why a cell of a table is empty: a note gives the reason for every –."""

from collections.abc import Collection, Mapping, Sequence

from addnorm_exp.report.protocol.compare import Comparison
from addnorm_exp.report.protocol.groups import Reported
from addnorm_exp.report.protocol.notes import Note, note
from addnorm_exp.report.protocol.outcome import NOTHING
from addnorm_exp.report.tables.render import Column

TESTED = ("difference", "p")  # their reasons come from the comparison


def dash_notes(
    report: Reported,
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    compared: Comparison,
    explained: Mapping[str, Collection[str]],
) -> list[str]:
    """The reasons, one line each. `explained` names, by column, the rows that another note explains."""
    labels = [report.label(group) for group in report.groups]
    silent = [not group.finished for group in report.groups]
    lines = []
    if any(silent) and any(NOTHING in row for row, empty in zip(rows, silent, strict=True) if empty):
        names = [label for label, empty in zip(labels, silent, strict=True) if empty]
        lines.append(f"{NOTHING}: no run of {'; '.join(names)} has finished.")
    lines += compared.reasons(silent)
    by_rows: dict[tuple[str, ...], dict[str, str]] = {}  # labels by column key
    for i, column in enumerate(columns):
        lacking = tuple(
            label
            for label, row, empty in zip(labels, rows, silent, strict=True)
            if row[i] == NOTHING
            and not empty
            and column.key not in TESTED
            and label not in explained.get(column.key, ())
        )
        if lacking and column.key.startswith("published_"):
            lines.append(note(f"P{column.label[1:]}: no number for {'; '.join(lacking)}.", column.key))
        elif lacking and column.key == "lr_sensitivity":
            text = f"{NOTHING} under {column.label}: {'; '.join(lacking)} was not tuned in full at these rates."
            lines.append(note(text, column.key))
        elif lacking:
            by_rows.setdefault(lacking, {})[column.key] = column.label
    return lines + [_unrecorded(lacking, labels) for lacking, labels in by_rows.items()]


def _unrecorded(rows: Sequence[str], columns: Mapping[str, str]) -> Note:
    def text(printed: Collection[str]) -> str | None:
        names = [label for key, label in columns.items() if key in printed]
        return (
            f"{NOTHING} under {'; '.join(names)}: the runs of {'; '.join(rows)} have not recorded it."
            if names
            else None
        )

    return Note(text(columns) or "", text)
