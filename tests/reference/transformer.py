"""The Transformer's parts in float64: attention, feed-forward, both ends and the loss. Parameters are plain dicts.

- linear        `{"kernel": [in, out], "bias": [out]?}`
- attention     `{"query", "key", "value", "out": linear}` and, only for the variants that have them,
                `{"query_norm", "key_norm", "value_norm": {"gain": [h]?}}`, `{"qk_scale": [H·h]}`, `{"temperature": [H]}`,
                `{"head_scale": [H]}`, `{"out_norm": affine}`; see `attention_parts`
- feed-forward  `{"up", "down": linear}`, for swiglu also `{"gate": linear}`, nGPT `{"up_scale", "gate_scale": [d_f]}`,
                NormFormer and Sub-LN `{"hidden_norm": affine}`
- embedding     `{"embedding": [V, D], "positions": [T_max, D]?}`
- head          `{"kernel": [D, V], "bias": [V]?}`, or the embedding table when tied

The model's d is D, heads H, head width h = D/H; head n owns the columns n·h … (n+1)·h - 1 of the query, key and
value kernels, and the same rows of the out kernel.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .norms import Array, Norm, f64, l2_norm, layer_norm, rms_norm

Tree = Mapping[str, Any]


def linear(p: Tree, x) -> Array:
    y = f64(x) @ f64(p["kernel"])
    return y + f64(p["bias"]) if "bias" in p else y


def square(p: Tree | None, x) -> Array:
    """A linear map; where p holds `gain` = s the residual map s x + r x W (He & Hofmann 2023, eq. 6); x where there is no p."""
    if p is None:
        return f64(x)
    if "gain" not in p:
        return linear(p, x)
    return float(p["gain"]) * f64(x) + float(p["rest"]) * (f64(x) @ f64(p["kernel"]))


def softmax(z, axis: int = -1) -> Array:
    z = f64(z)
    e = np.exp(z - z.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def gelu(x) -> Array:
    """GELU's tanh approximation, ½x(1 + tanh(√(2/π)(x + 0.044715x³))), the default of `jax.nn.gelu`; not exact."""
    x = f64(x)
    return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


def relu(x) -> Array:
    return np.maximum(f64(x), 0.0)


def silu(x) -> Array:
    """x·σ(x), with σ written through tanh so that no exponential overflows."""
    x = f64(x)
    return x * 0.5 * (1.0 + np.tanh(0.5 * x))


def rotary(x, positions, base: float = 10000.0) -> Array:
    """Rotary positions (Su et al. 2021) on x: [B, H, T, h], h even; `positions: [T]`.

    Convention "rotate-half": coordinate i is paired with i + h/2 (not with i + 1) and the pair turns by the angle
    positions · base^(-2i/h): (u, v) -> (u cos - v sin, v cos + u sin).
    """
    x = f64(x)
    half = x.shape[-1] // 2
    if 2 * half != x.shape[-1]:
        raise ValueError("rotary needs an even head width")
    angle = f64(positions)[:, None] * base ** (-np.arange(half) / half)
    u, v = x[..., :half], x[..., half:]
    return np.concatenate([u * np.cos(angle) - v * np.sin(angle), v * np.cos(angle) + u * np.sin(angle)], axis=-1)


