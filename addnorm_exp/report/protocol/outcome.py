"""One number over the seeds of one group, in a form that n allows.

Five or more seeds: mean and 95 % interval. Fewer: every seed. One or more diverged runs: their number, and the median that counts them
as worst; never a mean of the other runs.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from addnorm_exp import words
from addnorm_exp.report.protocol.statistics import ENOUGH, Interval, interval, median_with_worst
from addnorm_exp.report.run import Run

NOTHING = "–"
FIGURES = 7  # of a number at most, if a column has one precision


@dataclass(frozen=True)
class Outcome:
    """One number of a group's finished runs: `values` by seed of those that have it, and the seeds that diverged. `worst` is infinite:
    what a diverged run counts as in a median."""

    values: dict[int, float]
    diverged: tuple[int, ...] = ()
    worst: float = math.inf

    @property
    def n(self) -> int:
        return len(self.values) + len(self.diverged)

    @property
    def median(self) -> float | None:
        """The median with diverged runs as worst; infinite if it is one of those."""
        return median_with_worst(list(self.values.values()), len(self.diverged), self.worst) if self.n else None

    @property
    def interval(self) -> Interval | None:
        """None if n is below five or a run diverged."""
        return interval(list(self.values.values())) if self.n >= ENOUGH and not self.diverged else None

    def text(self, places: int | None = None) -> str:
        """The full text, as for the headline metric; with `places` digits after the point, by default its own."""
        if not self.n:
            return NOTHING
        if estimate := self.interval:
            return with_half(estimate.mean, estimate.half, places)
        lost = f"{len(self.diverged)}/{self.n} diverged, median {self.brief(places)}"
        if not self.values:
            return f"{self.n}/{self.n} diverged"
        if self.n >= ENOUGH:
            return lost
        texts = {seed: number(value, places) for seed, value in self.values.items()} | dict.fromkeys(
            self.diverged, "div."
        )
        seeds = ", ".join(texts[seed] for seed in sorted(texts))
        return f"{seeds} ({lost})" if self.diverged else seeds

    def brief(self, places: int | None = None) -> str:
        """The short text, as in a side column: mean with half-width from five seeds on, else the median."""
        if estimate := self.interval:
            return with_half(estimate.mean, estimate.half, places)
        if self.median is None:
            return NOTHING
        return "diverged" if math.isinf(self.median) else number(self.median, places)

    def columns(self, name: str) -> dict[str, Any]:
        """Named numbers for CSV, with the seeds' values in rising order of seeds, joined by spaces."""
        estimate = self.interval
        return {
            name: estimate and estimate.mean,
            f"{name}_low": estimate and estimate.low,
            f"{name}_high": estimate and estimate.high,
            f"{name}_median": self.median,
            f"{name}_seeds": " ".join(repr(value) for _, value in sorted(self.values.items())),
        }


def outcome(runs: Iterable[Run], read: Callable[[Run], float | None], worst: float = math.inf) -> Outcome:
    """`read` over the finished runs; a diverged run counts as diverged whatever it recorded."""
    runs = list(runs)
    values = {run.seed: value for run in runs if run.status == "done" and (value := read(run)) is not None}
    return Outcome(values, tuple(run.seed for run in runs if run.status == "diverged"), worst)


def decimals(half: float) -> int:
    """Digits after the point that show two figures of an interval's half-width, between 2 and 6."""
    return 4 if half <= 0 or not math.isfinite(half) else min(6, max(2, 1 - math.floor(math.log10(half))))


def shared_places(outcomes: Iterable[Outcome]) -> int | None:
    """The digits after the point of one column: set by its intervals, if it has some; None if numbers differ too much in size
    for one precision."""
    outcomes = list(outcomes)
    values = [abs(value) for outcome in outcomes for value in outcome.values.values()]
    intervals = [estimate for outcome in outcomes if (estimate := outcome.interval)]
    if not values:
        return None
    if intervals:
        return shared_decimals(
            [estimate.half for estimate in intervals], max(abs(estimate.mean) for estimate in intervals)
        )
    texts = [number(value) for value in values]
    if any("e" in text for text in texts):
        return None
    finest = max(len(text.partition(".")[2]) for text in texts)
    return min(finest, max(0, FIGURES - len(f"{max(values):.0f}")))


def shared_decimals(halves: Sequence[float], size: float) -> int:
    """Digits after the point for intervals of these half-widths: two figures of the middle one, at least one of the smallest. A width of
    0 says nothing of the others."""
    if size >= 1000:
        return 0
    each = sorted(map(decimals, [half for half in halves if half > 0] or halves))
    return max(each[len(each) // 2], each[-1] - 1)


def number(value: float, places: int | None = None) -> str:
    """A number with `places` digits after the point. By default three, as for losses; smaller numbers have four significant
    figures, larger ones no digits after the point."""
    if places is not None:
        return words.figure(value, f",.{places}f")
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return words.figure(value, ".3f" if abs(value) >= 0.1 or value == 0 else ".4g")


def with_half(centre: float, half: float, places: int | None = None) -> str:
    if places is None:
        places = decimals(half) if abs(centre) < 1000 else 0
    if not places:
        return f"{words.figure(centre, ',.0f')} ± {half:,.0f}"
    return f"{words.figure(centre, f'.{places}f')} ± {half:.{places}f}"
