"""Broadcasting spelled out, so that JAX_NUMPY_RANK_PROMOTION=raise, which finds wrong shapes, works."""

import jax
import jax.numpy as jnp


def across(value: jax.Array, x: jax.Array) -> jax.Array:
    """`value` (…, width) with axes of length 1 in front, up to the rank of `x`. A scalar stays one."""
    return value if value.ndim == 0 else jnp.expand_dims(value, tuple(range(x.ndim - value.ndim)))
