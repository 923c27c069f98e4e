"""The protocol of tuning: which value of the tuned keys wins, group by group. Pure functions on plain data.

The winner has the best mean of the final validation loss over the tuning seeds. A diverged run scores as the uniform prediction, and
no run scores worse than that. A candidate with a failed, unfinished or absent run is incomplete and not eligible, unless no candidate
of its group is complete. A winner on the edge of its grid is flagged, because a better value may lie beyond it.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from addnorm_exp.runs.records import Summary
from addnorm_exp.runs.values import is_number

Pairs = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Candidate:
    """One tuning run. `score` is its final validation loss (lower is better), or None; see the function `score`. `loss` is the same
    without the cap."""

    group: Pairs  # the axes that distinguish groups, with their values
    tuned: Pairs  # the tuned keys, with their values
    seed: int
    score: float | None
    status: str
    loss: float | None = None


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


def final_loss(summary: Summary | None, unit: str = "loss") -> float | None:
    """The final validation loss of a run by its summary, in `loss` (nats per token) or `bpb`. For a diverged run it is that of the
    uniform prediction. None if the summary has neither."""
    if summary is None or summary.status not in ("done", "diverged"):
        return None
    return summary.number("uniform", unit) if summary.status == "diverged" else summary.number("val", "final", unit)


def score(summary: Summary | None, unit: str = "loss") -> float | None:
    """The score of a run by its summary: its `final_loss`, at most the loss of the uniform prediction.

    The cap prevents a candidate from winning by diverging when another one ends with a loss above the uniform one: they tie, and the
    one with fewer diverged runs wins.
    """
    value, uniform = final_loss(summary, unit), summary.number("uniform", unit) if summary else None
    return value if value is None or uniform is None else min(value, uniform)


def winners(candidates: Iterable[Candidate]) -> dict[Pairs, Winner]:
    """The winner of every group, in order of appearance. A group in which no run has a score is left out.

    Among equal means (e.g. if every candidate diverged), the candidate with fewer diverged runs wins, then the one with the smallest mean
    loss without the cap, then the first one.
    """
    groups: dict[Pairs, dict[Pairs, list[Candidate]]] = {}
    for candidate in candidates:
        groups.setdefault(candidate.group, {}).setdefault(candidate.tuned, []).append(candidate)
    by_group: dict[Pairs, Winner] = {}
    for group, by_tuned in groups.items():
        winner = _winner(by_tuned)
        if winner is not None:
            by_group[group] = winner
    return by_group


def _winner(by_tuned: Mapping[Pairs, list[Candidate]]) -> Winner | None:
    seeds = {run.seed for runs in by_tuned.values() for run in runs}
    left_out = []
    ranked = []
    for order, (tuned, runs) in enumerate(by_tuned.items()):
        scores = [run.score for run in runs if run.score is not None]
        complete = len(scores) == len(runs) and {run.seed for run in runs} == seeds
        if not complete:
            left_out.append(tuned)
        if scores:
            diverged = sum(run.status == "diverged" for run in runs if run.score is not None)
            losses = [run.score if run.loss is None else run.loss for run in runs if run.score is not None]
            mean, uncapped = (math.fsum(values) / len(values) for values in (scores, losses))
            ranked.append((not complete, mean, diverged, uncapped, order, tuned, len(scores)))
    if not ranked:
        return None
    incomplete, mean, diverged, _, _, tuned, n = min(ranked, key=lambda entry: entry[:5])
    return Winner(
        tuned, mean, n, _edges(tuned, by_tuned), incomplete, diverged, tuple(t for t in left_out if t != tuned)
    )


def _edges(tuned: Pairs, by_tuned: Iterable[Pairs]) -> tuple[str, ...]:
    grids = [dict(candidate) for candidate in by_tuned]
    edges = []
    for key, value in tuned:
        grid = {candidate[key] for candidate in grids if key in candidate and is_number(candidate[key])}
        if is_number(value) and len(grid) >= 2 and value in (min(grid), max(grid)):
            edges.append(key)
    return tuple(edges)
