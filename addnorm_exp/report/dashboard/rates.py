"""Final validation loss against learning rate, as the picture of `main.py plot` has it (report/sensitivity.py)."""

from collections.abc import Sequence
from typing import Any

from addnorm_exp.report.dashboard.runs import scheme_names
from addnorm_exp.report.groups import Group, Pairs, Reported, axes_of, groups_of, label
from addnorm_exp.report.load import Study
from addnorm_exp.report.metric import unit_of
from addnorm_exp.report.rates import KEY, best_setting, mean_score
from addnorm_exp.report.record import Run


def rates(study: Study, shown: Reported, runs: Sequence[Run]) -> dict[str, Any] | None:
    """A panel for each value of the axes besides the scheme; in it a line a scheme: `points` [rate, loss, place of the run, diverged],
    `means` [rate, mean by the protocol, diverged, n], `best` the rate of the least mean. None where there are not two rates to compare.
    """
    ended = [
        run for run in study.phases.get("tune") or study.phases.get("run") or () if run.finished and KEY in run.flat
    ]
    if len({run.flat[KEY] for run in ended}) < 2:
        return None
    unit = unit_of(ended)
    uniform = next((v for run in ended if (v := run.number("uniform", unit)) is not None), None)
    axes = axes_of(study, ended, (*study.tuned, KEY))
    panels: dict[Pairs, list[Group]] = {}
    for group in groups_of(ended, axes):
        panels.setdefault(tuple(pair for pair in group.key if pair[0] != "scheme"), []).append(group)
    place = {run.id: i for i, run in enumerate(runs)}
    names = scheme_names(study, shown)
    return {
        "unit": unit,
        "uniform": uniform,
        "phase": "tune" if study.phases.get("tune") else "run",
        "panels": [
            {"label": label(key), "lines": [_line(group, unit, uniform, place, names) for group in members]}
            for key, members in panels.items()
        ],
    }


def _line(group: Group, unit: str, uniform: float | None, place: dict[str, int], names: list[str]) -> dict[str, Any]:
    points, means = [], []
    for rate in sorted({float(run.flat[KEY]) for run in group.runs}):
        scored = best_setting([run for run in group.runs if float(run.flat[KEY]) == rate], unit, uniform)
        if not scored:
            continue
        gone = [run.status == "diverged" for run, _ in scored]
        points += [[rate, value, place[run.id], lost] for (run, value), lost in zip(scored, gone, strict=True)]
        means.append([rate, mean_score(scored, uniform), sum(gone), len(scored)])
    best = min(means, key=lambda mean: (mean[1], mean[2]))[0] if means else None
    return {
        "scheme": names.index(group.runs[0].scheme),
        "points": points,
        "means": means,
        "best": best,
    }
