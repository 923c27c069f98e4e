"""The protocol of tuning: which value of the tuned keys wins, group by group. Pure functions on plain data.

The winner has the best mean of the final validation, in the primary metric of the task, over the tuning seeds. A diverged run scores as
the trivial prediction (of language modelling: the uniform one), and no run scores worse than that. A candidate with a failed, unfinished
or absent run is incomplete and not eligible, unless no candidate of its group is complete. A winner on the edge of its grid is flagged,
because a better value may lie beyond it.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from addnorm_exp.grouping import grouped
from addnorm_exp.runs.metrics import Metric, named
from addnorm_exp.runs.records import Summary
from addnorm_exp.runs.values import is_number

Pairs = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Candidate:
    """One tuning run. `score` is its final validation, or None; see the function `score`. `value` is the same without the cap."""

    group: Pairs  # the axes that distinguish groups, with their values
    tuned: Pairs  # the tuned keys, with their values
    seed: int
    score: float | None
    status: str
    value: float | None = None


@dataclass(frozen=True)
class Winner:
    """The chosen values of the tuned keys of one group."""

    tuned: Pairs
    mean: float  # of the score over the seeds
    n: int  # seeds in the mean
    edge: tuple[str, ...]  # numeric tuned keys whose winning value is the smallest or the largest of the grid
    incomplete: bool  # no candidate of the group was complete: the best of the others
    diverged: int = 0  # of the n
    left_out: tuple[Pairs, ...] = ()  # incomplete candidates, not eligible


def final_value(summary: Summary | None, name: str | None = None) -> float | None:
    """The final validation of a run by its summary, in the metric of this name, by default the primary one. For a diverged run it is the
    trivial value, or the worst there is if that is unknown. None if the summary has neither."""
    metric = named(summary, name)
    if summary is None or metric is None or summary.status not in ("done", "diverged"):
        return None
    if summary.status == "done":
        return summary.number("val", "final", metric.name)
    return metric.hopeless if metric.trivial is None else metric.trivial


def score(summary: Summary | None, name: str | None = None) -> float | None:
    """The score of a run by its summary: its `final_value`, but the trivial value if it is worse than that.

    The cap prevents a candidate from winning by diverging when another one ends worse than the trivial prediction: they tie, and the one
    with fewer diverged runs wins.
    """
    value, metric = final_value(summary, name), named(summary, name)
    if value is None or metric is None or metric.trivial is None:
        return value
    return metric.best((value, metric.trivial))


def winners(candidates: Iterable[Candidate], metric: Metric) -> dict[Pairs, Winner]:
    """The winner of every group by this metric, in order of appearance. A group in which no run has a score is left out.

    Among equal means (e.g. if every candidate diverged), the candidate with fewer diverged runs wins, then the one with the best mean
    without the cap, then the first one.
    """
    groups = grouped(candidates, lambda candidate: candidate.group)
    chosen = {group: _winner(members, metric) for group, members in groups.items()}
    return {group: winner for group, winner in chosen.items() if winner is not None}


def _winner(candidates: Sequence[Candidate], metric: Metric) -> Winner | None:
    by_tuned = grouped(candidates, lambda candidate: candidate.tuned)
    seeds = {candidate.seed for candidate in candidates}
    left_out = []
    ranked = []
    for order, (tuned, runs) in enumerate(by_tuned.items()):
        scores = [run.score for run in runs if run.score is not None]
        complete = len(scores) == len(runs) and {run.seed for run in runs} == seeds
        if not complete:
            left_out.append(tuned)
        if scores:
            diverged = sum(run.status == "diverged" for run in runs if run.score is not None)
            values = [run.score if run.value is None else run.value for run in runs if run.score is not None]
            cost, uncapped = (metric.sign * math.fsum(each) / len(each) for each in (scores, values))
            ranked.append((not complete, cost, diverged, uncapped, order, tuned, len(scores)))
    if not ranked:
        return None
    incomplete, cost, diverged, _, _, tuned, n = min(ranked, key=lambda entry: entry[:5])
    return Winner(
        tuned,
        metric.sign * cost,
        n,
        _edges(tuned, by_tuned),
        incomplete,
        diverged,
        tuple(t for t in left_out if t != tuned),
    )


def _edges(tuned: Pairs, by_tuned: Iterable[Pairs]) -> tuple[str, ...]:
    """The numeric keys whose value is the smallest or the largest of several."""
    pairs = {pair for candidate in by_tuned for pair in candidate if is_number(pair[1])}
    grids = {key: [v for k, v in pairs if k == key] for key, value in tuned if is_number(value)}
    return tuple(
        key
        for key, value in tuned
        if key in grids and min(grids[key]) < max(grids[key]) and value in (min(grids[key]), max(grids[key]))
    )
