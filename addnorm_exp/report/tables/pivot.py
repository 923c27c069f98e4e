"""The same numbers over chosen axes, e.g. schemes against init laws: one number per cell.

An axis is a config key, or several together ("scheme,init.law"). A tuned key has only its winner in the report phase, so a pivot over
it shows the tuning runs, by their validation metric. There is one table for each value of the axes that are neither rows nor columns.
"""

from collections.abc import Sequence
from typing import Any

from addnorm_exp.config.keys import nearest_key
from addnorm_exp.errors import UserError
from addnorm_exp.grouping import grouped
from addnorm_exp.report.load import StudyRuns
from addnorm_exp.report.protocol import notes
from addnorm_exp.report.protocol.groups import Group, Reported, axes_of, groups_of, key_of, labelled, reported, value_of
from addnorm_exp.report.protocol.metric import Budget, Measure, choose
from addnorm_exp.report.protocol.outcome import NOTHING, shared_places
from addnorm_exp.report.protocol.titles import value_title
from addnorm_exp.report.tables.render import Column, Table
from addnorm_exp.runs.winners import Pairs
from addnorm_exp.words import show


def pivot(
    study: StudyRuns,
    rows: str,
    cols: str | None,
    *,
    metric: str | None = None,
    budget: Budget | None = None,
    labels: str = "names",
) -> list[Table]:
    """Tables with the values of `rows` down and those of `cols` across; without `cols` the metric is the only column.

    Each is one or more config keys, separated by commas. `metric` and `budget` as in `table.build`.

    Raises:
        UserError: no run's config has the axis; an axis occurs twice; `metric.choose` refuses the metric or budget.
    """
    down, across = _axes("--rows", rows, study), _axes("--cols", cols, study) if cols else ()
    if twice := [axis for axis in down if axis in across]:
        raise UserError(f"--rows={rows} --cols={cols}: {twice[0]} is in both; choose different axes")
    tuning = any(axis in study.tuned for axis in (*down, *across)) and "tune" in study.phases
    if tuning:
        runs = study.phases["tune"]
        axes = axes_of(study, runs)
        report = Reported("tune", groups_of(runs, axes), axes, {})
    else:
        report = reported(study)
    report = labelled(report, study, labels)
    for axis in (*down, *across):
        if any(len({repr(value_of(run, axis)) for run in group.runs}) > 1 for group in report.groups):
            raise UserError(f"axis {axis}: has several values within one row of the report; choose another axis")
    chosen = choose(report, metric, budget, validation=tuning)
    others = [a for a in report.varying if a not in (*down, *across) and len({repr(g[a]) for g in report.groups}) > 1]
    tables = grouped(report.groups, lambda group: tuple((axis, group[axis]) for axis in others))
    lines = _notes(study, report, chosen, tuning)
    above = notes.above(study, report)
    return [_one(study, report, groups, down, across, chosen, key, lines, above) for key, groups in tables.items()]


def _axes(flag: str, text: str, study: StudyRuns) -> tuple[str, ...]:
    """The config keys named in `text`."""
    known = {"scheme", *(key for run in study.runs for key in run.flat)}
    axes = tuple(part.strip() for part in text.split(","))
    for axis in axes:
        if axis == "seed":
            raise UserError(f"{flag}=seed: a cell contains all seeds; choose another axis, e.g. scheme")
        if axis not in known:
            raise UserError(f"{flag}={axis}: no run has this axis; {nearest_key(axis, sorted(known))}")
    if len(set(axes)) < len(axes):
        raise UserError(f"{flag}={text}: names an axis twice; remove one of them")
    return axes


def _notes(study: StudyRuns, report: Reported, chosen: Measure, tuning: bool) -> list[str]:
    lines = [f"Cells: {chosen.label}.", *chosen.notes]
    lines += ["Runs: tuning phase, every candidate."] if tuning else notes.phase_notes(report)
    lines += [*notes.semantics_notes(study), *notes.seed_notes(report.groups)]
    if chosen.result and any(run.status == "diverged" for group in report.groups for run in group.runs):
        lines.append(
            "A cell with diverged runs shows their number and the median that counts them as worst; never a mean."
        )
    if not tuning:
        lines += notes.tuning_notes(study, report)
    return lines + notes.run_notes(study)


def _ordered(values: Sequence[Pairs]) -> list[Pairs]:
    """By size if every key has only numbers, else in the study's order."""
    distinct = list(dict.fromkeys(values))
    numeric = all(isinstance(v, int | float) for pairs in distinct for _, v in pairs)
    return sorted(distinct, key=lambda pairs: [v for _, v in pairs]) if numeric else distinct


def _one(
    study: StudyRuns,
    report: Reported,
    groups: Sequence[Group],
    rows: tuple[str, ...],
    cols: tuple[str, ...],
    chosen: Measure,
    key: Pairs,
    lines: Sequence[str],
    above: tuple[str, ...],
) -> Table:
    cells = {(key_of(g.runs[0], rows), key_of(g.runs[0], cols)): g for g in groups if g.runs}
    down, across = _ordered([r for r, _ in cells]), _ordered([c for _, c in cells])
    places = shared_places(chosen.of(group) for group in cells.values())
    absent, silent = [], []
    texts: list[list[str]] = []
    records: list[dict[str, Any]] = []
    for row in down:
        line = [show(v) if report.titles is None else value_title(a, v, report.titles) for a, v in row]
        for col in across:
            group = cells.get((row, col))
            result = chosen.of(group) if group else None
            edge = notes.EDGE * bool(group and report.edge(group))
            line.append(result.text(places) + edge if result and result.n else NOTHING)
            if group is None:
                absent.append(report.words((*row, *col)))
            elif result and not result.n and chosen.steps is None:
                silent.append((report.words((*row, *col)), bool(group.finished)))
            if group and result:
                facts = {"study": study.name, **dict(row), **dict(col), **dict(key), "n": result.n}
                records.append(facts | {"diverged": len(result.diverged)} | result.columns(chosen.key))
        texts.append(line)
    by = f"{', '.join(rows)} by {', '.join(cols)}" if cols else f"by {', '.join(rows)}"
    title = f"{study.name}: {chosen.label}, {by}" + (f" ({report.words(key)})" if key else "")
    heads = [Column(axis, report.heading(axis), right=False, axis=True) for axis in rows]
    heads += [Column(_key(col) or chosen.key, report.words(col) or chosen.label) for col in across]
    explained = [*lines, *_reasons(absent, silent)]
    return Table(title, heads, texts, explained, records, warnings=above, name=study.name)


def _reasons(absent: Sequence[str], silent: Sequence[tuple[str, bool]]) -> list[str]:
    """Why cells are empty."""
    unfinished = [name for name, finished in silent if not finished]
    unrecorded = [name for name, finished in silent if finished]
    lines = [f"{NOTHING}: the study has no runs of {'; '.join(absent)}."] * bool(absent)
    lines += [f"{NOTHING}: no run of {'; '.join(unfinished)} has finished."] * bool(unfinished)
    return lines + [f"{NOTHING}: the runs of {'; '.join(unrecorded)} have not recorded it."] * bool(unrecorded)


def _key(pairs: Pairs) -> str:
    return ",".join(f"{axis}={show(value)}" for axis, value in pairs)
