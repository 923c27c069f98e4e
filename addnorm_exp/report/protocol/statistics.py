"""The statistics of a comparison over seeds: Student's t, paired differences, Holm's correction, detectable differences.

This uses only `math`. Student's distribution comes from the regularised incomplete beta function (continued fraction,
DLMF 8.17.22, by the modified Lentz algorithm).
"""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

ENOUGH = 5  # with at least this many seeds, a mean with an interval is printed


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def sd(values: Sequence[float]) -> float:
    """The sample standard deviation (n - 1); needs two values."""
    if len(values) < 2:
        raise ValueError(f"the standard deviation needs two values, got {len(values)}")
    centre = mean(values)
    return math.sqrt(math.fsum((v - centre) ** 2 for v in values) / (len(values) - 1))


def beta_regularised(a: float, b: float, x: float) -> float:
    """I_x(a, b), the regularised incomplete beta function, for a, b > 0 and 0 <= x <= 1."""
    if x <= 0.0 or x >= 1.0:
        return float(x >= 1.0)
    if x > (a + 1.0) / (a + b + 2.0):  # the fraction converges fast on the other side
        return 1.0 - beta_regularised(b, a, 1.0 - x)
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x) - math.log(a)
    )
    return front / _fraction(a, b, x)


def _fraction(a: float, b: float, x: float) -> float:
    tiny = 1e-300
    value, c, d = 1.0, 1.0, 0.0
    for i in range(1, 10_000):
        m, odd = divmod(i, 2)
        over = -(a + m) * (a + b + m) if odd else m * (b - m)
        term = over * x / ((a + i - 1) * (a + i))
        d = 1.0 / ((1.0 + term * d) or tiny)
        c = (1.0 + term / c) or tiny
        value *= c * d
        if abs(c * d - 1.0) < 1e-16:
            break
    return value


def t_tail(t: float, df: float) -> float:
    """P(T > t) for t >= 0 under Student's distribution, accurate far into the tail."""
    if math.isinf(t):
        return 0.0
    square = t * t
    if square <= 1.0:  # near the centre df / (df + square) rounds to 1: take the complement
        return 0.5 - 0.5 * beta_regularised(0.5, 0.5 * df, square / (df + square))
    return 0.5 * beta_regularised(0.5 * df, 0.5, df / (df + square))


def t_cdf(t: float, df: float) -> float:
    """P(T <= t) under Student's distribution with `df` > 0 degrees of freedom."""
    return 1.0 - t_tail(t, df) if t >= 0 else t_tail(-t, df)


def t_quantile(p: float, df: float) -> float:
    """The t with P(T <= t) = p, for 0 < p < 1: bisection on the tail to the last bit."""
    if not 0.0 < p < 1.0:
        raise ValueError(f"a probability strictly between 0 and 1 is needed, got {p}")
    if p < 0.5:
        return -_upper(p, df)
    return _upper(1.0 - p, df) if p > 0.5 else 0.0


def _upper(tail: float, df: float) -> float:
    low, high = 0.0, 1.0
    while t_tail(high, df) > tail:
        low, high = high, 2.0 * high
    while True:
        middle = 0.5 * (low + high)
        if middle in (low, high):
            return middle
        low, high = (middle, high) if t_tail(middle, df) > tail else (low, middle)


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
    centre = mean(values)
    return Interval(centre, centre - half, centre + half, len(values))


@dataclass(frozen=True)
class Paired:
    """The mean difference to the baseline over the seeds that both have."""

    mean: float
    low: float
    high: float
    n: int
    sd: float
    p: float  # two-sided, H0: no difference

    @property
    def half(self) -> float:
        return 0.5 * (self.high - self.low)


def paired(values: Mapping[int, float], baseline: Mapping[int, float], level: float = 0.95) -> Paired | None:
    """values - baseline over shared seeds: mean, t interval and two-sided p. None with fewer than two shared seeds.

    Differences that are all equal have no spread: p is 1 if they are all 0, else 0.
    """
    differences = [values[seed] - baseline[seed] for seed in sorted(set(values) & set(baseline))]
    if len(differences) < 2:
        return None
    spread, centre = sd(differences), interval(differences, level)
    t = abs(centre.mean) / (spread / math.sqrt(centre.n)) if spread else math.inf * bool(centre.mean)
    p = 2.0 * t_tail(0.0 if math.isnan(t) else t, centre.n - 1)
    return Paired(centre.mean, centre.low, centre.high, centre.n, spread, p)


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the order given (Holm 1979); they control the family-wise error."""
    adjusted = [0.0] * len(ps)
    running = 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        running = max(running, min(1.0, (len(ps) - rank) * ps[index]))
        adjusted[index] = running
    return adjusted


def paired_power(effect: float, n: int, alpha: float = 0.05) -> float:
    """The chance that a two-sided paired t test of `n` pairs finds a true mean difference of `effect` standard deviations.

    With c the critical value, nu = n - 1 and s the root of chi-square over nu it is the mean over s of
    Phi(effect * sqrt(n) - c * s) + Phi(-effect * sqrt(n) - c * s), which is the non-central t distribution's; by Simpson's rule.
    """
    nu, shift = n - 1, effect * math.sqrt(n)
    critical = t_quantile(1.0 - alpha / 2.0, nu)
    wide = 10.0 / math.sqrt(2.0 * nu)  # ten standard deviations of s, or near enough
    low, high, panels = max(0.0, 1.0 - wide), 1.0 + wide, 400
    scale = math.log(2.0) + 0.5 * nu * math.log(0.5 * nu) - math.lgamma(0.5 * nu)

    def weighted(s: float) -> float:
        density = math.exp(scale - 0.5 * nu * s * s) * s ** (nu - 1)
        return density * (_normal_cdf(shift - critical * s) + _normal_cdf(-shift - critical * s))

    width = (high - low) / panels
    weights = [1.0, *([4.0, 2.0] * (panels // 2))[:-1], 1.0]
    return math.fsum(w * weighted(low + i * width) for i, w in enumerate(weights)) * width / 3.0


def _normal_cdf(z: float) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2.0))


@functools.cache
def detectable_effect(n: int, power: float = 0.8, alpha: float = 0.05) -> float:
    """The mean difference, in standard deviations of the differences, that the test finds with this power: 1.68 for n = 5."""
    low, high = 0.0, 1.0
    while paired_power(high, n, alpha) < power:
        low, high = high, 2.0 * high
    for _ in range(50):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if paired_power(middle, n, alpha) < power else (low, middle)
    return 0.5 * (low + high)


def minimum_detectable(spread: float, n: int, power: float = 0.8, alpha: float = 0.05) -> float:
    """The true mean difference that a two-sided paired t test of `n` pairs finds with the given power.

    `spread` is the standard deviation of the differences, taken as the true one. It is for one test; Holm's correction requires more.
    """
    return detectable_effect(n, power, alpha) * spread


def median_with_worst(values: Sequence[float], worst: int) -> float:
    """The median of `values` and `worst` runs that diverged, each worse than any number: inf if the median is one of those."""
    ordered = sorted([*values, *[math.inf] * worst])
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else 0.5 * (ordered[middle - 1] + ordered[middle])
