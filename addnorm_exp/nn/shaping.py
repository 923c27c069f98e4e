"""What stands in for the missing skip of attention: a matrix of weights that starts at the identity, and maps that do."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from addnorm_exp.nn.layers import matmul
from addnorm_exp.residual.broadcast import across
from addnorm_exp.residual.init import Init, parameter


class Shaping(nnx.Module):
    """`A = a I + b softmax(·) - c C` for each head, C the uniform weights over what a query may look at (He & Hofmann 2023, 2311.01906;
    Noci 2023, 2306.17759); without c where it is not given (He 2023, 2302.10322).

    `first` holds the first values of a, b and c, which are learned, one of each a head.
    """

    def __init__(self, num_heads: int, first: tuple[float, ...], rngs: nnx.Rngs):
        weights = [parameter((num_heads,), Init.constant(value), "coefficient", rngs) for value in first]
        self.identity, self.softmax = weights[0], weights[1]
        self.uniform = weights[2] if len(weights) > 2 else None

    def __call__(
        self,
        mixed: Float[Array, "batch queries heads h"],
        own: Float[Array, "batch queries heads h"],
        v: Float[Array, "batch keys heads h"],
        allowed: Bool[Array, "#batch 1 queries keys"],
    ) -> Float[Array, "batch queries heads h"]:
        """A v, of softmax(·) v = `mixed`, the queries' `own` values, all values and where a query may look."""

        def gain(parameter: nnx.Param) -> jax.Array:
            return across(parameter[...].astype(v.dtype)[:, None], v)

        shaped = gain(self.identity) * own + gain(self.softmax) * mixed
        if self.uniform is None:
            return shaped
        seen = allowed.astype(jnp.float32)
        uniform = seen / jnp.maximum(seen.sum(-1, keepdims=True), 1.0)
        uniform = jnp.broadcast_to(uniform[:, 0], (v.shape[0], *uniform.shape[-2:])).astype(v.dtype)
        return shaped - gain(self.uniform) * jnp.einsum("bqk,bkhd->bqhd", uniform, v)


class ResidualMap(nnx.Module):
    """`s x + r x W`, s and r learned scalars, 1 at first (He & Hofmann 2023, eq. 6). W should start at 0."""

    def __init__(self, width: int, init: Init, rngs: nnx.Rngs):
        self.gain = parameter((), Init.constant(1.0), "coefficient", rngs)
        self.rest = parameter((), Init.constant(1.0), "coefficient", rngs)
        self.kernel = parameter((width, width), init, "matrix", rngs)

    def __call__(self, x: Float[Array, "tokens width"]) -> Float[Array, "tokens width"]:
        mapped = matmul(x, self.kernel[...].astype(x.dtype))
        return self.gain[...].astype(x.dtype) * x + self.rest[...].astype(x.dtype) * mapped
