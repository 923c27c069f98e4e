"""Loss against learning rate in the tuning phase: what the pictures of it draw (sensitivity.py, dashboard/rates.py), and its one number.

The score is that of Wortsman et al. 2023 (2309.14322): E over learning rates of min(loss, loss₀) − the least of them. Here
the expectation is the plain mean over the grid's rates, the loss of a rate is the mean over tuning seeds of the final validation
loss, and loss₀, in the paper that at initialisation, is the uniform prediction's, which is how the protocol scores diverged runs.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from addnorm_exp.report.groups import Group, Reported, axes_of, groups_of, key_of
from addnorm_exp.report.load import Study
from addnorm_exp.report.metric import unit_of
from addnorm_exp.report.record import Run
from addnorm_exp.runs.winners import Pairs, final_loss, score
from addnorm_exp.words import show

KEY = "optim.lr"
ENOUGH_RATES = 3  # from which the score is a column of the printed table

Scored = list[tuple[Run, float]]  # runs of one setting, each with its final validation loss; diverged: the uniform one


@dataclass(frozen=True)
class Tried:
    """The finished runs of the phase in which learning rates were tried, in groups that differ in nothing tuned."""

    phase: str
    runs: tuple[Run, ...]
    axes: tuple[str, ...]  # of every group's key
    groups: tuple[Group, ...]
    unit: str
    uniform: float | None  # the loss of the uniform prediction

    @property
    def panels(self) -> dict[Pairs, list[Group]]:
        """By the values of the axes besides the scheme."""
        found: dict[Pairs, list[Group]] = {}
        for group in self.groups:
            found.setdefault(tuple(pair for pair in group.key if pair[0] != "scheme"), []).append(group)
        return found


def tried(study: Study) -> Tried | None:
    """The tuning phase, or the plain runs; None where these have not finished at two learning rates or more."""
    phase = "tune" if study.phases.get("tune") else "run"
    runs = tuple(run for run in study.phases.get(phase, ()) if run.finished and run.flat.get(KEY) is not None)
    if len({run.flat[KEY] for run in runs}) < 2:
        return None
    unit, axes = unit_of(runs), axes_of(study, runs, (*study.tuned, KEY))
    uniform = next((v for run in runs if (v := run.number("uniform", unit)) is not None), None)
    return Tried(phase, runs, axes, groups_of(runs, axes), unit, uniform)


@dataclass(frozen=True)
class Line:
    """What a group reached, by rising learning rate."""

    scored: Mapping[float, Scored]
    means: Mapping[float, float]  # the protocol's
    clear: list[bool]  # a rate each: no run there diverged or is unfinished

    @classmethod
    def of(cls, group: Group, unit: str) -> "Line":
        """Of each rate the runs of the best setting of other tuned keys; rates without a result are left out."""
        by_rate: dict[float, list[Run]] = {}
        for run in sorted(group.runs, key=lambda run: float(run.flat[KEY])):
            by_rate.setdefault(float(run.flat[KEY]), []).append(run)
        scored = {rate: found for rate, runs in by_rate.items() if (found := best_setting(runs, unit))}
        means = {rate: mean_score(found, unit) for rate, found in scored.items()}
        return cls(scored, means, [all(run.status == "done" for run in by_rate[rate]) for rate in scored])

    @property
    def best(self) -> float | None:
        """The rate of the least mean, of equal ones by `order`; None where no rate has a result."""
        return min(self.means, key=lambda rate: (self.means[rate], *order(self.scored[rate])), default=None)


def mean_score(scored: Scored, unit: str) -> float:
    """The protocol's mean (runs/winners.py): no run counts as worse than the uniform prediction."""
    return math.fsum(value for run, _ in scored if (value := score(run.summary, unit)) is not None) / len(scored)


def best_setting(runs: Iterable[Run], unit: str) -> Scored:
    """Runs with their losses, of the best mean among settings of other tuned keys (weight decay, say) at one learning rate."""
    settings: dict[str, Scored] = {}
    for run in runs:
        value = final_loss(run.summary, unit)
        if value is not None:
            rest = repr(sorted((k, v) for k, v in run.flat.items() if k not in ("seed", "data.seed")))
            settings.setdefault(rest, []).append((run, value))
    return min(settings.values(), key=lambda scored: (mean_score(scored, unit), *order(scored)), default=[])


