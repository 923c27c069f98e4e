"""Dropout (Srivastava 2014) with a traced rate: a few lines, because the library layers want the rate as a Python number."""

import jax
import jax.numpy as jnp

from addnorm_exp.residual.contract import Context


def dropout(x: jax.Array, context: Context) -> jax.Array:
    """`x` with each element zeroed with probability `context.dropout` and the rest scaled up; `x` itself outside of training."""
    if not context.train or context.key is None:
        return x
    keep = jax.random.bernoulli(context.key, 1.0 - context.dropout, x.shape)
    return jnp.where(keep, x / (1.0 - context.dropout), 0.0).astype(x.dtype)
