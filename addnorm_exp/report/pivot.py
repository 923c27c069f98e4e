"""The same numbers over two axes of one's choice, e.g. schemes against init laws: one headline number a cell.

An axis that was tuned has only its winner in the report phase; a pivot over it shows the tuning runs, by their validation metric.
Axes that are neither rows nor columns give a table each.
"""

from typing import Any

from addnorm_exp.config.keys import nearest_key
from addnorm_exp.errors import UserError
from addnorm_exp.report import notes
from addnorm_exp.report.groups import Group, Reported, axes_of, groups_of, label, reported, show, value_of
from addnorm_exp.report.load import Study
from addnorm_exp.report.outcome import NOTHING
from addnorm_exp.report.render import Column, Table
from addnorm_exp.report.table import measure, metric_of, unit_of


def pivot(study: Study, rows: str, cols: str) -> list[Table]:
    """Tables with the values of axis `rows` down and those of `cols` across.

    Raises:
        UserError: an axis that no run's config has, or twice the same.
    """
    known = {"scheme", *(key for run in study.runs for key in run.flat)}
    for flag, axis in (("--rows", rows), ("--cols", cols)):
        if axis == "seed":
            raise UserError(f"{flag}=seed: a cell holds every seed; choose another axis, e.g. scheme")
        if axis not in known:
            raise UserError(f"{flag}={axis}: no run has this axis; {nearest_key(axis, sorted(known))}")
    if rows == cols:
        raise UserError(f"--rows={rows} --cols={cols}: two different axes are needed")
    tuning = [axis for axis in (rows, cols) if axis in study.tuned]
    if tuning and "tune" in study.phases:
        runs = study.phases["tune"]
        axes = axes_of(study, runs)
        shown = Reported("tune", groups_of(runs, axes), axes, {})
        split, unit = "val", unit_of(runs)
    else:
        shown = reported(study)
        split, unit = metric_of([run for group in shown.groups for run in group.runs])
    for axis in (rows, cols):
        if any(len({repr(value_of(run, axis)) for run in group.runs}) > 1 for group in shown.groups):
            raise UserError(f"axis {axis}: has several values within one row of the report; choose another axis")
    others = [a for a in shown.varying if a not in (rows, cols) and len({repr(g[a]) for g in shown.groups}) > 1]
    tables: dict[tuple[tuple[str, Any], ...], list[Group]] = {}
    for group in shown.groups:
        tables.setdefault(tuple((axis, group[axis]) for axis in others), []).append(group)
    lines = [f"Cells: {'validation' if split == 'val' else split} {unit} of the final weights."]
    if tuning:
        lines.append("Runs: tuning phase, every candidate.")
    else:
        lines += notes.phase_notes(shown)
    lines += notes.semantics_notes(study)
    lines += notes.seed_notes(shown.groups) if shown.groups else []
    if any(run.status == "diverged" for group in shown.groups for run in group.runs):
        lines.append("Where a run diverged: how many, and the median with those as worst; never a mean.")
    if not tuning:
        lines += [line.removeprefix(f"{notes.EDGE} ") for line in notes.tuning_notes(study, shown)]
    lines += notes.run_notes(study)
    return [_one(study, groups, rows, cols, split, unit, key, lines) for key, groups in tables.items()]


def _ordered(values: list[Any]) -> list[Any]:
    """Numbers by size, anything else as the study has it."""
    distinct = list(dict.fromkeys(values))
    return sorted(distinct) if all(isinstance(v, int | float) for v in distinct) else distinct


def _one(
    study: Study,
    groups: list[Group],
    rows: str,
    cols: str,
    split: str,
    unit: str,
    key: tuple[tuple[str, Any], ...],
    lines: list[str],
) -> Table:
    cells = {(value_of(g.runs[0], rows), value_of(g.runs[0], cols)): g for g in groups if g.runs}
    down, across = _ordered([r for r, _ in cells]), _ordered([c for _, c in cells])
    texts, records = [], []
    for row in down:
        line = [show(row)]
        for col in across:
            group = cells.get((row, col))
            found = measure(group, split, "final", unit) if group else None
            line.append(found.text() if found else NOTHING)
            if group and found:
                facts = {"study": study.name, rows: row, cols: col, **dict(key), "n": found.n}
                records.append(facts | {"diverged": len(found.diverged)} | found.columns(f"{split}_{unit}"))
        texts.append(line)
    title = f"{study.name}: {split} {unit}, {rows} by {cols}" + (f" ({label(key)})" if key else "")
    heads = [Column(rows, rows, right=False), *(Column(f"{cols}={show(c)}", label(((cols, c),))) for c in across)]
    return Table(title, heads, texts, lines, records)
