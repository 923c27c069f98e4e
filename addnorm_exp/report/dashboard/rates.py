"""The final validation against the learning rate, as in the picture of `main.py plot` (report/figures/sensitivity.py)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from addnorm_exp.report.load import StudyRuns
from addnorm_exp.report.protocol.groups import Group, Reported, schemes
from addnorm_exp.report.protocol.learning_rates import Line, lost, tried
from addnorm_exp.report.protocol.titles import titles_of
from addnorm_exp.report.run import Run
from addnorm_exp.runs.metrics import Metric


def rates(study: StudyRuns, report: Reported, runs: Sequence[Run]) -> dict[str, Any] | None:
    """One panel for each value of the axes besides the scheme, with one line per scheme: `points` [rate, value, place of the run,
    diverged], `means` [rate, mean by the protocol, diverged, n], `best` the rate with the best mean. None with fewer than two rates.
    """
    trials = tried(study)
    if trials is None:
        return None
    place = {run.id: i for i, run in enumerate(runs)}
    names = schemes(study, report)
    titled = replace(report, titles=titles_of(study))
    return {
        "label": trials.metric.label,
        "trivial": trials.metric.trivial,
        "trivially": trials.metric.trivially,
        "phase": trials.phase,
        "panels": [
            {
                "label": titled.words(key),
                "lines": [_line(group, trials.metric, place, names) for group in members],
            }
            for key, members in trials.panels.items()
        ],
    }


def _line(group: Group, metric: Metric, place: dict[str, int], names: list[str]) -> dict[str, Any]:
    line = Line.of(group, metric)
    return {
        "scheme": names.index(group.runs[0].scheme),
        "points": [
            [rate, value, place[run.id], run.status == "diverged"]
            for rate, scored in line.scored.items()
            for run, value in scored
        ],
        "means": [[rate, mean, lost(line.scored[rate]), len(line.scored[rate])] for rate, mean in line.means.items()],
        "best": line.best,
    }
