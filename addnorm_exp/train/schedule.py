"""Learning-rate schedules on traced numbers, so that a sweep over them compiles once (those of optax need Python numbers)."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

KINDS = ("cosine", "inverse_sqrt", "constant", "wsd")


def learning_rate(kind: str, step: jax.Array, hypers: Mapping[str, jax.Array]) -> jax.Array:
    """The rate of update number `step` (0 for the first), float32.

    All start with a linear warmup: update w - 1 is the first at the peak, and the first update does not have a rate of 0. Afterwards:
    cosine        from the peak to `final_lr` times the peak at the last update (Loshchilov & Hutter 2016, 1608.03983, eq. 5)
    inverse_sqrt  peak · √(w / updates so far) (Vaswani 2017, eq. 3; w = 1 without warmup)
    constant      the peak
    wsd           the peak until the last `decay` of the run, then linear to `final_lr` times the peak (Hu 2024, 2404.06395, 4.2)
    """
    done = step.astype(jnp.float32) + 1.0
    peak, warmup, steps = hypers["optim.lr"], hypers["optim.warmup"], hypers["steps"]
    ramp = jnp.minimum(1.0, done / jnp.maximum(warmup, 1.0))
    if kind == "cosine":
        progress = jnp.clip((done - warmup) / jnp.maximum(steps - warmup, 1.0), 0.0, 1.0)
        factor = hypers["optim.final_lr"] + (1.0 - hypers["optim.final_lr"]) * 0.5 * (1.0 + jnp.cos(jnp.pi * progress))
    elif kind == "inverse_sqrt":
        factor = jnp.sqrt(jnp.maximum(warmup, 1.0) / jnp.maximum(done, jnp.maximum(warmup, 1.0)))
    elif kind == "wsd":
        length = jnp.maximum(hypers["optim.decay"] * steps, 1.0)
        progress = jnp.clip((done - (steps - length)) / length, 0.0, 1.0)
        factor = 1.0 + (hypers["optim.final_lr"] - 1.0) * progress
    else:
        factor = jnp.float32(1.0)
    return peak * ramp * factor
