"""Slopes of power laws that are known, and the verdict on each kind of prediction by hand-made rows."""

from dataclasses import replace

import pytest

from addnorm_exp.probe.measurements import Measurement, Probed
from addnorm_exp.probe.table import tables
from addnorm_exp.probe.verdict import FAILS, HOLDS, UNDECIDED, judge
from addnorm_exp.residual import catalogue
from addnorm_exp.residual.predictions import Curve, Equal, Ratio, Slope


def power_law(exponent, quantity="grad_w2", depths=(6, 12, 24)):
    return Probed(
        [
            Measurement("x", "theory", depth, block, quantity, 3.0 * depth**exponent)
            for depth in depths
            for block in range(depth + 1)
        ]
    )


def test_the_slope_of_a_power_law_is_its_exponent():
    assert power_law(-0.5).slope("x", "theory", "grad_w2") == pytest.approx(-0.5)
    assert power_law(1.0, "stream_ms").slope("x", "theory", "stream_ms") == pytest.approx(1.0)
    assert power_law(1.0, depths=(6,)).slope("x", "theory", "grad_w2") is None
    assert power_law(1.0).slope("x", "batch", "grad_w2") is None


def test_the_stream_is_followed_at_one_place_under_every_scheme():
    """At what the last block reads: of several streams there is none at the output."""

    def grown(name, blocks):
        return [
            Measurement(name, "theory", depth, n, "stream_ms", 1.0 + n)
            for depth in (6, 12)
            for n in range(depth + blocks)
        ]

    probed = Probed([*grown("one", 1), *grown("several", 0)])
    assert [probed.end(name, "theory", "stream_ms", 12) for name in probed.schemes] == [12.0, 12.0]
    assert [probed.slope(name, "theory", "stream_ms") for name in probed.schemes] == [pytest.approx(1.0)] * 2
    assert Probed([Measurement("x", "theory", 6, 4, "grad_w2", 1.0)]).end("x", "theory", "grad_w2", 6) is None


@pytest.mark.parametrize(("exponent", "verdict"), [(-0.5, HOLDS), (-0.45, HOLDS), (-0.3, FAILS), (0.2, FAILS)])
def test_a_slope_is_judged_by_its_band(exponent, verdict):
    claim = Slope("falls", "paper", "theory", "grad_w2", (-0.6, -0.4))
    (one,) = judge(power_law(exponent), "x", (claim,))
    assert one.verdict == verdict
    assert f"{exponent:.3g}" in one.measured


def test_a_curve_is_judged_at_its_worst_block():
    rows = [Measurement("x", "batch", 3, block, "stream_ms", value) for block, value in enumerate((1.0, 2.0, 9.0, 4.0))]
    claim = Curve("linear", "paper", "batch", "stream_ms", lambda block, depth: (block, block + 2))
    (one,) = judge(Probed(rows), "x", (claim,))
    assert (one.verdict, one.measured, one.predicted) == (FAILS, "9", "2 to 4 at block 2 of 3")
    rows[2] = Measurement("x", "batch", 3, 2, "stream_ms", 3.0)
    (one,) = judge(Probed(rows), "x", (claim,))
    assert (one.verdict, one.predicted) == (HOLDS, "3 to 5 at block 3 of 3")
    rows[2] = Measurement("x", "batch", 3, 2, "stream_ms", float("nan"))
    (one,) = judge(Probed(rows), "x", (claim,))
    assert one.verdict == FAILS
    (one,) = judge(Probed([]), "x", (claim,))
    assert one.verdict == UNDECIDED


def test_a_ratio_is_that_of_the_first_block_over_the_last():
    rows = [Measurement("x", "batch", 3, block, "grad_stream", value) for block, value in enumerate((8.0, 4.0, 2.0))]
    claim = Ratio("shrinks", "paper", "batch", "grad_stream", lambda depth: (4.0, 4.0))
    (one,) = judge(Probed(rows), "x", (claim,))
    assert one.verdict == HOLDS
    (one,) = judge(Probed([*rows[:2], Measurement("x", "batch", 3, 2, "grad_stream", 4.0)]), "x", (claim,))
    assert (one.verdict, one.measured) == (FAILS, "2")