def lost(scored: Scored) -> int:
    """How many of the runs diverged."""
    return sum(run.status == "diverged" for run, _ in scored)


def order(scored: Scored) -> tuple[int, float]:
    """The protocol's, of settings of one mean: fewer diverged runs, then the lesser mean without the cap."""
    return lost(scored), math.fsum(value for _, value in scored) / len(scored)


@dataclass(frozen=True)
class Sensitivity:
    """The score of every group shown, by group key; over `rates`, which all groups that were tuned have in full.

    A group that is no better than the uniform prediction at any of them has none: nothing of it depends on the rate. Its label is
    in `untrained`.
    """

    scores: Mapping[Pairs, float]
    rates: tuple[float, ...]
    left_out: tuple[float, ...]
    unit: str
    untrained: tuple[str, ...] = ()

    @property
    def printed(self) -> bool:
        """Whether it is a column of the printed table; CSV has it in any case."""
        return len(self.rates) >= ENOUGH_RATES

    @property
    def note(self) -> str | None:
        if not self.rates:
            return (
                "No LR sens.: the rows have fewer than two learning rates in common that each was tuned over in full."
            )
        if not self.printed:
            return None
        without = f", without {', '.join(show(r) for r in self.left_out)}, which not every row has in full" * bool(
            self.left_out
        )
        dash = f" –: none of these rates trains ({'; '.join(self.untrained)})." * bool(self.untrained)
        return (
            f"LR sens.: tuning runs' final validation {self.unit}, at most the uniform prediction's, less that of the best rate: mean over "
            f"{', '.join(show(r) for r in self.rates)}{without} (Wortsman et al. 2023, 2309.14322). It compares rows of this grid only."
            + dash
        )


def sensitivity(study: Study, shown: Reported, unit: str) -> Sensitivity | None:
    """None where the learning rate was not tuned over two rates; without scores where the rows have fewer than two in common."""
    tune = study.phases.get("tune", ())
    if KEY not in study.tuned or not any(run.finished for run in tune):
        return None
    axes = axes_of(study, tune, study.tuned)
    members: dict[Pairs, list[Run]] = {}
    for run in tune:
        members.setdefault(key_of(run, axes), []).append(run)
    found = {}
    for group in shown.groups:
        own = tuple(pair for pair in group.key if pair[0] in axes)
        if means := _means(members.get(own, []), study.tuned, unit):
            found[group.key] = means
    rates = sorted(set.intersection(*map(set, found.values()))) if found else []
    every = {float(run.flat[KEY]) for run in tune if run.flat.get(KEY) is not None}
    if len(rates) < 2:
        apart = any(len(means) >= ENOUGH_RATES for means in found.values())
        return Sensitivity({}, (), tuple(sorted(every)), unit) if apart else None
    uniform = max((v for run in tune if (v := run.number("uniform", unit)) is not None), default=math.inf)
    best = {key: min(means[rate] for rate in rates) for key, means in found.items()}
    trained = [
        key for key in found if best[key] < (1 - 1e-9) * uniform
    ]  # a mean of uniform losses may be off by rounding
    scores = {key: math.fsum(found[key][rate] for rate in rates) / len(rates) - best[key] for key in trained}
    untrained = tuple(shown.label(g) for g in shown.groups if g.key in found and g.key not in scores)
    return Sensitivity(scores, tuple(rates), tuple(sorted(every - set(rates))), unit, untrained)


def _means(runs: Iterable[Run], tuned: Iterable[str], unit: str) -> dict[float, float]:
    """One group's mean loss at each learning rate, by the best setting of the other tuned keys; rates with every run of a setting."""
    runs = list(runs)
    settings: dict[Pairs, list[Run]] = {}
    for run in runs:
        settings.setdefault(key_of(run, tuned), []).append(run)
    seeds = {run.seed for run in runs}
    found: dict[float, float] = {}
    for setting, members in settings.items():
        scored = [(run, value) for run in members if (value := final_loss(run.summary, unit)) is not None]
        rate = dict(setting)[KEY]
        if rate is not None and {run.seed for run, _ in scored} == seeds:
            found[float(rate)] = min(mean_score(scored, unit), found.get(float(rate), math.inf))
    return found
