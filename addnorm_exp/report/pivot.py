"""The same numbers over axes of one's choice, e.g. schemes against init laws: one number a cell.

An axis is a config key, or several together ("scheme,init.law"). A key that was tuned has only its winner in the report phase; a pivot
over it shows the tuning runs, by their validation metric. Axes that are neither rows nor columns give a table each.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from addnorm_exp.config.keys import nearest_key
from addnorm_exp.errors import UserError
from addnorm_exp.report import notes
from addnorm_exp.report.groups import Group, Reported, axes_of, groups_of, key_of, reported, value_of
from addnorm_exp.report.load import Study
from addnorm_exp.report.metric import Budget, Metric, choose
from addnorm_exp.report.outcome import NOTHING, shared_places
from addnorm_exp.report.render import Column, Table
from addnorm_exp.report.titles import titles_of, value_title
from addnorm_exp.runs.winners import Pairs
from addnorm_exp.words import show


def pivot(
    study: Study,
    rows: str,
    cols: str | None,
    *,
    metric: str | None = None,
    budget: Budget | None = None,
    labels: str = "names",
) -> list[Table]:
    """Tables with the values of `rows` down and those of `cols` across; without `cols` the metric is the one column.

    Each is a config key or several, parted by commas. `metric` and `budget` as in `table.build`.

    Raises:
        UserError: an axis that no run's config has, or twice the same; what `metric.choose` refuses.
    """
    down, across = _axes("--rows", rows, study), _axes("--cols", cols, study) if cols else ()
    twice = [axis for axis in down if axis in across]
    if twice:
        raise UserError(f"--rows={rows} --cols={cols}: two different axes are needed, {twice[0]} is in both")
    tuning = any(axis in study.tuned for axis in (*down, *across)) and "tune" in study.phases
    if tuning:
        runs = study.phases["tune"]
        axes = axes_of(study, runs)
        shown = Reported("tune", groups_of(runs, axes), axes, {})
    else:
        shown = reported(study)
    if labels == "titles":
        shown = replace(shown, titles=titles_of(study))
    for axis in (*down, *across):
        if any(len({repr(value_of(run, axis)) for run in group.runs}) > 1 for group in shown.groups):
            raise UserError(f"axis {axis}: has several values within one row of the report; choose another axis")
    chosen = choose(shown, metric, budget, validation=tuning)
    others = [a for a in shown.varying if a not in (*down, *across) and len({repr(g[a]) for g in shown.groups}) > 1]
    tables: dict[Pairs, list[Group]] = {}
    for group in shown.groups:
        tables.setdefault(tuple((axis, group[axis]) for axis in others), []).append(group)
    lines = _notes(study, shown, chosen, tuning)
    above = notes.above(study, shown)
    return [_one(study, shown, groups, down, across, chosen, key, lines, above) for key, groups in tables.items()]


def _axes(flag: str, text: str, study: Study) -> tuple[str, ...]:
    """The config keys named in `text`."""
    known = {"scheme", *(key for run in study.runs for key in run.flat)}
    axes = tuple(part.strip() for part in text.split(","))
    for axis in axes:
        if axis == "seed":
            raise UserError(f"{flag}=seed: a cell holds every seed; choose another axis, e.g. scheme")
        if axis not in known:
            raise UserError(f"{flag}={axis}: no run has this axis; {nearest_key(axis, sorted(known))}")
    if len(set(axes)) < len(axes):
        raise UserError(f"{flag}={text}: names one axis twice")
    return axes


def _notes(study: Study, shown: Reported, chosen: Metric, tuning: bool) -> list[str]:
    lines = [f"Cells: {chosen.label}.", *chosen.notes]
    lines += ["Runs: tuning phase, every candidate."] if tuning else notes.phase_notes(shown)
    lines += notes.semantics_notes(study)
    lines += notes.seed_notes(shown.groups) if shown.groups else []
    if chosen.result and any(run.status == "diverged" for group in shown.groups for run in group.runs):
        lines.append("Where a run diverged: how many, and the median with those as worst; never a mean.")
    if not tuning:
        lines += notes.tuning_notes(study, shown)
    return lines + notes.run_notes(study)


def _ordered(values: Sequence[Pairs]) -> list[Pairs]:
    """By size where every key has numbers only, else as the study has them."""
    distinct = list(dict.fromkeys(values))
    numeric = all(isinstance(v, int | float) for pairs in distinct for _, v in pairs)
    return sorted(distinct, key=lambda pairs: [v for _, v in pairs]) if numeric else distinct


def _one(
    study: Study,
    shown: Reported,
    groups: Sequence[Group],
    rows: tuple[str, ...],
    cols: tuple[str, ...],
    chosen: Metric,
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
        line = [show(v) if shown.titles is None else value_title(a, v, shown.titles) for a, v in row]
        for col in across:
            group = cells.get((row, col))
            found = chosen.of(group) if group else None
            edge = notes.EDGE * bool(group and group.key in shown.winners and shown.winners[group.key].edge)
            line.append(found.text(places) + edge if found and found.n else NOTHING)
            if group is None:
                absent.append(shown.words((*row, *col)))
            elif found and not found.n and chosen.steps is None:
                silent.append((shown.words((*row, *col)), bool(group.finished)))
            if group and found:
                facts = {"study": study.name, **dict(row), **dict(col), **dict(key), "n": found.n}
                records.append(facts | {"diverged": len(found.diverged)} | found.columns(chosen.key))
        texts.append(line)
    by = f"{', '.join(rows)} by {', '.join(cols)}" if cols else f"by {', '.join(rows)}"
    title = f"{study.name}: {chosen.label}, {by}" + (f" ({shown.words(key)})" if key else "")
    heads = [Column(axis, shown.heading(axis), right=False, axis=True) for axis in rows]
    heads += [Column(_key(col) or chosen.key, shown.words(col) or chosen.label) for col in across]
    explained = [*lines, *_reasons(absent, silent)]
    return Table(title, heads, texts, explained, records, warnings=above, name=study.name)


def _reasons(absent: Sequence[str], silent: Sequence[tuple[str, bool]]) -> list[str]:
    """Why cells are empty."""
    unfinished = [name for name, finished in silent if not finished]
    unrecorded = [name for name, finished in silent if finished]
    lines = [f"{NOTHING}: the study has no runs of {'; '.join(absent)}."] * bool(absent)
    lines += [f"{NOTHING}: no run has finished of {'; '.join(unfinished)}."] * bool(unfinished)
    return lines + [f"{NOTHING}: the runs of {'; '.join(unrecorded)} have not recorded it."] * bool(unrecorded)


def _key(pairs: Pairs) -> str:
    return ",".join(f"{axis}={show(value)}" for axis, value in pairs)
