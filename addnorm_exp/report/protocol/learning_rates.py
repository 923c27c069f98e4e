"""The primary metric against the learning rate in the tuning phase: data of pictures (figures/sensitivity.py, dashboard/rates.py), and a
score.

The score is that of Wortsman et al. 2023 (2309.14322): E over learning rates of min(loss, loss₀) − the smallest of them. Here the
expectation is the plain mean over the grid's rates, and the loss of a rate is the mean over tuning seeds of the final validation loss.
loss₀, in the paper the loss at initialisation, is that of the trivial prediction, which is how the protocol scores diverged runs. Of a
metric that is better higher, the same with signs reversed.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from addnorm_exp.grouping import grouped
from addnorm_exp.report.load import StudyRuns
from addnorm_exp.report.protocol.groups import Group, Reported, axes_of, groups_of, key_of
from addnorm_exp.report.protocol.metric import primary_of
from addnorm_exp.report.run import Run
from addnorm_exp.runs.metrics import Metric
from addnorm_exp.runs.winners import Pairs, final_value, score
from addnorm_exp.words import show

KEY = "optim.lr"
ENOUGH_RATES = 3  # with at least this many, the score is a column of the printed table

Scored = list[tuple[Run, float]]  # runs of one setting, each with its final validation; diverged: the trivial value


@dataclass(frozen=True)
class Tried:
    """The finished runs of the phase that tried learning rates. The runs of a group differ only in tuned keys and the seed."""

    phase: str
    runs: tuple[Run, ...]
    axes: tuple[str, ...]  # of every group's key
    groups: tuple[Group, ...]
    metric: Metric

    @property
    def panels(self) -> dict[Pairs, list[Group]]:
        """Groups by the values of the axes besides the scheme."""
        return grouped(self.groups, lambda group: tuple(pair for pair in group.key if pair[0] != "scheme"))


def tried(study: StudyRuns) -> Tried | None:
    """The tuning phase, or the plain runs; None if these have finished at fewer than two learning rates."""
    phase = "tune" if study.phases.get("tune") else "run"
    runs = tuple(run for run in study.phases.get(phase, ()) if run.finished and run.flat.get(KEY) is not None)
    if len({run.flat[KEY] for run in runs}) < 2:
        return None
    axes = axes_of(study, runs, (*study.tuned, KEY))
    return Tried(phase, runs, axes, groups_of(runs, axes), primary_of(runs))


@dataclass(frozen=True)
class Line:
    """The results of a group, by rising learning rate."""

    scored: Mapping[float, Scored]
    means: Mapping[float, float]  # the protocol's
    clear: list[bool]  # for each rate: whether all its runs are done
    metric: Metric

    @classmethod
    def of(cls, group: Group, metric: Metric) -> "Line":
        """For each rate, the runs of the best setting of the other tuned keys; rates without a result are omitted."""
        by_rate = dict(sorted(grouped(group.runs, lambda run: float(run.flat[KEY])).items()))
        scored = {rate: best for rate, runs in by_rate.items() if (best := best_setting(runs, metric))}
        means = {rate: mean_score(best, metric) for rate, best in scored.items()}
        return cls(scored, means, [all(run.status == "done" for run in by_rate[rate]) for rate in scored], metric)

    def points(self, *, diverged: bool) -> list[tuple[float, float]]:
        """Rate and value of each run that diverged, or of each other run."""
        each = ((rate, *result) for rate, scored in self.scored.items() for result in scored)
        return [(rate, value) for rate, run, value in each if (run.status == "diverged") == diverged]

    @property
    def best(self) -> float | None:
        """The rate that ranks first; None if no rate has a result."""
        return min(self.scored, key=lambda rate: rank(self.scored[rate], self.metric), default=None)


def mean_score(scored: Scored, metric: Metric) -> float:
    """The protocol's mean (runs/winners.py): no run counts as worse than the trivial prediction."""
    values = [value for run, _ in scored if (value := score(run.summary, metric.name)) is not None]
    return math.fsum(values) / len(scored)


def _scored(runs: Iterable[Run], metric: Metric) -> Scored:
    """The runs that have a final validation, with it."""
    return [(run, value) for run in runs if (value := final_value(run.summary, metric.name)) is not None]


def best_setting(runs: Iterable[Run], metric: Metric) -> Scored:
    """Runs with their values, for the setting of other tuned keys (e.g. weight decay) with the best mean at one learning rate."""

    def setting(result: tuple[Run, float]) -> str:
        return repr(sorted((k, v) for k, v in result[0].flat.items() if k not in ("seed", "data.seed")))

    return min(
        grouped(_scored(runs, metric), setting).values(),
        key=lambda scored: rank(scored, metric),
        default=[],
    )


