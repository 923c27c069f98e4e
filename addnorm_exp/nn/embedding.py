"""Token and position embeddings."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Float32, Int

from addnorm_exp.nn.stack import Architecture
from addnorm_exp.residual import Around, Context, keys, norms
from addnorm_exp.residual import init as laws
from addnorm_exp.residual.around import NOTHING
from addnorm_exp.residual.broadcast import across
from addnorm_exp.residual.dropout import dropout
from addnorm_exp.residual.init import Init, parameter
from addnorm_exp.residual.variables import bound


class Embedding(nnx.Module):
    """Tokens (batch, length) → x0 (tokens, width): embedding plus learned positions, times √width under the law `xavier`; dropout.

    `init` is what the scheme makes of the law of both tables. `around` may ask for rows of unit length, for another factor, and for a
    norm before the dropout.
    """

    def __init__(
        self,
        vocab: int,
        length: int,
        arch: Architecture,
        *,
        init: float | Init = 1.0,
        around: Around = NOTHING,
        rngs: nnx.Rngs,
    ):
        law = laws.embedding(arch.law, arch.width).under(init)
        factor, learned = around.embedding_factor(arch.law, arch.width), around.embedding_scale == "learned"
        self.multiplier = 1.0 if learned else factor
        self.scale = parameter((), laws.Init.constant(factor), "coefficient", rngs) if learned else None
        self.norm = norms.make(around.norm_of_embedding(arch.rotary), arch.width, rngs)
        self.fixed_norm = around.fixed_norm
        self.tokens = parameter((vocab, arch.width), law, "embedding", rngs)
        self.position = bound("position", 0) if arch.cache and not arch.rotary else None
        self.positions = None if arch.rotary else parameter((length, arch.width), law, "embedding", rngs)

    @property
    def table(self) -> Float32[Array, "vocab width"]:
        """The tokens' vectors as they are used."""
        rows = self.tokens[...]
        return rows * jax.lax.rsqrt(jnp.sum(jnp.square(rows), -1, keepdims=True)) if self.fixed_norm else rows

    def __call__(
        self, tokens: Int[Array, "batch length"], context: Context, dtype: DTypeLike
    ) -> Float[Array, "batch*length width"]:
        x = self.table.astype(dtype)[tokens]
        if self.positions is not None:
            rows, length = self.positions[...], tokens.shape[1]
            first = None if self.position is None else self.position[...]
            rows = rows[:length] if first is None else jax.lax.dynamic_slice_in_dim(rows, first, length)
            x = x + across(rows.astype(dtype), x)
        x = x * jnp.asarray(self.multiplier, dtype)
        if self.scale is not None:
            x = self.scale[...].astype(dtype) * x
        x = norms.apply(self.norm, x)
        return dropout(x.reshape(-1, x.shape[-1]), context.fold(keys.EMBEDDING))
