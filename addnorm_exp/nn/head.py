"""The output head: from the closed stream to logits."""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Float32, Int

from addnorm_exp.nn.layers import soft_cap
from addnorm_exp.residual import Around
from addnorm_exp.residual.around import NOTHING
from addnorm_exp.residual.broadcast import across
from addnorm_exp.residual.init import Init, parameter


def token_losses(
    logits: Float32[Array, "tokens classes"], labels: Int[Array, "*labels"]
) -> tuple[Float32[Array, " tokens"], Float32[Array, " tokens"]]:
    """Cross-entropy in nats, and log Σ exp. Labels have any shape, with as many numbers as there are tokens."""
    log_z = jax.nn.logsumexp(logits, axis=-1)
    return log_z - jnp.take_along_axis(logits, labels.reshape(-1, 1), axis=-1)[:, 0], log_z


def objective(
    losses: Float32[Array, " examples"], log_z: Float32[Array, " examples"], weight: float | jax.Array, z_loss: float
) -> Float32[Array, ""]:
    """The share of a cross-entropy that a micro-batch contributes (tasks/task.py), with the z-loss in its gradient alone: what is recorded
    and compared stays the cross-entropy. `losses` and `log_z` are those of `token_losses`, `weight` is that of the whole batch."""
    value = jnp.sum(losses) / weight
    if not z_loss:
        return value
    penalty = z_loss * (jnp.sum(jnp.square(log_z)) / weight)
    return value + (penalty - jax.lax.stop_gradient(penalty))


class Head(nnx.Module):
    """`s ⊙ (y W)` in float32, W (width, outputs) its own, or the transpose of a table that is handed in where `init` is None (tied).

    s is 1 unless `around` has a `logit_scale`; then it is learned, one number an output, and stored as s/√width, so that Adam's first
    steps are as large against it as nGPT's are (2410.01131, 2.1). With a `logit_cap` c > 0 the logits are c tanh(z / c) (Gemma 2).
    """

    def __init__(
        self,
        width: int,
        outputs: int,
        init: Init | None,
        *,
        bias: bool = False,
        around: Around = NOTHING,
        rngs: nnx.Rngs,
    ):
        self.cap = around.logit_cap
        self.kernel = None if init is None else parameter((width, outputs), init, "matrix", rngs)
        self.bias = parameter((outputs,), Init.constant(0.0), "bias", rngs) if bias else None
        rate = Init.constant(width**-0.5)
        self.scale = parameter((outputs,), rate, "coefficient", rngs) if around.logit_scale else None

    def __call__(
        self, y: Float[Array, "tokens width"], table: Float32[Array, "vocab width"] | None = None
    ) -> Float32[Array, "tokens outputs"]:
        """Logits. `table` stands in where the head has no kernel of its own."""
        kernel = table.T if table is not None and self.kernel is None else self.kernel[...]  # type: ignore[index]
        logits = jnp.matmul(y, kernel.astype(y.dtype), preferred_element_type=jnp.float32)
        if self.bias is not None:
            logits = logits + across(self.bias[...], logits)
        if self.scale is not None:
            logits = logits * across(self.scale[...] * math.sqrt(y.shape[-1]), logits)
        return soft_cap(logits, self.cap)
