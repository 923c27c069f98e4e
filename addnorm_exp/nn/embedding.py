"""Token and position embeddings."""

import jax
import jax.numpy as jnp
from flax import nnx

from addnorm_exp.nn.stack import Architecture
from addnorm_exp.residual import Context
from addnorm_exp.residual import init as laws
from addnorm_exp.residual.dropout import dropout
from addnorm_exp.residual.init import parameter

DROPOUT_KEY = 2**32 - 1  # blocks fold their index into the same key; this is the index of none


class Embedding(nnx.Module):
    """Tokens (batch, length) → x0 (tokens, width): embedding plus learned positions, times √width under the law `xavier`; dropout."""

    def __init__(self, vocab: int, length: int, arch: Architecture, *, rngs: nnx.Rngs):
        law = laws.embedding(arch.law, arch.width)
        self.multiplier = laws.embedding_multiplier(arch.law, arch.width)
        self.tokens = parameter((vocab, arch.width), law, "embedding", rngs)
        self.positions = None if arch.rotary else parameter((length, arch.width), law, "embedding", rngs)

    def __call__(self, tokens: jax.Array, context: Context, dtype: jnp.dtype) -> jax.Array:
        x = self.tokens[...].astype(dtype)[tokens]
        if self.positions is not None:
            x = x + self.positions[...][: tokens.shape[1]].astype(dtype)
        x = x * jnp.asarray(self.multiplier, dtype)
        return dropout(x.reshape(-1, x.shape[-1]), context.fold(DROPOUT_KEY))
