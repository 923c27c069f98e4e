"""A tap reads the gradient of the residual stream where it passes, and costs no memory.

`tap(x, probe)` is the identity on `x`. Its backward rule hands the cotangent on as it is and reports its squared Frobenius norm, in
float32, as the "gradient" of the dummy scalar `probe`. Being an ordinary gradient, it works under `vmap`, `scan` and `remat`.
Probes are no parameters: keep them out of clipping. When a batch is the mean of A micro-batches, the squared norm of the whole is the
sum of theirs over A².
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32


@jax.custom_vjp
def tap(x: Float[Array, "*stream"], probe: Float32[Array, ""]) -> Float[Array, "*stream"]:
    """`x`, with d(loss)/d(probe) := ‖d(loss)/dx‖²; `probe` is a float32 scalar, any value."""
    del probe
    return x


def _forward(x, probe):
    del probe
    return x, None


def _backward(_, cotangent):
    return cotangent, jnp.sum(jnp.square(cotangent.astype(jnp.float32)))


tap.defvjp(_forward, _backward)