def test_one_curve_is_anothers_at_every_block():
    def probed(*values):
        return Probed(
            [
                Measurement(name, "theory", 2, block, "stream_ms", value)
                for name, curve in (("x", values), ("plain", (1.0, 2.0, 3.0)))
                for block, value in enumerate(curve)
            ]
        )

    claim = Equal("twice", "paper", "theory", "stream_ms", "plain", lambda block, depth: block + 2.0, tolerance=0.01)
    (one,) = judge(probed(2.0, 6.0, 12.1), "x", (claim,))
    assert (one.verdict, one.measured) == (HOLDS, "ratio 1.00833 at block 2 of 2")
    assert one.predicted == "ratio 1 ± 0.01 to plain"
    (one,) = judge(probed(2.0, 5.9, 12.1), "x", (claim,))
    assert (one.verdict, one.measured) == (FAILS, "ratio 0.98333 at block 1 of 2")
    (one,) = judge(probed(2.0, float("nan"), 12.1), "x", (claim,))
    assert one.verdict == FAILS
    (one,) = judge(probed(2.0, 6.0), "x", (claim,))  # several streams have no value at the output
    assert one.verdict == HOLDS
    (one,) = judge(Probed([Measurement("x", "theory", 2, 0, "stream_ms", 2.0)]), "x", (claim,))
    assert (one.verdict, one.measured) == (UNDECIDED, "nothing (plain was not measured)")


def test_what_is_not_decided_is_not_counted_as_failed():
    """Of four predictions one holds, one does not, and two have nothing that they could be held against."""
    claims = (
        Slope("falls", "paper", "theory", "grad_w2", (-0.6, -0.4)),
        Slope("rises", "paper", "theory", "grad_w2", (0.4, 0.6)),
        Slope("nothing", "paper", "theory", "stream_ms", (0.0, 1.0)),
        Equal("the same", "paper", "theory", "grad_w2", "elsewhere"),
    )
    scheme = replace(catalogue.get("pre_ln"), name="x", predictions=claims)
    of_batch, of_theory, predictions = tables(power_law(-0.5), {"x": scheme}, width=256, seeds=3)
    assert (of_batch.rows[0][-1], of_theory.rows[0][-1]) == ("none", "1 of 2 hold, 2 not decided")
    assert predictions.notes == ("4 predictions, 1 of which does not hold here; 2 not decided.",)


def test_at_a_size_that_predictions_are_not_made_for_none_is_judged():
    claims = (
        Slope("rises", "paper", "theory", "grad_w2", (0.4, 0.6)),
        Slope("falls", "paper", "theory", "grad_w2", (-0.6, -0.4)),
        Slope("nothing", "paper", "theory", "stream_ms", (0.0, 1.0)),
    )
    scheme = replace(catalogue.get("pre_ln"), name="x", predictions=claims)
    for size in ({"depths": (2, 6)}, {"width": 64}, {"seeds": 1}):
        probed = power_law(-0.5, depths=size.pop("depths", (6, 12, 24)))
        _, of_theory, predictions = tables(probed, {"x": scheme}, **{"width": 256, "seeds": 3} | size)
        assert of_theory.rows[0][-1] == "1 not decided, 2 not judged at this size"
        assert [row[5] for row in predictions.rows] == ["not judged at this size"] * 2 + ["not decided"]
        assert predictions.notes == (
            "3 predictions, 2 not judged: they apply to depths 6 to 48, a width of at least 128 and at least 3 seeds; "
            "1 not decided.",
        )


def test_a_slope_of_nothing_has_no_sign():
    table, *_ = tables(power_law(-0.001, "sensitivity"), {"x": catalogue.get("pre_ln")}, width=256, seeds=3)[1:]
    assert "0.00" in table.rows[0]
    assert "-0.00" not in str(table.rows)
