"""Learning-rate schedules against float64 NumPy written from the definitions."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from addnorm_exp.train.schedule import KINDS, learning_rate

PEAK, FINAL = 3e-3, 0.1


def reference(kind: str, update: int, warmup: int, steps: int, decay: float) -> float:
    """The rate of the update-th update, counted from 1."""
    ramp = min(1.0, update / warmup) if warmup else 1.0
    if kind == "cosine":
        if update <= warmup:
            return PEAK * ramp
        angle = math.pi * (update - warmup) / (steps - warmup)
        return PEAK * (FINAL + (1 - FINAL) * (1 + math.cos(angle)) / 2)
    if kind == "inverse_sqrt":  # Vaswani 2017, eq. 3, scaled so that its greatest value is the peak
        w = max(warmup, 1)
        return PEAK * math.sqrt(w) * min(update**-0.5, update * w**-1.5)
    if kind == "wsd":
        start = steps - decay * steps
        return PEAK * ramp * (1.0 if update <= start else 1 - (1 - FINAL) * (update - start) / (decay * steps))
    return PEAK * ramp


@pytest.mark.core
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("warmup", [0, 1, 7])
@pytest.mark.parametrize("steps", [10, 40])
def test_every_schedule_is_its_formula(kind, warmup, steps):
    decay = 0.3
    hypers = {
        "optim.lr": PEAK,
        "optim.warmup": warmup,
        "steps": steps,
        "optim.final_lr": FINAL,
        "optim.decay": decay,
    }
    hypers = {name: jnp.float32(value) for name, value in hypers.items()}
    rates = jax.vmap(lambda step: learning_rate(kind, step, hypers))(jnp.arange(steps))
    expected = [reference(kind, update, warmup, steps, decay) for update in range(1, steps + 1)]
    assert rates.dtype == jnp.float32
    np.testing.assert_allclose(rates, expected, rtol=3e-6)


def rate(kind, update, **changes):
    hypers = {
        "optim.lr": PEAK,
        "optim.warmup": 10,
        "steps": 100,
        "optim.final_lr": FINAL,
        "optim.decay": 0.2,
        **{f"optim.{key}": value for key, value in changes.items()},
    }
    return float(
        learning_rate(kind, jnp.int32(update - 1), {name: jnp.float32(value) for name, value in hypers.items()})
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_update_moves_and_the_last_of_warmup_is_the_peak(kind):
    assert rate(kind, 1) == pytest.approx(PEAK / 10)
    assert rate(kind, 10) == pytest.approx(PEAK)
    assert rate(kind, 1, warmup=0) > 0.9 * PEAK


@pytest.mark.parametrize("kind", ["cosine", "wsd"])
def test_the_last_update_has_the_final_rate(kind):
    assert rate(kind, 100) == pytest.approx(FINAL * PEAK, rel=1e-5)
    assert rate(kind, 100, final_lr=0.0) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("kind", ["cosine", "inverse_sqrt", "constant"])  # wsd: refused at the door, the two overlap
def test_a_run_that_is_all_warmup_ends_at_the_peak(kind):
    assert rate(kind, 20, warmup=20, steps=20) == pytest.approx(PEAK)
