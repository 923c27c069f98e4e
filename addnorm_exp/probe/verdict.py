"""Compares measurements with the predictions of the scheme's record."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from addnorm_exp.probe.measurements import Probed
from addnorm_exp.residual.predictions import Band, Curve, Equal, Prediction, Ratio, Slope

HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "not decided"
UNJUDGED = "not judged at this size"  # the record's bands do not apply to it

BandCheck = tuple[str, float, Band]  # place, measured value, predicted band


@dataclass(frozen=True)
class Verdict:
    """`predicted` and `measured` are texts for a table's cells."""

    scheme: str
    prediction: Prediction
    predicted: str
    measured: str
    verdict: str


def judge(probed: Probed, scheme: str, predictions: tuple[Prediction, ...]) -> Iterator[Verdict]:
    for prediction in predictions:
        if isinstance(prediction, Slope):
            texts = _slope(probed, scheme, prediction)
        elif isinstance(prediction, Equal):
            texts = _equal(probed, scheme, prediction)
        else:
            points = (
                _curve(probed, scheme, prediction)
                if isinstance(prediction, Curve)
                else _ratio(probed, scheme, prediction)
            )
            texts = _worst(list(points))
        yield Verdict(scheme, prediction, *texts)


def _slope(probed: Probed, scheme: str, prediction: Slope) -> tuple[str, str, str]:
    low, high = prediction.band
    predicted = f"slope {number(low)} to {number(high)}"
    slope = probed.slope(scheme, prediction.setting, prediction.quantity)
    if slope is None:
        return predicted, "no slope (one depth, or a value that is 0 or not finite)", UNDECIDED
    return predicted, f"slope {number(slope)}", HOLDS if low <= slope <= high else FAILS


def _curve(probed: Probed, scheme: str, prediction: Curve) -> Iterator[BandCheck]:
    for depth in probed.depths:
        for block, value in probed.curve(scheme, prediction.setting, prediction.quantity, depth).items():
            yield f"at block {block} of {depth}", value, prediction.band(block, depth)


def _ratio(probed: Probed, scheme: str, prediction: Ratio) -> Iterator[BandCheck]:
    for depth in probed.depths:
        curve = probed.curve(scheme, prediction.setting, prediction.quantity, depth)
        if curve and curve[max(curve)]:
            yield f"first over last at depth {depth}", curve[0] / curve[max(curve)], prediction.band(depth)


def _equal(probed: Probed, scheme: str, prediction: Equal) -> tuple[str, str, str]:
    """Judges the point whose ratio is furthest from 1."""
    ratios = []
    for depth in probed.depths:
        mine = probed.curve(scheme, prediction.setting, prediction.quantity, depth)
        other = probed.curve(prediction.scheme, prediction.setting, prediction.quantity, depth)
        for block in mine.keys() & other.keys():
            expected = prediction.times(block, depth) * other[block]
            ratios.append((mine[block] / expected if expected else math.nan, block, depth))
    predicted = f"ratio 1 ± {number(prediction.tolerance)} to {prediction.scheme}"
    if not ratios:
        return predicted, f"nothing ({prediction.scheme} was not measured)", UNDECIDED
    ratio, block, depth = max(ratios, key=lambda point: math.inf if math.isnan(point[0]) else abs(point[0] - 1))
    verdict = HOLDS if abs(ratio - 1) <= prediction.tolerance else FAILS
    return predicted, f"ratio {ratio:.5f} at block {block} of {depth}", verdict


def _worst(points: list[BandCheck]) -> tuple[str, str, str]:
    """Judges the point that is furthest outside its band, or else the last point."""
    if not points:
        return "a band", "nothing", UNDECIDED
    place, value, (low, high) = max(points[::-1], key=_outside)
    inside = _outside((place, value, (low, high))) == 0.0
    return f"{number(low)} to {number(high)} {place}", f"{number(value)}", HOLDS if inside else FAILS


def _outside(point: BandCheck) -> float:
    """The distance from its band, relative to the band's larger end; 0 inside."""
    _, value, (low, high) = point
    if math.isnan(value):
        return math.inf
    return max(low - value, value - high, 0.0) / max(abs(low), abs(high), 1e-30)


def number(value: float) -> str:
    """Three significant digits."""
    return f"{value + 0.0:.3g}" if value == 0 or 1e-3 <= abs(value) < 1e4 else f"{value:.1e}"
