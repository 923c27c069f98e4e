"""Which rows a table may call best: those that a test does not distinguish from the best mean."""

import itertools
from collections.abc import Sequence

from addnorm_exp.report.protocol.compare import paired_with
from addnorm_exp.report.protocol.metric import Measure
from addnorm_exp.report.protocol.outcome import Outcome
from addnorm_exp.report.protocol.statistics import holm

ALPHA = 0.05


NONE: tuple[frozenset[int], str] = (frozenset(), "")


def best_rows(chosen: Measure, main: Sequence[Outcome]) -> tuple[frozenset[int], str]:
    """The row with the best mean, and those that no paired t test distinguishes from it; and a note.

    Holm corrects over all pairs of rows, because the best row is chosen by the same numbers. `NONE` if the number is no metric, if a row
    cannot be tested against another, or if no row is worse than the best. A row with a diverged run is never best.
    """
    metric = chosen.metric
    if metric is None:
        return NONE
    alive = [i for i, outcome in enumerate(main) if not outcome.diverged]
    pairs = list(itertools.combinations(alive, 2))
    tests = [paired_with(main[i], main[j]) for i, j in pairs]
    if not tests or any(test is None for test in tests):
        return NONE
    adjusted = dict(zip(pairs, holm([test.p for test in tests if test]), strict=True))
    means = {i: sum(main[i].values.values()) / len(main[i].values) for i in alive}
    best = min(alive, key=lambda row: metric.sign * means[row])
    rows = frozenset(i for i in alive if i == best or adjusted[min(i, best), max(i, best)] >= ALPHA)
    if len(rows) == len(main):
        return NONE
    return (
        rows,
        f"Bold: the {metric.better.removesuffix('er')}est mean and every row that a two-sided paired t test does not distinguish from "
        f"it (α = {ALPHA:g}, Holm-corrected over all {len(pairs)} pairs of rows).",
    )
