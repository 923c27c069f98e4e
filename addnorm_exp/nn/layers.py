"""The maps that sublayers are made of. Activations are two-dimensional, (tokens, width).

With three-dimensional inputs XLA on CPU fuses the activation's derivative into a loop that writes its result transposed for the weight
gradient; two-dimensional ones go straight to the matrix product (benchmarks/NOTES.md).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from addnorm_exp.residual.broadcast import across
from addnorm_exp.residual.init import Init, parameter

# How a sublayer asks for the law of a weight matrix: role (query, down, …), fan-in, fan-out → law.
Inits = Callable[[str, int, int], Init]


@jax.custom_vjp
def matmul(x: Float[Array, "tokens fan_in"], kernel: Float[Array, "fan_in fan_out"]) -> Float[Array, "tokens fan_out"]:
    """`x W`, (tokens, in) by (in, out); differentiable in reverse mode only.

    The gradient of W sums over tokens, and XLA on CPU takes nearly twice as long for it where W is tall: 1.1 ms, and 0.7 for its
    transpose, at 512 × 128 and 768 tokens (benchmarks/NOTES.md). So a tall one is formed transposed.
    """
    return x @ kernel


def _matmul_forward(x, kernel):
    return x @ kernel, (x, kernel)


def _matmul_backward(saved, cotangent):
    x, kernel = saved
    fan_in, fan_out = kernel.shape
    # Without the barrier XLA simplifies the transpose away.
    tall = fan_in > fan_out
    gradient = jax.lax.optimization_barrier(cotangent.T @ x).T if tall else x.T @ cotangent
    return cotangent @ kernel.T, gradient


matmul.defvjp(_matmul_forward, _matmul_backward)


class Linear(nnx.Module):
    """`x W + b` in x's dtype; W is float32 of shape (in, out). Ours, because a parameter here knows its law and its group."""

    def __init__(self, fan_in: int, fan_out: int, init: Init, *, bias: bool, rngs: nnx.Rngs):
        self.kernel = parameter((fan_in, fan_out), init, "matrix", rngs)
        self.bias = parameter((fan_out,), Init.constant(0.0), "bias", rngs) if bias else None

    def __call__(self, x: Float[Array, "tokens fan_in"]) -> Float[Array, "tokens fan_out"]:
        y = matmul(x, self.kernel[...].astype(x.dtype))
        return y if self.bias is None else y + across(self.bias[...].astype(x.dtype), y)


def fused(x: Float[Array, "tokens fan_in"], maps: tuple[Linear, ...]) -> tuple[Float[Array, "tokens _"], ...]:
    """Several maps of one input by one matrix product; each keeps its own parameters, hence its own law and path."""
    kernel = jnp.concatenate([one.kernel[...] for one in maps], axis=1).astype(x.dtype)
    y = x @ kernel
    if maps[0].bias is not None:
        bias = jnp.concatenate([one.bias[...] for one in maps]).astype(x.dtype)  # type: ignore[index]
        y = y + across(bias, y)
    ends = [one.kernel.shape[1] for one in maps]
    return tuple(jnp.split(y, [sum(ends[: n + 1]) for n in range(len(ends) - 1)], axis=-1))


def soft_cap(logits: Float[Array, "*logits"], cap: float) -> Float[Array, "*logits"]:
    """`c tanh(z / c)`: nearly z where it is small, never beyond ±c. A cap of 0 is none."""
    return cap * jnp.tanh(logits / cap) if cap else logits
