"""Dropout and stochastic depth of a training step: of which seed, rate, step, micro-batch and block they are."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from bridge import B, architecture, decoder, distance, random_parameters, tokens
from jaxprs import scans
from of_config import hypers, make_step, scheme_of
from test_model import FIRST_APART
from training import config as tiny

from addnorm_exp.residual import Context
from addnorm_exp.residual.dropout import drop_path, dropout

SIZE = 20_000  # at which a share is known to 0.0035
KINDS = ("units", "paths")


class Masked(toy.Toy):
    """The toy, whose statistics are what dropout and stochastic depth leave of ones."""

    def __init__(self, batch_size, scheme):
        super().__init__(batch_size)
        self.scheme = scheme

    def loss(self, parameters, probes, part, weight, carried, context):
        paths = drop_path(jnp.ones((SIZE, 1)), replace(context, batch=SIZE))
        diagnostics = {"units": dropout(jnp.ones(SIZE), context), "paths": paths[:, 0]}
        return replace(super().loss(parameters, probes, part, weight, carried, context), diagnostics=diagnostics)


@pytest.fixture(scope="module")
def left():
    """left(step=, accumulate=, **changes) → by kind, what is left of ones in that update. Compiled once for each `accumulate`."""
    compiled = {}

    def left(step=0, accumulate=1, rates=(0.2, 0.4), **changes):
        said = {"model__dropout": rates[0], "model__drop_path": rates[1], "optim__accumulate": accumulate, **changes}
        asked = tiny(batch_size=4, data__seed=0, **said)
        if accumulate not in compiled:
            compiled[accumulate] = jax.jit(make_step(asked, Masked(4, scheme_of(asked)), lambda batch: batch))
        _, metrics = compiled[accumulate](replace(toy.start(), step=jnp.int32(step)), hypers(asked), toy.rows(40))
        return {kind: np.asarray(metrics[kind], np.float64) for kind in KINDS}

    return left


def share(where) -> float:
    return float(np.mean(where))


@pytest.mark.core
@pytest.mark.parametrize("rates", [(0.2, 0.4), (0.5, 0.1)])
def test_rates_are_those_of_the_run(left, rates):
    """In one program: of ones a rate r leaves 1/(1 - r) in a share 1 - r of the places."""
    found = left(rates=rates)
    for kind, rate in zip(KINDS, rates, strict=True):
        kept = found[kind] > 0
        assert share(kept) == pytest.approx(1 - rate, abs=0.02)
        np.testing.assert_allclose(found[kind][kept], 1 / (1 - rate), rtol=1e-6)


@pytest.mark.core
@pytest.mark.parametrize("change", [{"seed": 1}, {"step": 1}], ids=str)
def test_masks_are_of_the_seed_and_the_step(left, change):
    """The same ones for the same two; independent ones otherwise, which differ in a share 2 r (1 - r)."""
    one, same, other = left(), left(), left(**change)
    for kind, rate in zip(KINDS, (0.2, 0.4), strict=True):
        np.testing.assert_array_equal(one[kind], same[kind])
        assert share((one[kind] > 0) != (other[kind] > 0)) == pytest.approx(2 * rate * (1 - rate), abs=0.02)


@pytest.mark.core
def test_each_micro_batch_has_masks_of_its_own(left):
    """Of the two the mean is told: whole where both keep, half where one does, as independent ones do."""
    found = left(accumulate=2)
    for kind, rate in zip(KINDS, (0.2, 0.4), strict=True):
        whole = found[kind] * (1 - rate)
        assert share(np.isclose(whole, 1.0)) == pytest.approx((1 - rate) ** 2, abs=0.02)
        assert share(np.isclose(whole, 0.5)) == pytest.approx(2 * rate * (1 - rate), abs=0.02)
        assert share(whole == 0) == pytest.approx(rate**2, abs=0.02)


@pytest.mark.core
@pytest.mark.parametrize("noise", [{"dropout": 0.3}, {"drop_path": 0.6}], ids=str)
def test_blocks_of_a_scan_that_starts_late_have_their_own_numbers(noise):
    """The first of four blocks stands by itself and the others are scanned: with the keys and rates of blocks 1 to 3, as unrolled."""
    context, logits = Context(batch=B, key=jax.random.key(3), train=True, **noise), {}
    for scan in ("off", "on"):
        model = decoder(FIRST_APART, architecture(depth=4, scan_layers=scan))
        parameters = random_parameters(model.specs)

        def run(parameters, model=model):
            return model.bind(parameters)(tokens(), context)[0]

        assert scans(jax.make_jaxpr(run)(parameters).jaxpr) == {"off": [], "on": [3]}[scan]
        logits[scan] = run(parameters)
    assert distance(logits["on"], logits["off"]) < 1e-5
    assert (
        distance(
            decoder(FIRST_APART, architecture(depth=4)).bind(parameters)(tokens(), Context(batch=B))[0], logits["off"]
        )
        > 0.01
    )