def lost(scored: Scored) -> int:
    """The number of runs that diverged."""
    return sum(run.status == "diverged" for run, _ in scored)


def rank(scored: Scored, metric: Metric) -> tuple[float, int, float]:
    """The protocol's order of settings, the best first: by the mean; among equal ones by fewer diverged runs, then by the mean without
    the cap."""
    return (
        metric.sign * mean_score(scored, metric),
        lost(scored),
        metric.sign * math.fsum(value for _, value in scored) / len(scored),
    )


@dataclass(frozen=True)
class Sensitivity:
    """The score of every reported group, by group key, over `rates`, which all tuned groups have in full.

    A group that is not better than the trivial prediction at any of them has no score, because nothing depends on the rate. Its label
    is in `untrained`.
    """

    scores: Mapping[Pairs, float]
    rates: tuple[float, ...]
    left_out: tuple[float, ...]
    metric: Metric
    untrained: tuple[str, ...] = ()

    @property
    def printed(self) -> bool:
        """Whether it is a column of the printed table; CSV has it in any case."""
        return len(self.rates) >= ENOUGH_RATES

    @property
    def _difference(self) -> str:
        name = f"final validation {self.metric.name} of tuning runs"
        if self.metric.better == "lower":
            return f"{name}, at most the {self.metric.trivially} prediction's, minus that of the best rate"
        return f"that of the best rate minus {name}, at least the {self.metric.trivially} prediction's"

    @property
    def note(self) -> str | None:
        if not self.rates:
            return "No LR sens.: fewer than two learning rates were tuned in full for every row."
        if not self.printed:
            return None
        without = f", without {', '.join(show(r) for r in self.left_out)}, which not every row has in full" * bool(
            self.left_out
        )
        dash = f" –: no run trains at any of these rates ({'; '.join(self.untrained)})." * bool(self.untrained)
        return (
            f"LR sens.: {self._difference}; "
            f"mean over {', '.join(show(r) for r in self.rates)}{without} (Wortsman et al. 2023, 2309.14322). "
            "It compares only rows of this grid." + dash
        )


def sensitivity(study: StudyRuns, report: Reported, metric: Metric) -> Sensitivity | None:
    """None if fewer than two learning rates were tuned; without scores if the rows share fewer than two."""
    tune = study.phases.get("tune", ())
    if KEY not in study.tuned or not any(run.finished for run in tune):
        return None
    axes = axes_of(study, tune, study.tuned)
    members = grouped(tune, lambda run: key_of(run, axes))
    own = {group.key: tuple(pair for pair in group.key if pair[0] in axes) for group in report.groups}
    tuned = {key: _means(members.get(pairs, []), study.tuned, metric) for key, pairs in own.items()}
    by_group = {key: means for key, means in tuned.items() if means}
    rates = sorted(set.intersection(*map(set, by_group.values()))) if by_group else []
    every = {float(run.flat[KEY]) for run in tune if run.flat.get(KEY) is not None}
    if len(rates) < 2:
        apart = any(len(means) >= ENOUGH_RATES for means in by_group.values())
        return Sensitivity({}, (), tuple(sorted(every)), metric) if apart else None
    trivial = metric.hopeless if metric.trivial is None else metric.trivial
    margin = 1e-9 * abs(trivial) if math.isfinite(trivial) else 0.0  # a mean of trivial values may be off by rounding
    best = {key: metric.best(means[rate] for rate in rates) for key, means in by_group.items()}
    trained = [key for key in by_group if metric.improves(best[key], trivial - metric.sign * margin)]
    scores = {
        key: metric.sign * (math.fsum(by_group[key][rate] for rate in rates) / len(rates) - best[key])
        for key in trained
    }
    untrained = tuple(report.label(g) for g in report.groups if g.key in by_group and g.key not in scores)
    return Sensitivity(scores, tuple(rates), tuple(sorted(every - set(rates))), metric, untrained)


def _means(runs: Sequence[Run], tuned: Sequence[str], metric: Metric) -> dict[float, float]:
    """One group's mean at each learning rate, with the best setting of the other tuned keys; only rates with all runs of a setting."""
    seeds = {run.seed for run in runs}
    means: dict[float, float] = {}
    for setting, members in grouped(runs, lambda run: key_of(run, tuned)).items():
        scored = _scored(members, metric)
        rate = dict(setting)[KEY]
        if rate is not None and {run.seed for run, _ in scored} == seeds:
            means[float(rate)] = metric.best((mean_score(scored, metric), means.get(float(rate), metric.hopeless)))
    return means
