"""The report's statistics against printed tables, closed forms, quadrature and statsmodels, and by simulation where a claim
is about frequencies."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
from scipy import special

from addnorm_exp.report.protocol import statistics as ours

# Student's distribution as printed: P(T <= t) = 0.975 and 0.995 (Pearson and Hartley, Biometrika Tables for Statisticians, table 12).
PRINTED = {
    1: (12.706, 63.657),
    2: (4.303, 9.925),
    3: (3.182, 5.841),
    4: (2.776, 4.604),
    5: (2.571, 4.032),
    9: (2.262, 3.250),
    19: (2.093, 2.861),
    30: (2.042, 2.750),
    120: (1.980, 2.617),
}


def test_quantiles_are_those_of_the_printed_table():
    for df, row in PRINTED.items():
        assert [ours.t_quantile(p, df) for p in (0.975, 0.995)] == pytest.approx(row, abs=5.1e-4), df


def test_quantiles_have_their_closed_forms():
    """For 1, 2 and 4 degrees of freedom the quantile is elementary."""
    for p in (1e-6, 0.01, 0.2, 0.5, 0.8, 0.975, 0.9995):
        alpha = 4 * p * (1 - p)
        q = math.cos(math.acos(math.sqrt(alpha)) / 3) / math.sqrt(alpha)
        four = math.copysign(2 * math.sqrt(max(0.0, q - 1)), p - 0.5)
        closed = {1: math.tan(math.pi * (p - 0.5)), 2: (2 * p - 1) / math.sqrt(2 * p * (1 - p)), 4: four}
        for df, value in closed.items():
            assert ours.t_quantile(p, df) == pytest.approx(value, rel=1e-8, abs=1e-7), (df, p)


def two_sided(t, df):
    """P(|T| > t) for whole degrees of freedom, by the finite sums of Abramowitz and Stegun 26.7.3 and 26.7.4."""
    angle = math.atan(t / math.sqrt(df))
    sine, cosine = math.sin(angle), math.cos(angle)
    term, total = (cosine if df % 2 else 1.0), 0.0
    for k in range(df // 2):
        total += term
        term *= cosine**2 * ((2 * k + 2) / (2 * k + 3) if df % 2 else (2 * k + 1) / (2 * k + 2))
    return 1 - (2 / math.pi * (angle + sine * total) if df % 2 else sine * total)


@pytest.mark.parametrize("n", [2, 3, 5, 6, 11])
def test_intervals_and_paired_differences_are_the_textbooks(n):
    rng = np.random.default_rng(n)
    base = rng.normal(2.4, 0.02, n)
    values = base + rng.normal(0.01, 0.005, n)
    estimate = ours.interval(values.tolist())
    half = PRINTED.get(n - 1, (2.228,))[0] * values.std(ddof=1) / math.sqrt(n)
    assert (estimate.mean, estimate.half) == pytest.approx((values.mean(), half), rel=3e-4)
    assert (estimate.low, estimate.high) == pytest.approx(
        (estimate.mean - estimate.half, estimate.mean + estimate.half)
    )
    assert ours.sd(values.tolist()) == pytest.approx(values.std(ddof=1), rel=1e-12)

    seeds = range(10, 10 + n)
    own = dict(zip(seeds, values, strict=True)) | {99: 50.0}  # a seed that the baseline lacks plays no part
    other = dict(zip(seeds, base, strict=True)) | {98: -50.0}
    pair = ours.paired(own, other)
    alone = ours.interval((values - base).tolist())
    assert (pair.n, pair.mean, pair.low, pair.high) == (
        n,
        *map(pytest.approx, (alone.mean, alone.low, alone.high)),
    )
    t = (values - base).mean() / ((values - base).std(ddof=1) / math.sqrt(n))
    assert pair.p == pytest.approx(two_sided(abs(t), n - 1), rel=1e-7)


def test_the_test_keeps_its_digits_far_in_the_tail():
    """P(|T| > t) of two degrees of freedom is 1 - t / √(2 + t²), which is 2 / t² / (1 + …) there."""
    close = dict.fromkeys(range(3), 1.0) | {0: 1.0 + 1e-6}
    pair = ours.paired(close, dict.fromkeys(range(3), 0.0))
    t = pair.mean / (pair.sd / math.sqrt(3))
    tail = 2 / (math.sqrt(2 + t * t) * (math.sqrt(2 + t * t) + t))
    assert pair.p == pytest.approx(tail, rel=1e-9)
    assert pair.p < 1e-11


def test_degenerate_pairs():
    assert ours.paired({1: 2.0}, {1: 1.0}) is None
    assert ours.paired({1: 2.0, 2: 3.0}, {3: 1.0}) is None
    assert ours.paired({1: 2.0, 2: 3.0}, {1: 2.0, 2: 3.0}).p == 1.0
    assert ours.paired({1: 2.0, 2: 3.0}, {1: 1.0, 2: 2.0}).p == 0.0
    with pytest.raises(ValueError, match="two values"):
        ours.sd([1.0])


def test_holm_by_hand():
    # Sorted 0.01, 0.02, 0.03, 0.5: 4 × 0.01, 3 × 0.02, 2 × 0.03, 0.5, then made monotone.
    assert ours.holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert ours.holm([0.04, 0.03]) == pytest.approx([0.06, 0.06])
    assert ours.holm([0.9, 0.8]) == [1.0, 1.0]
    assert ours.holm([]) == []


def test_holm_controls_the_family():
    rng = np.random.default_rng(0)
    p = rng.random((4000, 5))
    wrong = np.mean([min(ours.holm(row.tolist())) <= 0.05 for row in p])
    assert wrong == pytest.approx(0.05, abs=0.011)  # three standard errors; uncorrected it would be 0.23


def test_the_interval_covers_and_the_test_errs_as_promised():
    rng = np.random.default_rng(1)
    covered, rejected, trials = 0, 0, 1500
    for row in rng.normal(0.3, 2.0, (trials, 5)):
        found = ours.interval(row.tolist())
        covered += found.low <= 0.3 <= found.high
        pair = ours.paired(dict(enumerate(row)), dict.fromkeys(range(5), 0.3))
        rejected += pair.p < 0.05
    assert covered / trials == pytest.approx(0.95, abs=0.017)
    assert covered + rejected == trials, "interval and test are the same statement"


def test_the_interval_covers_as_often_as_the_protocol_says_where_seeds_are_not_normal():
    """The table of docs/protocol.md, to its two digits."""
    rng, parts, numbers = np.random.default_rng(3), 20, 1_000_000
    laws = {
        "normal": (lambda shape: rng.normal(size=shape), 0.0),
        "uniform": (lambda shape: rng.uniform(-1, 1, shape), 0.0),
        "Student's t with 3 degrees of freedom": (lambda shape: rng.standard_t(3, shape), 0.0),
        "exponential": (lambda shape: rng.exponential(size=shape), 1.0),
        "normal, but one seed in ten is 5 standard deviations worse": (
            lambda shape: rng.normal(size=shape) + 5 * (rng.random(shape) < 0.1),
            0.5,
        ),
    }
    page = (Path(__file__).parents[1] / "docs" / "protocol.md").read_text()
    for law, (draw, centre) in laws.items():
        stated = re.search(rf"\| {re.escape(law)} \| (.+) \|", page)[1].split(" | ")
        covered = dict.fromkeys((5, 10, 20), 0)
        for drawn in (draw(numbers) for _ in range(parts)):
            for n in covered:
                sample = drawn.reshape(n, -1)
                half = ours.t_quantile(0.975, n - 1) * sample.std(axis=0, ddof=1) / math.sqrt(n)
                covered[n] += np.sum(np.abs(sample.mean(axis=0) - centre) <= half)
        for (n, count), text in zip(covered.items(), stated, strict=True):
            trials = parts * numbers // n  # 1 to 4 millions: a standard error is 0.0003 at most
            assert count / trials == pytest.approx(float(text), abs=0.0055), (
                law,
                n,
            )  # a rounded digit and two of these


def test_the_protocols_effects_are_those_that_the_table_uses():
    page = (Path(__file__).parents[1] / "docs" / "protocol.md").read_text()
    stated = {int(n): float(value) for n, value in re.findall(r"δ\((\d+)\) = (\d\.\d\d)(?: {2}|\n)", page)}
    assert stated == {n: round(ours.detectable_effect(n), 2) for n in (5, 6, 8, 10, 20)}
    assert "for k = 5: δ(5) = 2.63 instead of 1.68" in page
    assert round(ours.detectable_effect(5, alpha=0.01), 2) == 2.63


@pytest.mark.parametrize("n", [2, 3, 5, 10, 40])
def test_the_minimum_detectable_difference_has_the_power_that_it_states(n):
    from statsmodels.stats.power import TTestPower

    effect = ours.minimum_detectable(2.0, n) / 2.0
    assert effect == pytest.approx(TTestPower().solve_power(nobs=n, alpha=0.05, power=0.8), rel=1e-5)
    for power, alpha in ((0.8, 0.05), (0.95, 0.01)):
        assert power_by_quadrature(ours.detectable_effect(n, power, alpha), n, alpha) == pytest.approx(power, abs=2e-5)


def power_by_quadrature(effect, n, alpha):
    """P(|T| > critical) for T = (Z + effect √n) / √(V/ν), by adaptive quadrature over V ~ χ²."""
    from scipy import integrate, stats

    df, shift = n - 1, effect * math.sqrt(n)
    critical = float(stats.t.ppf(1 - alpha / 2, df))
    constant = -0.5 * df * math.log(2.0) - math.lgamma(0.5 * df)

    def integrand(v):
        edge = critical * math.sqrt(v / df)
        density = math.exp(constant + (0.5 * df - 1.0) * math.log(v) - 0.5 * v)  # of χ²
        return density * (special.ndtr(shift - edge) + special.ndtr(-shift - edge))

    end = df + 60 + 20 * math.sqrt(df)
    return integrate.quad(integrand, 0, end, limit=1000, points=[1e-3, 0.1, 1.0])[0]


def test_the_minimum_detectable_difference_is_found_as_often_as_it_says():
    from scipy import stats

    n = 5
    delta, critical = ours.minimum_detectable(1.0, n), stats.t.ppf(0.975, n - 1)
    sample = np.random.default_rng(2).normal(delta, 1.0, (20_000, n))
    t = sample.mean(axis=1) / (sample.std(axis=1, ddof=1) / math.sqrt(n))
    assert np.mean(np.abs(t) > critical) == pytest.approx(0.8, abs=0.009)  # three standard errors


def test_holm_is_statsmodels():
    from statsmodels.stats.multitest import multipletests

    rng = np.random.default_rng(5)
    for size in (1, 2, 7):
        for p in (rng.random(size), rng.random(size) ** 4, np.full(size, 0.02)):
            assert ours.holm(p.tolist()) == pytest.approx(multipletests(p, method="holm")[1], rel=1e-12)


def test_the_tables_comparison_controls_the_family_where_all_rows_meet_one_baseline():
    """Six schemes that do not differ, five shared seeds: differences to one baseline are correlated, which Holm allows for."""
    from addnorm_exp.report.protocol.compare import paired_with
    from addnorm_exp.report.protocol.outcome import Outcome

    rng = np.random.default_rng(6)
    trials, wrong, uncorrected = 1000, 0, 0
    for values in rng.normal(0.0, 1.0, (trials, 6, 5)) + rng.normal(
        0.0, 3.0, (trials, 1, 5)
    ):  # seeds share their noise
        rows = [Outcome(dict(enumerate(row.tolist()))) for row in values]
        p = [paired_with(row, rows[0]).p for row in rows[1:]]
        wrong += min(ours.holm(p)) <= 0.05
        uncorrected += min(p) <= 0.05
    assert wrong / trials <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / trials)
    assert wrong / trials > 0.01, "not so strict as to find nothing"
    assert uncorrected / trials > 0.12


def test_a_row_with_a_diverged_run_is_tested_neither_as_a_row_nor_as_the_baseline():
    """Its seeds that did not diverge would be a mean of survivors."""
    from addnorm_exp.report.protocol.compare import paired_with
    from addnorm_exp.report.protocol.outcome import Outcome

    sound = Outcome({seed: 2.0 + 0.1 * seed * seed for seed in range(5)})
    lost = Outcome(sound.values, diverged=(9,))
    assert paired_with(sound, Outcome(dict.fromkeys(range(5), 2.0))) is not None
    assert paired_with(sound, lost) is None
    assert paired_with(lost, sound) is None


def test_the_median_counts_diverged_runs_as_worst():
    assert ours.median_with_worst([1.0, 2.0, 3.0], 0) == 2.0
    assert ours.median_with_worst([1.0, 2.0], 1) == 2.0
    assert ours.median_with_worst([1.0, 2.0, 3.0], 1) == 2.5
    assert ours.median_with_worst([1.0, 2.0], 2) == math.inf
    assert ours.median_with_worst([1.0], 2) == math.inf
