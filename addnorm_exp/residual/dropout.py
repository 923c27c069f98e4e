"""Dropout of elements and of whole branches, with traced rates: a few lines, because library layers want the rate as a Python number."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from addnorm_exp.residual import keys
from addnorm_exp.residual.contract import Context


def dropout(x: Float[Array, "*tokens width"], context: Context) -> Float[Array, "*tokens width"]:
    """`x` with each element zeroed with probability `context.dropout` and the rest scaled up (Srivastava 2014); `x` itself outside of
    training."""
    if not context.train or context.key is None or context.dropout is None:
        return x
    keep = jax.random.bernoulli(context.key, 1.0 - context.dropout, x.shape)
    return jnp.where(keep, x.astype(jnp.float32) / (1.0 - context.dropout), 0.0).astype(x.dtype)


def drop_path(branch: Float[Array, "*tokens width"], context: Context) -> Float[Array, "*tokens width"]:
    """Stochastic depth (Huang 2016, 1603.09382): the whole branch (tokens, width) of a sequence zeroed with probability
    `context.drop_path`, and the others scaled up, as the released code of vision models does it."""
    if not context.train or context.key is None or context.drop_path is None:
        return branch
    keep = jax.random.bernoulli(
        jax.random.fold_in(context.key, keys.PATHS), 1.0 - context.drop_path, (context.batch, 1)
    )
    rows = branch.reshape(context.batch, -1).astype(jnp.float32)
    return jnp.where(keep, rows / (1.0 - context.drop_path), 0.0).astype(branch.dtype).reshape(branch.shape)
