"""Multi-head self-attention (Vaswani 2017, 3.2) as a body of the residual contract."""

import math
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from addnorm_exp.nn.layers import Inits, Linear, fused
from addnorm_exp.residual.contract import Context, Memo, Stats

Implementation = Literal["einsum", "xla", "cudnn"]


class Attention(nnx.Module):
    """`softmax(QKᵀ/√h + mask) V W_o`, softmax in float32.

    `implementation`: `einsum` is the reference and the fastest on CPU; `xla` and `cudnn` go through `jax.nn.dot_product_attention`.
    Logits and entropy are always measured by the reference, since fused kernels do not give them out.
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        inits: Inits,
        *,
        causal: bool,
        rotary: bool,
        bias: bool,
        implementation: Implementation,
        rngs: nnx.Rngs,
    ):
        self.num_heads, self.causal, self.rotary = num_heads, causal, rotary
        self.implementation: Implementation = implementation
        self.query = Linear(width, width, inits("query", width, width), bias=bias, rngs=rngs)
        self.key = Linear(width, width, inits("key", width, width), bias=bias, rngs=rngs)
        self.value = Linear(width, width, inits("value", width, width), bias=bias, rngs=rngs)
        self.out = Linear(width, width, inits("out", width, width), bias=bias, rngs=rngs)

    def __call__(self, x: jax.Array, memo: Memo, context: Context) -> tuple[jax.Array, Memo, Stats]:
        tokens, width = x.shape
        heads = (context.batch, tokens // context.batch, self.num_heads, width // self.num_heads)
        q, k, v = (part.reshape(heads) for part in fused(x, (self.query, self.key, self.value)))
        if self.rotary:
            q, k = rotate(q), rotate(k)
        stats: Stats = {}
        if context.attention_statistics:
            stats = _statistics(self._logits(q, k), self._allowed(heads[1], context.mask))
        if self.implementation == "einsum":
            # The mask is added, not selected: the sum fuses with the softmax, a select costs a pass of its own.
            weights = jax.nn.softmax(self._logits(q, k) + self._bias(heads[1], context.mask), axis=-1)
            mixed = jnp.einsum("bhqk,bkhd->bqhd", weights.astype(v.dtype), v)
        else:
            mask = None if context.mask is None else context.mask[:, None, None, :]
            mixed = jax.nn.dot_product_attention(
                q, k, v, mask=mask, is_causal=self.causal, implementation=self.implementation
            )
        return self.out(mixed.reshape(tokens, width)), memo, stats

    def _logits(self, q: jax.Array, k: jax.Array) -> jax.Array:
        """QKᵀ/√h in float32, (batch, heads, queries, keys)."""
        q = q * (1.0 / math.sqrt(q.shape[-1]))
        return jnp.einsum("bqhd,bkhd->bhqk", q, k, preferred_element_type=jnp.float32)

    def _allowed(self, length: int, mask: jax.Array | None) -> jax.Array:
        """True where a query may look, broadcastable to (batch, heads, queries, keys)."""
        allowed = jnp.ones((1, 1, length, length), bool)
        if self.causal:
            allowed = jnp.tril(allowed)
        return allowed if mask is None else allowed & mask[:, None, None, :]

    def _bias(self, length: int, mask: jax.Array | None) -> jax.Array | float:
        if not self.causal and mask is None:
            return 0.0
        return jnp.where(self._allowed(length, mask), 0.0, jnp.finfo(jnp.float32).min)


def _statistics(logits: jax.Array, allowed: jax.Array) -> Stats:
    """Largest logit, and entropy of the attention weights in nats: mean over heads and queries that may look anywhere."""
    logits = jnp.where(allowed, logits, -jnp.inf)
    log_weights = jax.nn.log_softmax(logits, axis=-1)
    entropy = -jnp.sum(jnp.where(allowed, jnp.exp(log_weights) * log_weights, 0.0), axis=-1)
    sees = jnp.broadcast_to(jnp.any(allowed, axis=-1), entropy.shape)
    mean = jnp.sum(jnp.where(sees, entropy, 0.0)) / jnp.sum(sees)
    return {"logit_max": [jnp.max(logits)], "entropy": [mean]}


def rotate(x: jax.Array) -> jax.Array:
    """Rotary position embedding (Su 2021, 2104.09864, eq. 15), base 10,000, on (batch, tokens, heads, h).

    Coordinate i turns with i + h/2 (the order of GPT-NeoX and LLaMA in Hugging Face), in float32.
    """
    half = x.shape[-1] // 2
    frequency = 10_000.0 ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angle = jnp.arange(x.shape[1], dtype=jnp.float32)[:, None, None] * frequency
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)
