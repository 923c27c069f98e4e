"""How two runs, or two studies, differ: in their configs, in their environment, and in their numbers."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from addnorm_exp.report.load import StudyRuns
from addnorm_exp.report.run import Run, flatten, read_metrics
from addnorm_exp.runs.folder import RunFolder
from addnorm_exp.runs.metrics import metrics_of
from addnorm_exp.words import aligned, counted, signed

SPLITS = ("train", "val", "test")
NOTHING = "–"
LISTED = 12


@dataclass(frozen=True)
class Part:
    """Differences of one kind. `counts`: whether they make the two different; otherwise they are only listed. `valued`: whether rows
    are a key, its two values and their gap."""

    title: str
    rows: tuple[tuple[str, ...], ...]
    counts: bool = True
    valued: bool = False


def runs(first: Run, second: Run) -> list[Part]:
    """The parts in which two runs differ; empty if they are equal."""
    parts = [
        _values("config", _science(first), _science(second)),
        _values("resolved", _resolved(first), _resolved(second), counts=False),
        _values("data", {"sha256": first.data["sha256"][:12]}, {"sha256": second.data["sha256"][:12]}),
        _values("semantics", {"semantics": first.semantics}, {"semantics": second.semantics}),
        _values("execution", _execution(first), _execution(second), counts=False),
        _values("made with", _made_with(first), _made_with(second), counts=False),
        _values("results", _results(first), _results(second)),
        Part("metrics", tuple(row for split in SPLITS for row in _metrics(first, second, split))),
    ]
    return [part for part in parts if part.rows]


def studies(first: StudyRuns, second: StudyRuns) -> list[Part]:
    """The parts in which two studies differ: their plans, their runs, and the numbers of the runs that both have."""
    ours, theirs = ({run.id: run for run in study.runs} for study in (first, second))
    both = [name for name in ours if name in theirs]
    apart = [(name, *_unlike(ours[name], theirs[name])) for name in both if _unlike(ours[name], theirs[name])]
    plan, other = (
        {"tuned": " ".join(study.tuned), "baseline": study.baseline, "phases": " ".join(study.phases)}
        for study in (first, second)
    )
    parts = [
        _values("plan", plan, other),
        Part(f"only in {first.path}", _named(run for name, run in ours.items() if name not in theirs)),
        Part(f"only in {second.path}", _named(run for name, run in theirs.items() if name not in ours)),
        Part(f"results of {len(apart)} of the {len(both)} runs that both have", _cut(apart)),
    ]
    return [part for part in parts if part.rows]


def text(parts: Iterable[Part], heads: tuple[str, str]) -> str:
    """The parts, a row per line; `heads` stand over the two values."""
    lines = []
    for part in parts:
        rows = (("", *heads), *part.rows) if part.valued else part.rows
        columns = itertools.zip_longest(*rows, fillvalue="")
        lines += [part.title, *(f"  {line}" for line in aligned(zip(*columns, strict=True)))]
    return "".join(f"{line}\n" for line in lines)


def _science(run: Run) -> dict[str, Any]:
    """The config without the data's path; the checksum identifies the data."""
    return {"scheme": run.scheme} | {
        key: value for key, value in run.flat.items() if key not in ("data.path", "scheme")
    }


def _resolved(run: Run) -> dict[str, Any]:
    """What the scheme brings besides its method; for initial values, the description and every tensor's deviation."""
    return {key: value for key, value in flatten(run.resolved).items() if not key.startswith("law")}


def _execution(run: Run) -> dict[str, Any]:
    config = RunFolder(run.path).config()
    return flatten((config and config.execution) or {})


def _made_with(run: Run) -> dict[str, Any]:
    summary = run.summary
    device = {f"device {key}": value for key, value in (summary.device or {}).items()}
    attempts = {"attempts": len(summary.attempts or ())}
    time = run.number("step_time_s")
    spent = {} if time is None else {"ms/step": f"{1e3 * time:.3g}"}
    return {**(summary.versions or {}), **device, "git": summary.at("git"), **attempts, **spent}


def _results(run: Run) -> dict[str, Any]:
    names = [metric.name for metric in metrics_of(run.summary) if not metric.rescales]
    keys = [f"{split}.{weights}.{name}" for split in ("val", "test") for weights in ("final", "best") for name in names]
    return {"status": run.status} | {key: run.summary.at(*key.split(".")) for key in ("step", *keys, "val.best.step")}


def _values(title: str, first: Mapping[str, Any], second: Mapping[str, Any], *, counts: bool = True) -> Part:
    return Part(title, _rows(first, second), counts, valued=True)


def _rows(first: Mapping[str, Any], second: Mapping[str, Any]) -> tuple[tuple[str, ...], ...]:
    keys = [key for key in dict.fromkeys((*first, *second)) if first.get(key) != second.get(key)]
    return tuple(
        (key, _cell(first.get(key)), _cell(second.get(key)), _gap(first.get(key), second.get(key))) for key in keys
    )


def _cell(value: Any) -> str:
    return NOTHING if value is None else str(value)


def _gap(first: Any, second: Any) -> str:
    both = all(isinstance(value, float) and math.isfinite(value) for value in (first, second))
    return f"({signed(second - first, '.3g')})" if both else ""


def _metrics(first: Run, second: Run, split: str) -> list[tuple[str, ...]]:
    """One row per scalar that differs at a common step, and one row if the steps differ."""
    ours, theirs = read_metrics(first, split), read_metrics(second, split)
    a, b = (columns.get("step", np.empty(0, np.int64)) for columns in (ours, theirs))
    steps = np.intersect1d(a, b)
    rows: list[tuple[str, ...]] = []
    if len(steps) < max(len(a), len(b)):
        rows.append((split, f"{counted(len(a), 'step')} in the first, {len(b)} in the second, {len(steps)} in both"))
    for name in sorted({*ours} & {*theirs} - {"step"}):
        x, y = ours[name][np.isin(a, steps)], theirs[name][np.isin(b, steps)]
        unequal = ~((x == y) | (np.isnan(x) & np.isnan(y)))
        if unequal.any():
            largest = np.nanmax(np.abs(x - y), initial=0.0)
            where = f"differs at {unequal.sum()} of {counted(len(steps), 'step')}, first at {steps[unequal][0]}, by at most {largest:.3g}"
            rows.append((f"{split} {name}", where))
    return rows


def _unlike(first: Run, second: Run) -> tuple[str, ...]:
    """How the results of one run in two places differ, in a few words; empty if they are equal."""
    rows = _rows(_results(first), _results(second))
    return (" ".join(part for part in rows[0] if part),) if rows else ()


def _named(runs: Iterable[Run]) -> tuple[tuple[str, ...], ...]:
    rows = [(run.id, run.status, f"optim.lr={run.flat.get('optim.lr')} seed={run.seed}") for run in runs]
    return _cut(rows)


def _cut(rows: Sequence[tuple[str, ...]]) -> tuple[tuple[str, ...], ...]:
    return tuple(rows) if len(rows) <= LISTED else (*rows[:LISTED], (f"and {len(rows) - LISTED} more",))
