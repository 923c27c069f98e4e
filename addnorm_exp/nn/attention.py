"""Multi-head attention (Vaswani 2017, 3.2), of a sequence over itself or over a memory, as a body of the residual contract."""

import math
from collections.abc import Iterable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Float32

from addnorm_exp.nn.layers import Inits, Linear, fused, soft_cap
from addnorm_exp.nn.shaping import ResidualMap, Shaping
from addnorm_exp.residual import norms
from addnorm_exp.residual.broadcast import across
from addnorm_exp.residual.contract import ATTENDING, Context, Memo, Stats
from addnorm_exp.residual.init import Init, parameter
from addnorm_exp.residual.norms import NormSpec
from addnorm_exp.residual.variables import Running, bound

Implementation = Literal["einsum", "xla", "cudnn"]
QK_NORMS = ("none", "head", "full", "l2", "cosine")
V_NORMS = ("none", "head")


class Attention(nnx.Module):
    """`softmax(QKᵀ/√h + mask) V W_o`, softmax in float32. With `cross`, keys and values come from `memo["memory"]` (tokens, width), valid
    where `memo["memory_mask"]` (batch, tokens) is True if it is there, and every query sees all of them.

    `implementation`: `einsum` is the reference and the fastest on CPU; `xla` and `cudnn` go through `jax.nn.dot_product_attention`.
    Logits and entropy are always measured by the reference, since fused kernels do not give them out.

    The rest are options that a scheme or a config's axes set:

    | option     | value  | what                                                                 | source                          |
    |------------|--------|----------------------------------------------------------------------|---------------------------------|
    | qk_norm    | head   | RMSNorm of q and k over each head, one gain for all heads, before rotary | Qwen 3, Gemma 3, EXAONE 4   |
    |            | full   | RMSNorm of q and k over the whole width, before the split            | OLMo 2, 2501.00656              |
    |            | l2     | s ⊙ q/‖q‖ and s ⊙ k/‖k‖ per head after rotary, logits times √h       | nGPT, 2410.01131, eq. 15, 16    |
    |            | cosine | q·k/(‖q‖‖k‖) times e^τ, τ by head, log 10 at first, at most log 100  | Swin-V2, 2111.09883, eq. 2      |
    | v_norm     | head   | RMSNorm of v over each head                                          | HybridNorm, 2503.04598          |
    | soft_cap   | c > 0  | c tanh(logits / c), before the mask                                  | Gemma 2 (c = 50)                |
    | out_norm   | norm   | N(heads) over the whole width, before W_o                            | Sub-LN, 2210.06423              |
    | head_scale | True   | each head times a learned γ, 1 at first, before W_o                  | NormFormer, 2110.09456          |
    | value_mix  | "keep" | v goes into the memo as `values`, before its norm                    | ResFormer, 2410.17897           |
    |            | (λ, μ) | λ `memo["values"]` + μ v, before the norm                            |                                 |
    | shaping    | (a, b[, c]) | a I + b softmax(·) - c C, learned by head (nn/shaping.py)       | SAS, 2311.01906                 |
    | value_map, | residual | s x + r x W in the place of W_v or W_o, s and r learned scalars    | SAS, 2311.01906, eq. 6          |
    | out_map    | dropped  | x                                                                  |                                 |

    s is stored as s/√width, so that Adam's first steps are as large against it as nGPT's are.

    With `cache` (sequences, tokens) keys and values are kept as running state (residual/variables.py): a call then has the next tokens
    alone, of which the first has the place `position`, a value that is given where parameters are bound. Others than causal attention of
    a sequence over itself keep nothing, and there is no mask.
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
        cross: bool = False,
        qk_norm: str = "none",
        v_norm: str = "none",
        soft_cap: float = 0.0,
        out_norm: NormSpec | None = None,
        head_scale: bool = False,
        value_mix: Literal["keep"] | tuple[float, float] | None = None,
        shaping: tuple[float, ...] = (),
        value_map: str = "linear",
        out_map: str = "linear",
        cache: tuple[int, int] | None = None,
    ):
        self.num_heads, self.cross = num_heads, cross
        self.causal, self.rotary = causal and not cross, rotary and not cross
        self.implementation: Implementation = implementation
        self.qk_norm, self.soft_cap, self.value_mix = qk_norm, soft_cap, value_mix
        size = width // num_heads
        self.query = Linear(width, width, inits("query", width, width), bias=bias, rngs=rngs)
        self.key = Linear(width, width, inits("key", width, width), bias=bias, rngs=rngs)

        def square(role: str, kind: str) -> Linear | ResidualMap | None:
            if kind == "dropped":
                return None
            init = inits(role, width, width)
            return (
                ResidualMap(width, init, rngs)
                if kind == "residual"
                else Linear(width, width, init, bias=bias, rngs=rngs)
            )

        self.value, self.out = square("value", value_map), square("out", out_map)
        self.shaping = Shaping(num_heads, shaping, rngs) if shaping else None
        over = {"head": size, "full": width}.get(qk_norm)
        self.query_norm = norms.Norm(norms.RMS, over, rngs=rngs) if over else None
        self.key_norm = norms.Norm(norms.RMS, over, rngs=rngs) if over else None
        self.value_norm = norms.Norm(norms.RMS, size, rngs=rngs) if v_norm == "head" else None
        rate, sharpness, one = Init.constant(width**-0.5), Init.constant(math.log(10.0)), Init.constant(1.0)
        self.qk_scale = parameter((width,), rate, "coefficient", rngs) if qk_norm == "l2" else None
        self.temperature = parameter((num_heads,), sharpness, "coefficient", rngs) if qk_norm == "cosine" else None
        self.head_scale = parameter((num_heads,), one, "gain", rngs) if head_scale else None
        self.out_norm = norms.make(out_norm, width, rngs)
        kept = cache if self.causal else None
        self.position = bound("position", 0) if kept else None
        self.past = nnx.Dict({name: _empty((*kept, num_heads, size)) for name in ("keys", "values")}) if kept else None

    def __call__(
        self, x: Float[Array, "tokens width"], memo: Memo, context: Context
    ) -> tuple[Float[Array, "tokens width"], Memo, Stats]:
        tokens, width = x.shape
        mask = memo.get("memory_mask") if self.cross else context.mask
        q, k, own, memo = self._project(x, memo, context.batch)
        k, v = self._with_the_past("keys", k), self._with_the_past("values", own)
        stats: Stats = {}
        if context.attention_statistics:
            allowed = self._allowed(q, k, mask)
            if context.mask is not None:  # padded queries compute something too, of which nobody reads
                allowed = allowed & context.mask[:, None, :, None]
            stats = _statistics(self._logits(q, k), allowed)
        if self.implementation == "einsum" or self.past is not None:
            # The mask is added, not selected: the sum fuses with the softmax, a select costs a pass of its own.
            weights = jax.nn.softmax(self._logits(q, k) + self._bias(q, k, mask), axis=-1)
            mixed = jnp.einsum("bhqk,bkhd->bqhd", weights.astype(v.dtype), v)
        else:
            keys = None if mask is None else mask[:, None, None, :]
            mixed = jax.nn.dot_product_attention(
                q, k, v, mask=keys, is_causal=self.causal, implementation=self.implementation, scale=self._scale(q)
            )
        if self.shaping is not None:
            mixed = self.shaping(mixed, own, v, self._allowed(q, k, mask))
        if self.head_scale is not None:
            mixed = across(self.head_scale[...].astype(x.dtype)[:, None], mixed) * mixed
        mixed = norms.apply(self.out_norm, mixed.reshape(tokens, width))
        return mixed if self.out is None else self.out(mixed), memo, stats

    def _project(
        self, x: Float[Array, "tokens width"], memo: Memo, batch: int
    ) -> tuple[
        Float[Array, "batch queries heads h"],
        Float[Array, "batch keys heads h"],
        Float[Array, "batch keys heads h"],
        Memo,
    ]:
        """q, k, v, ready for the product."""
        if not isinstance(self.value, Linear):
            source = memo["memory"] if self.cross else x
            q, k, v = self.query(x), self.key(source), source if self.value is None else self.value(source)
        elif self.cross:
            q = self.query(x)
            k, v = fused(memo["memory"], (self.key, self.value))
        else:
            q, k, v = fused(x, (self.query, self.key, self.value))
        if self.qk_norm == "full":
            q, k = norms.apply(self.query_norm, q), norms.apply(self.key_norm, k)
        q, k, v = (part.reshape(batch, -1, self.num_heads, x.shape[-1] // self.num_heads) for part in (q, k, v))
        if self.qk_norm == "head":
            q, k = norms.apply(self.query_norm, q), norms.apply(self.key_norm, k)
        if self.value_mix == "keep":
            memo = {**memo, "values": v}
        elif self.value_mix is not None:
            of_first, of_own = self.value_mix
            v = of_first * memo["values"] + of_own * v
        v = norms.apply(self.value_norm, v)
        if self.rotary:
            q, k = (rotate(part, self.position) for part in (q, k))
        if self.qk_scale is not None:
            scale = (self.qk_scale[...] * math.sqrt(x.shape[-1])).reshape(self.num_heads, -1).astype(x.dtype)
            scale = across(scale, q)
            q, k = scale * direction(q), scale * direction(k)
        if self.temperature is not None:
            sharpness = jnp.exp(jnp.minimum(self.temperature[...], math.log(100.0)))
            q, k = across(sharpness.astype(x.dtype)[:, None], q) * direction(q), direction(k)
        return q, k, v, memo

    def _with_the_past(self, name: str, new: jax.Array) -> jax.Array:
        """Keys or values of all places, and the new ones among them, where they are kept."""
        if self.past is None or self.position is None:
            return new
        past = self.past[name]
        past[...] = jax.lax.dynamic_update_slice_in_dim(past[...], new.astype(past.dtype), self.position[...], axis=1)
        return past[...].astype(new.dtype)

    def _scale(self, q: jax.Array) -> float:
        """What the product of q and k is multiplied by."""
        return {"l2": math.sqrt(q.shape[-1]), "cosine": 1.0}.get(self.qk_norm, 1.0 / math.sqrt(q.shape[-1]))

    def _logits(
        self, q: Float[Array, "batch queries heads h"], k: Float[Array, "batch keys heads h"]
    ) -> Float32[Array, "batch heads queries keys"]:
        """What enters the softmax but for the mask, in float32."""
        logits = jnp.einsum("bqhd,bkhd->bhqk", q * self._scale(q), k, preferred_element_type=jnp.float32)
        return soft_cap(logits, self.soft_cap)

    def _allowed(
        self,
        q: Float[Array, "batch queries heads h"],
        k: Float[Array, "batch keys heads h"],
        mask: Bool[Array, "batch keys"] | None,
    ) -> Bool[Array, "#batch 1 queries keys"]:
        """True where a query may look."""
        allowed = jnp.ones((1, 1, q.shape[1], k.shape[1]), bool)
        if self.position is not None:
            queries, keys = (jnp.arange(part.shape[1], dtype=jnp.int32) for part in (q, k))
            allowed = (keys[None, :] <= queries[:, None] + self.position[...])[None, None]
        elif self.causal:
            allowed = jnp.tril(allowed)
        return allowed if mask is None else allowed & mask[:, None, None, :]

    def _bias(self, q: jax.Array, k: jax.Array, mask: jax.Array | None) -> jax.Array | float:
        if not self.causal and mask is None:
            return 0.0
        return jnp.where(self._allowed(q, k, mask), 0.0, jnp.finfo(jnp.float32).min)


def attention_columns(labels: Iterable[str]) -> list[str]:
    """What the attention sublayers' statistics have a column for, given the labels of a model's sites, in order: the site, or site and
    sublayer (`decoder.0.attention+cross_attention:attention`) where several attend at one."""
    columns = []
    for label in labels:
        kinds = [kind for kind in label.rpartition(".")[2].split("+") if kind in ATTENDING]
        columns += [label] if len(kinds) == 1 else [f"{label}:{kind}" for kind in kinds]
    return columns


def _statistics(
    logits: Float32[Array, "batch heads queries keys"], allowed: Bool[Array, "#batch 1 queries keys"]
) -> Stats:
    """Largest logit, and entropy of the attention weights in nats: mean over heads and queries that may look anywhere.

    `allowed` is True where a valid query may look.
    """
    logits = jnp.where(allowed, logits, -jnp.inf)
    # 0 where a query may not look: its logarithm, -∞, times its weight is no number, which JAX_DEBUG_NANS would stop at.
    log_weights = jnp.where(allowed, jax.nn.log_softmax(logits, axis=-1), 0.0)
    entropy = -jnp.sum(jnp.exp(log_weights) * log_weights, axis=-1)
    sees = jnp.broadcast_to(jnp.any(allowed, axis=-1), entropy.shape)
    mean = jnp.sum(jnp.where(sees, entropy, 0.0)) / jnp.sum(sees, dtype=jnp.float32)
    return {"logit_max": [jnp.max(logits)], "entropy": [mean]}


def direction(x: Float[Array, "*vectors h"]) -> Float[Array, "*vectors h"]:
    """x/‖x‖ over the last axis, by float32; a zero vector, which has none, stays zero and has the derivative 0."""
    y = x.astype(jnp.float32)
    square = jnp.sum(jnp.square(y), -1, keepdims=True)
    there = square > 0
    return (y * jnp.where(there, jax.lax.rsqrt(jnp.where(there, square, 1.0)), 0.0)).astype(x.dtype)


def _empty(shape: tuple[int, ...]) -> Running:
    return Running(np.zeros(shape, np.float32))


def rotate(
    x: Float[Array, "batch tokens heads h"], start: nnx.Variable | None = None
) -> Float[Array, "batch tokens heads h"]:
    """Rotary position embedding (Su 2021, 2104.09864, eq. 15), base 10,000, the first token at place
    `start`, 0 where there is none.

    Coordinate i turns with i + h/2 (the order of GPT-NeoX and LLaMA in Hugging Face), in float32.
    """
    half = x.shape[-1] // 2
    frequency = 10_000.0 ** (-jnp.arange(half, dtype=jnp.float32) / half)
    places = jnp.arange(x.shape[1], dtype=jnp.float32)
    if start is not None:
        places = places + start[...].astype(jnp.float32)
    angle = places[:, None, None] * frequency[None, None, :]
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    cos, sin = across(cos, x), across(sin, x)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)
