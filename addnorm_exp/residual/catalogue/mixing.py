"""Streams side by side: their weighted sums, and the ends of schemes that start with copies of the embedding."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from addnorm_exp.residual import norms
from addnorm_exp.residual.ends import Ends, EndsModule
from addnorm_exp.residual.init import Init
from addnorm_exp.residual.norms import NormSpec

Streams = tuple[jax.Array, ...]


ZERO = Init.constant(0.0)


def weighted(weights: Sequence[jax.Array], streams: Sequence[jax.Array]) -> jax.Array:
    """`Σ w_i x_i`, each weight one number or one a token, (tokens, 1); the sum in float32."""
    total = sum(weight * stream.astype(jnp.float32) for weight, stream in zip(weights, streams, strict=True))
    return jnp.asarray(total).astype(streams[0].dtype)


class Copies(EndsModule):
    """`streams` copies of the embedding; `y = N(Σ x_i)`."""

    def __init__(self, width: int, rngs: nnx.Rngs, *, closing: NormSpec | None, streams: int = 1):
        super().__init__(width, rngs, closing=closing)
        self.streams = streams

    def open(self, x0: jax.Array) -> Streams:
        return (x0,) * self.streams

    def close(self, state: Streams) -> jax.Array:
        return norms.apply(self.closing, weighted([jnp.ones((), jnp.float32)] * len(state), state))


def copies(norm: NormSpec, streams: int) -> Ends:
    return Ends(norm, Copies, streams=streams)