def split_heads(x: Array, heads: int) -> Array:
    """[B, T, H·h] -> [B, H, T, h]"""
    B, T, D = x.shape
    if D % heads:
        raise ValueError(f"{heads} heads do not divide the width {D}")
    return x.reshape(B, T, heads, D // heads).transpose(0, 2, 1, 3)


def attention_parts(
    p: Tree,
    x,
    heads: int,
    *,
    memory=None,
    causal: bool = True,
    key_mask=None,
    rotary_base: float | None = None,
    head_norm: Norm = rms_norm,
    inner_norm: Norm = layer_norm,
    soft_cap: float = 0.0,
    first_values: Array | None = None,
    value_mix: Sequence[float] | None = None,
) -> dict[str, Array]:
    """Multi-head attention of x: [B, T, D] over itself, or over `memory: [B, M, D]` (cross-attention, never causal).

    Returns `out: [B, T, D]`, `values: [B, H, M, h]` (this layer's own, as projected: before mixing and norm),
    `logits: [B, H, T, M]` (scaled, -inf where masked) and `weights: [B, H, T, M]`.

    In this order, each step only where asked for:
    1. project, split into heads;
    2. value residual (Zhou et al. 2024): V <- λ₁ V_first + λ₂ V with `value_mix = (λ₁, λ₂)` and
       `first_values` = the `values` of block 0;
    3. per-head norm over h of q, k, v where p holds `query_norm`, `key_norm`, `value_norm` (gain [h], shared by the
       heads); a gain of [D] is OLMo 2's norm over the whole width instead, before the split;
    4. rotary on q and k when `rotary_base` is given;
    5. nGPT, where p holds `qk_scale: [H·h]` (effective value): q <- s ⊙ q/‖q‖, k <- s ⊙ k/‖k‖ per head;
    6. z = q kᵀ · scale, scale = 1/√h, or √h with `qk_scale`; Swin-V2, where p holds `temperature` = τ: [H]:
       z = cos(q, k) · min(exp τ, 100) instead;
    7. with `soft_cap` = c > 0 (Gemma 2): z <- c tanh(z / c);
    8. weights = softmax(z + mask), heads = weights · v;
       He & Hofmann 2023, where p holds `shaping` = {identity: a, softmax: b, uniform: c?} of [H]: a v + b (weights · v) - c (C · v),
       C uniform over the valid keys;
    9. NormFormer, where p holds `head_scale` = γ: [H]: head n times γ_n;
    10. Sub-LN, where p holds `out_norm`: `inner_norm` over the joined heads; then the out projection.

    `key_mask: bool [B, M]` marks the valid keys. A query with no valid key at all attends to nothing: weights and head
    outputs 0.
    """
    x = f64(x)
    source = x if memory is None else f64(memory)
    q, k = linear(p["query"], x), linear(p["key"], source)
    h = x.shape[-1] // heads
    whole = {name for name in ("query_norm", "key_norm") if name in p and np.size(p[name]["gain"]) > h}
    q = head_norm(q, p["query_norm"]) if "query_norm" in whole else q
    k = head_norm(k, p["key_norm"]) if "key_norm" in whole else k
    q, k = split_heads(q, heads), split_heads(k, heads)
    own_values = v = split_heads(square(p.get("value"), source), heads)
    T, M = q.shape[2], k.shape[2]

    if value_mix is not None:
        if first_values is None:
            raise ValueError("value_mix needs first_values")
        v = value_mix[0] * f64(first_values) + value_mix[1] * v
    if "query_norm" in p and "query_norm" not in whole:
        q = head_norm(q, p["query_norm"])
    if "key_norm" in p and "key_norm" not in whole:
        k = head_norm(k, p["key_norm"])
    if "value_norm" in p:
        v = head_norm(v, p["value_norm"])
    if rotary_base is not None:
        if memory is not None:
            raise ValueError("rotary positions mean nothing between two sequences")
        q, k = rotary(q, np.arange(T), rotary_base), rotary(k, np.arange(T), rotary_base)
    scale = 1.0 / math.sqrt(h)
    if "qk_scale" in p:
        s = f64(p["qk_scale"]).reshape(heads, 1, h)
        q, k, scale = s * l2_norm(q), s * l2_norm(k), math.sqrt(h)
    z = scale * (q @ k.swapaxes(-1, -2))
    if "temperature" in p:
        sharpness = np.minimum(np.exp(f64(p["temperature"])), 100.0)
        z = sharpness[:, None, None] * (l2_norm(q) @ l2_norm(k).swapaxes(-1, -2))
    if soft_cap:
        z = soft_cap * np.tanh(z / soft_cap)

    allowed = np.ones((x.shape[0], 1, T, M), dtype=bool)
    if causal and memory is None:
        allowed &= np.tri(T, dtype=bool)
    if key_mask is not None:
        allowed &= np.asarray(key_mask, dtype=bool)[:, None, None, :]
    logits = np.where(allowed, z, -np.inf)
    some = allowed.any(axis=-1, keepdims=True)
    weights = np.where(some, softmax(np.where(some, logits, 0.0)), 0.0)

    mixed = weights @ v
    if "shaping" in p:
        a, b = (f64(p["shaping"][name])[:, None, None] for name in ("identity", "softmax"))
        mixed = a * v + b * mixed
        if "uniform" in p["shaping"]:
            uniform = allowed / np.maximum(allowed.sum(axis=-1, keepdims=True), 1)
            mixed = mixed - f64(p["shaping"]["uniform"])[:, None, None] * (uniform @ v)
    if "head_scale" in p:
        mixed = f64(p["head_scale"])[:, None, None] * mixed
    mixed = mixed.transpose(0, 2, 1, 3).reshape(x.shape[0], T, heads * h)
    if "out_norm" in p:
        mixed = inner_norm(mixed, p["out_norm"])
    return {"out": square(p.get("out"), mixed), "values": own_values, "logits": logits, "weights": weights}


def attention(p: Tree, x, heads: int, memory=None, **options) -> Array:
    """The output of `attention_parts` alone; same options."""
    return attention_parts(p, x, heads, memory=memory, **options)["out"]


def feed_forward(p: Tree, x, activation: str = "gelu", root_d_on: str = "both", inner_norm: Norm = layer_norm) -> Array:
    """down(act(up(x))) with activation "gelu" or "relu"; "swiglu" is down(up(x) ⊙ silu(gate(x))).

    Where p holds `hidden_norm` (NormFormer, Sub-LN), `inner_norm` over the d_f hidden units stands before down.

    nGPT: where p holds `up_scale` and `gate_scale` ([d_f], effective values), u <- u ⊙ s_u and v <- v ⊙ s_v·√D with u
    = up(x), v = gate(x); with `root_d_on="both"` (the released code) u is multiplied by √D too, with "gate" (the
    paper) it is not.
    """
    if "inner_shift" in p:  # Fixup: a scalar before the activation and one before W_2
        before, after = float(p["inner_shift"]), float(p["hidden_shift"])
        if activation == "swiglu":
            hidden = linear(p["up"], x) * silu(linear(p["gate"], x) + before)
        else:
            hidden = {"gelu": gelu, "relu": relu}[activation](linear(p["up"], x) + before)
        return linear(p["down"], hidden + after)
    if activation == "swiglu":
        u, v = linear(p["up"], x), linear(p["gate"], x)
        root_d = math.sqrt(np.shape(x)[-1])
        if "up_scale" in p:
            u = u * f64(p["up_scale"]) * {"both": root_d, "gate": 1.0}[root_d_on]
        if "gate_scale" in p:
            v = v * f64(p["gate_scale"]) * root_d
        hidden = u * silu(v)
    else:
        u = linear(p["up"], x)
        if "up_scale" in p:  # nGPT has no such feed-forward; its scale of the gated one, before the activation
            u = u * f64(p["up_scale"]) * math.sqrt(np.shape(x)[-1])
        hidden = {"gelu": gelu, "relu": relu}[activation](u)
    return linear(p["down"], inner_norm(hidden, p["hidden_norm"]) if "hidden_norm" in p else hidden)


def bodies(blocks: Sequence[Tree], heads: int, activation: str = "gelu", **options) -> list[dict[str, Callable]]:
    """The bodies F of a stack from its parameters `blocks[l] = {"attention", "cross_attention"?, "feed_forward"}`.

    `options` are those of self-attention (`causal`, `key_mask`, `rotary_base`, `head_norm`, `inner_norm`, `soft_cap`) and
    `memory_mask`, the valid keys of the memory. The bodies take (h), cross-attention (h, memory).
    """
    memory_mask = options.pop("memory_mask", None)
    shared = {name: options[name] for name in ("head_norm", "inner_norm", "soft_cap") if name in options}
    inner_norm = options.get("inner_norm", layer_norm)
    makers: dict[str, Callable] = {
        "attention": lambda p: lambda h: attention(p, h, heads, **options),
        "cross_attention": lambda p: lambda h, memory: attention(p, h, heads, memory, key_mask=memory_mask, **shared),
        "feed_forward": lambda p: lambda h: feed_forward(p, h, activation, inner_norm=inner_norm),
    }
    return [{kind: makers[kind](p) for kind, p in block.items()} for block in blocks]


def value_bodies(blocks: Sequence[Tree], heads: int, activation: str = "gelu", **options) -> list[dict[str, Callable]]:
    """As `bodies`, for `streams.value_residual`: attention is (h, first_values, value_mix) -> (branch, own values)."""

    def with_values(p: Tree) -> Callable:
        def body(h, first_values, value_mix):
            parts = attention_parts(p, h, heads, first_values=first_values, value_mix=value_mix, **options)
            return parts["out"], parts["values"]

        return body

    F = bodies(blocks, heads, activation, **options)
    return [{**body, "attention": with_values(block["attention"])} for body, block in zip(F, blocks, strict=True)]


def embed(p: Tree, tokens, scale: float = 1.0) -> Array:
    """scale · embedding[tokens] (+ positions[:T]): tokens [B, T] -> [B, T, D]; positions are not scaled."""
    x = scale * f64(p["embedding"])[np.asarray(tokens)]
    return x + f64(p["positions"])[: x.shape[1]] if "positions" in p else x


def output_logits(x, head: Tree | None = None, embedding=None) -> Array:
    """[B, T, D] -> [B, T, V] by the `head`, or by the `embedding: [V, D]` where head and embedding are tied."""
    return f64(x) @ f64(embedding).T if head is None else linear(head, x)


def cross_entropy(logits, labels, mask=None) -> float:
    """Mean negative log-likelihood in nats of labels [...] under logits [..., V], over positions where `mask` holds."""
    z = f64(logits)
    z = z - z.max(axis=-1, keepdims=True)
    log_probabilities = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
    nll = -np.take_along_axis(log_probabilities, np.asarray(labels)[..., None], axis=-1)[..., 0]
    return float(nll.mean() if mask is None else nll[np.asarray(mask, dtype=bool)].mean())


def mean_pool(x, mask=None) -> Array:
    """Mean over the valid tokens: [B, T, D], bool [B, T] -> [B, D]."""
    x = f64(x)
    w = np.ones(x.shape[:2]) if mask is None else f64(mask)
    return (x * w[..., None]).sum(axis=1) / w.sum(axis=1, keepdims=True)
