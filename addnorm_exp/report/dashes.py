"""Why a cell of a table is empty: every – has its reason in a note."""

from collections.abc import Collection, Mapping, Sequence

from addnorm_exp.report.compare import Comparison
from addnorm_exp.report.groups import Reported
from addnorm_exp.report.outcome import NOTHING
from addnorm_exp.report.render import Column

TESTED = ("difference", "p")  # their reasons come from the comparison


def dash_notes(
    shown: Reported,
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    compared: Comparison,
    explained: Mapping[str, Collection[str]],
) -> list[str]:
    """The reasons, a line each; `explained` names by column the rows of which another note speaks."""
    labels = [shown.label(group) for group in shown.groups]
    silent = [not group.finished for group in shown.groups]
    lines = []
    if any(silent) and any(NOTHING in row for row, empty in zip(rows, silent, strict=True) if empty):
        names = [label for label, empty in zip(labels, silent, strict=True) if empty]
        lines.append(f"{NOTHING}: no run has finished of {'; '.join(names)}.")
    lines += compared.reasons(silent)
    by_rows: dict[tuple[str, ...], list[str]] = {}
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
            lines.append(f"P{column.label[1:]}: none is given for {'; '.join(lacking)}.")
        elif lacking and column.key == "lr_sensitivity":
            lines.append(f"{NOTHING} under {column.label}: {'; '.join(lacking)} was not tuned in full at these rates.")
        elif lacking:
            by_rows.setdefault(lacking, []).append(column.label)
    lines += [
        f"{NOTHING} under {'; '.join(names)}: the runs of {'; '.join(lacking)} have not recorded it."
        for lacking, names in by_rows.items()
    ]
    return lines
