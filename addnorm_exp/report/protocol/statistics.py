"""The statistics of a comparison over seeds: Student's t, paired differences, Holm's correction,
detectable differences. The distributions are scipy's.
"""

import functools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.special import nctdtrinc, stdtr, stdtrit

ENOUGH = 5  # with at least this many seeds, a mean with an interval is printed


def sd(values: Sequence[float]) -> float:
    """The sample standard deviation (n - 1); needs two values."""
    if len(values) < 2:
        raise ValueError(f"the standard deviation needs two values, got {len(values)}")
    centre = statistics.fmean(values)
    return math.sqrt(math.fsum((v - centre) ** 2 for v in values) / (len(values) - 1))


def t_quantile(p: float, df: float) -> float:
    """The t with P(T <= t) = p under Student's distribution with `df` > 0 degrees of freedom."""
    return float(stdtrit(df, p))


@dataclass(frozen=True)
class Interval:
    """A mean with its t interval."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def half(self) -> float:
        return 0.5 * (self.high - self.low)


def interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """The mean of independent values and its Student-t interval; needs two values."""
    half = t_quantile(0.5 + 0.5 * level, len(values) - 1) * sd(values) / math.sqrt(len(values))
    centre = statistics.fmean(values)
    return Interval(centre, centre - half, centre + half, len(values))


@dataclass(frozen=True)
class Paired(Interval):
    """The mean difference to the baseline over the seeds that both have."""

    sd: float
    p: float  # two-sided, H0: no difference


def paired(values: Mapping[int, float], baseline: Mapping[int, float], level: float = 0.95) -> Paired | None:
    """values - baseline over shared seeds: mean, t interval and two-sided p. None with fewer than two shared seeds.

    Differences that are all equal have no spread: p is 1 if they are all 0, else 0.
    """
    differences = [values[seed] - baseline[seed] for seed in sorted(set(values) & set(baseline))]
    if len(differences) < 2:
        return None
    spread, centre = sd(differences), interval(differences, level)
    t = abs(centre.mean) / (spread / math.sqrt(centre.n)) if spread else math.inf if centre.mean else 0.0
    p = 2.0 * float(stdtr(centre.n - 1, -t))
    return Paired(centre.mean, centre.low, centre.high, centre.n, spread, p)


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the order given (Holm 1979); they control the family-wise error."""
    adjusted = [0.0] * len(ps)
    running = 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        running = max(running, min(1.0, (len(ps) - rank) * ps[index]))
        adjusted[index] = running
    return adjusted


@functools.cache
def detectable_effect(n: int, power: float = 0.8, alpha: float = 0.05) -> float:
    """The mean difference, in standard deviations of the differences, that a two-sided paired t test
    of `n` pairs finds with this power: 1.68 for n = 5.

    It solves P(T' <= t(1 - alpha/2, n - 1)) = 1 - power for T' with a non-central t distribution.
    The chance of a significant difference of the wrong sign is left out; at a power of 0.8 it is
    below 1e-6.
    """
    return float(nctdtrinc(n - 1, 1.0 - power, t_quantile(1.0 - alpha / 2.0, n - 1))) / math.sqrt(n)


def minimum_detectable(spread: float, n: int, power: float = 0.8, alpha: float = 0.05) -> float:
    """The true mean difference that a two-sided paired t test of `n` pairs finds with the given power.

    `spread` is the standard deviation of the differences, taken as the true one. It is for one test; Holm's correction requires more.
    """
    return detectable_effect(n, power, alpha) * spread


def median_with_worst(values: Sequence[float], lost: int, worst: float = math.inf) -> float:
    """The median of `values` and of `lost` runs that diverged, each `worst`, an infinity: that if the median is one of those."""
    return statistics.median([*values, *[worst] * lost])
