"""Add & Norm schemes whose residual stream is one array, each written out from its equation.

In the docstrings F is attention or feed-forward without any norm, N a normaliser with its own parameters at every use,
L the number of blocks and l = 1…L. A line `x <- …` happens once per sublayer, in the order of `SUBLAYERS`, unless the
equation names F_a and F_f.

Arguments common to all: `x0: [B, T, D]` the embedded input, `F[l][kind]` the bodies, `p` the scheme's own parameters,
`norm(x, p)` the normaliser. Where a block has cross-attention, `memory` is handed to that body:
`F[l]["cross_attention"](h, memory)`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from .norms import Array, Norm, f64, layer_norm, rms_norm

SUBLAYERS = ("attention", "cross_attention", "feed_forward")
Bodies = Sequence[Mapping[str, Callable]]


def sublayers(block: Mapping[str, Callable], memory=None) -> list[tuple[str, Callable]]:
    """A block's (kind, body) in order, each body a function of h alone."""
    bound = dict(block)
    if "cross_attention" in block:
        bound["cross_attention"] = lambda h: block["cross_attention"](h, memory)
    return [(kind, bound[kind]) for kind in SUBLAYERS if kind in bound]


def pre_block(x, block: Mapping[str, Callable], p: Mapping[str, Any], norm: Norm, memory=None) -> Array:
    """One Pre-LN block: x <- x + F(N(x)); p[kind]["pre"]."""
    for kind, body in sublayers(block, memory):
        x = x + body(norm(x, p[kind]["pre"]))
    return x


def post_block(x, block: Mapping[str, Callable], p: Mapping[str, Any], norm: Norm, memory=None, alpha=1.0) -> Array:
    """One Post-LN block: x <- N(αx + F(x)); p[kind]["post"]."""
    for kind, body in sublayers(block, memory):
        x = norm(alpha * x + body(x), p[kind]["post"])
    return x


def post_ln(x0, F: Bodies, p: Mapping[str, Any], norm: Norm = layer_norm, memory=None) -> Array:
    """Post-LN (Vaswani et al. 2017): x <- N(x + F(x)); no final norm.

    p["blocks"][l][kind]["post"] = {gain: [D], bias: [D]}
    """
    x = f64(x0)
    for l, block in enumerate(F):
        x = post_block(x, block, p["blocks"][l], norm, memory)
    return x


def pre_ln(x0, F: Bodies, p: Mapping[str, Any], norm: Norm = layer_norm, memory=None) -> Array:
    """Pre-LN (Xiong et al. 2020): x <- x + F(N(x)); output N_f(x).

    p["blocks"][l][kind]["pre"], p["final"] = {gain: [D], bias: [D]}
    """
    x = f64(x0)
    for l, block in enumerate(F):
        x = pre_block(x, block, p["blocks"][l], norm, memory)
    return norm(x, p["final"])


# The same equations and layouts with RMSNorm: {gain: [D]}.
post_rms = partial(post_ln, norm=rms_norm)
pre_rms = partial(pre_ln, norm=rms_norm)


def no_norm(x0, F: Bodies, memory=None) -> Array:
    """No normalisation anywhere, the final norm included: x <- x + F(x). No parameters."""
    x = f64(x0)
    for block in F:
        for _, body in sublayers(block, memory):
            x = x + body(x)
    return x


def no_skip(x0, F: Bodies, p: Mapping[str, Any], norm: Norm = layer_norm, memory=None) -> Array:
    """Pre-LN without its skip: x <- F(N(x)); output N_f(x).

    p["blocks"][l][kind]["pre"], p["final"] = {gain: [D], bias: [D]}
    """
    x = f64(x0)
    for l, block in enumerate(F):
        for kind, body in sublayers(block, memory):
            x = body(norm(x, p["blocks"][l][kind]["pre"]))
    return norm(x, p["final"])


def sandwich_ln(x0, F: Bodies, p: Mapping[str, Any], norm: Norm = layer_norm, memory=None) -> Array:
    """Sandwich-LN (Ding et al. 2021): x <- x + N_out(F(N_pre(x))); output N_f(x).

    Neither CogView's rescaling by 8/max|x| (an fp16 device) nor Peri-LN's norm on the embedding.
    p["blocks"][l][kind]["pre"], p["blocks"][l][kind]["branch"], p["final"] = {gain: [D], bias: [D]}
    """
    x = f64(x0)
    for l, block in enumerate(F):
        for kind, body in sublayers(block, memory):
            q = p["blocks"][l][kind]
            x = x + norm(body(norm(x, q["pre"])), q["branch"])
    return norm(x, p["final"])


def deepnorm_single(depth: int) -> tuple[float, float]:
    """DeepNorm's (α, β) for encoder-only and for decoder-only stacks of L blocks: α = (2L)^¼, β = (8L)^-¼.

    β multiplies the (Xavier) initial W_v, W_o, W_1, W_2, never W_q and W_k.
    """
    return (2 * depth) ** 0.25, (8 * depth) ** -0.25


def deepnorm_pair(encoder_depth: int, decoder_depth: int) -> dict[str, tuple[float, float]]:
    """DeepNorm's (α, β) of an N-block encoder with an M-block decoder.

    Encoder α = 0.81(N⁴M)^{1/16}, β = 0.87(N⁴M)^{-1/16}; decoder α = (3M)^¼, β = (12M)^-¼.
    """
    mixed = (encoder_depth**4 * decoder_depth) ** (1 / 16)
    return {
        "encoder": (0.81 * mixed, 0.87 / mixed),
        "decoder": ((3 * decoder_depth) ** 0.25, (12 * decoder_depth) ** -0.25),
    }


def deepnorm(
    x0, F: Bodies, p: Mapping[str, Any], norm: Norm = layer_norm, alpha: float | None = None, memory=None
) -> Array:
    """DeepNorm (Wang et al. 2022), one stack: x <- N(αx + F(x)); α = (2L)^¼ unless given; no final norm.

    p["blocks"][l][kind]["post"] = {gain: [D], bias: [D]}
    """
    if alpha is None:
        alpha, _ = deepnorm_single(len(F))
    x = f64(x0)
    for l, block in enumerate(F):
        x = post_block(x, block, p["blocks"][l], norm, memory, alpha)
    return x


def deepnorm_encoder_decoder(
    source0, target0, encoder: Bodies, decoder: Bodies, p: Mapping[str, Any], norm: Norm = layer_norm
) -> tuple[Array, Array]:
    """DeepNorm of an encoder–decoder: both stacks x <- N(αx + F(x)), each with its own α of `deepnorm_pair`.

    No final norms. The decoder's three sublayers share its α; its cross-attention reads the encoder's last output.
    p["encoder"]["blocks"][l][kind]["post"], p["decoder"]["blocks"][l][kind]["post"] = {gain: [D], bias: [D]}
    Returns (decoder output, encoder output).
    """
    constants = deepnorm_pair(len(encoder), len(decoder))
    memory = deepnorm(source0, encoder, p["encoder"], norm, constants["encoder"][0])
    return deepnorm(target0, decoder, p["decoder"], norm, constants["decoder"][0], memory), memory


def b2t_encoder(x0, F: Bodies, p: Mapping[str, Any], norm: Norm = layer_norm) -> Array:
    """B2T connection (Takase et al. 2022), blocks without cross-attention; Post-LN family, no final norm.

    h = N(x + F_a(x));  x <- N(x + h + F_f(h))
    p["blocks"][l]["attention"]["post"], p["blocks"][l]["feed_forward"]["post"] = {gain: [D], bias: [D]}
    """
    x = f64(x0)
    for l, block in enumerate(F):
        q = p["blocks"][l]
        h = norm(x + block["attention"](x), q["attention"]["post"])
        x = norm(x + h + block["feed_forward"](h), q["feed_forward"]["post"])
    return x


def b2t_decoder(x0, F: Bodies, p: Mapping[str, Any], memory, norm: Norm = layer_norm) -> Array:
    """B2T connection, blocks with cross-attention: the extra skip bypasses the norms of self- and of cross-attention.

    h = N(x + F_a(x));  g = N(h + F_c(h, memory));  x <- N(x + g + F_f(g))
    p["blocks"][l][kind]["post"] = {gain: [D], bias: [D]} for the three kinds
    """
    x = f64(x0)
    for l, block in enumerate(F):
        q = p["blocks"][l]
        h = norm(x + block["attention"](x), q["attention"]["post"])
        g = norm(h + block["cross_attention"](h, memory), q["cross_attention"]["post"])
        x = norm(x + g + block["feed_forward"](g), q["feed_forward"]["post"])
    return x


def parallel(x0, F: Bodies, p: Mapping[str, Any], norm: Norm = layer_norm) -> Array:
    """Parallel block (GPT-J 2021, PaLM 2022) with one shared norm: x <- x + F_a(N(x)) + F_f(N(x)); output N_f(x).

    p["blocks"][l]["pre"], p["final"] = {gain: [D], bias: [D]}
    """
    x = f64(x0)
    for l, block in enumerate(F):
        h = norm(x, p["blocks"][l]["pre"])
        x = x + block["attention"](h) + block["feed_forward"](h)
    return norm(x, p["final"])


def mix_ln(x0, F: Bodies, p: Mapping[str, Any], norm: Norm = layer_norm, a: float = 0.25, memory=None) -> Array:
    """Mix-LN (Li et al. 2024): Post-LN in the first ⌊aL⌋ blocks, Pre-LN after; output N_f(x).

    p["blocks"][l][kind]["post"] in the first ⌊aL⌋ blocks, ["pre"] in the others, p["final"] = {gain: [D], bias: [D]}
    """
    x = f64(x0)
    for l, block in enumerate(F):
        rule = post_block if l < math.floor(a * len(F)) else pre_block
        x = rule(x, block, p["blocks"][l], norm, memory)
    return norm(x, p["final"])


def hybrid_norm(x0, F: Bodies, p: Mapping[str, Any], norm: Norm = rms_norm, star: bool = False) -> Array:
    """HybridNorm (Zhuo et al. 2025): y = x + F_a(x), z = N(y), x <- z + F_f(z); output N_f(x).

    The skip of the feed-forward starts at z, after the norm. F_a must hold the QKV-norm (per-head RMSNorm of q, k and
    v before rotary) in its parameters; there is no norm before it. With `star` (HybridNorm*) block 1 is Pre-norm,
    y = x + F_a(N(x)), x <- y + F_f(N(y)), and keeps its QKV-norm.
    p["blocks"][l]["feed_forward"]["pre"], p["final"] = {gain: [D]}; with star also p["blocks"][0]["attention"]["pre"]
    """
    x = f64(x0)
    for l, block in enumerate(F):
        q = p["blocks"][l]
        if star and l == 0:
            x = pre_block(x, block, q, norm)
            continue
        y = x + block["attention"](x)
        z = norm(y, q["feed_forward"]["pre"])
        x = z + block["feed_forward"](z)
    return norm(x, p["final"])


def res_post_norm(x0, F: Bodies, p: Mapping[str, Any], norm: Norm = rms_norm, memory=None) -> Array:
    """Norm on the branch's output alone (OLMo 2; Swin-V2 with LayerNorm): x <- x + N(F(x)); output N_f(x).

    The QK-norm of OLMo 2 and the cosine attention of Swin-V2 are the bodies'.
    p["blocks"][l][kind]["branch"], p["final"] = {gain: [D], bias: [D]?}
    """
    x = f64(x0)
    for l, block in enumerate(F):
        for kind, body in sublayers(block, memory):
            x = x + norm(body(x), p["blocks"][l][kind]["branch"])
    return norm(x, p["final"])


def normformer(x0, F: Bodies, p: Mapping[str, Any], norm: Norm = layer_norm) -> Array:
    """NormFormer (Shleifer et al. 2021): x <- x + N(MHA(N x));  x <- r ⊙ x + FFN(N x); output N_f(x).

    MHA scales its heads before W_o and FFN normalises its hidden units: both are the bodies'.
    p["blocks"][l]["attention"] = {"pre", "branch"}, p["blocks"][l]["feed_forward"] = {"pre", "skip": r: [D]}, p["final"]
    """
    x = f64(x0)
    for l, block in enumerate(F):
        a, f = p["blocks"][l]["attention"], p["blocks"][l]["feed_forward"]
        x = x + norm(block["attention"](norm(x, a["pre"])), a["branch"])
        x = f64(f["skip"]) * x + block["feed_forward"](norm(x, f["pre"]))
    return norm(x, p["final"])


def sub_ln_gammas(encoder_depth: int, decoder_depth: int) -> dict[str, float]:
    """Sub-LN's (Wang et al. 2022) factor on the initial W_v, W_o, W_1, W_2 of each stack that there is.

    One stack of L blocks: √ln(2L). N encoder and M decoder blocks: √(⅓ ln(3M) ln(2N)) and √ln(3M).
    """
    if not encoder_depth or not decoder_depth:
        depth = encoder_depth or decoder_depth
        return dict.fromkeys(("encoder", "decoder"), math.sqrt(math.log(2 * depth)))
    decoder = math.log(3 * decoder_depth)
    return {"encoder": math.sqrt(decoder * math.log(2 * encoder_depth) / 3), "decoder": math.sqrt(decoder)}


def lns(x0, F: Bodies, p: Mapping[str, Any], norm: Norm = layer_norm, memory=None) -> Array:
    """LayerNorm Scaling (Sun et al. 2025): x <- x + F(N(x)/√l), l = 1…L for both sublayers of a block; output N_f(x).

    p["blocks"][l][kind]["pre"], p["final"] = {gain: [D], bias: [D]}
    """
    x = f64(x0)
    for l, block in enumerate(F):
        for kind, body in sublayers(block, memory):
            x = x + body(norm(x, p["blocks"][l][kind]["pre"]) / math.sqrt(l + 1))
    return norm(x, p["final"])


def keel(x0, F: Bodies, p: Mapping[str, Any], norm: Norm = layer_norm) -> Array:
    """KEEL (Chen & Wei 2026): x <- N(αx + F(N_in(x))), α = 2L; the first block is x <- x + F(N_in(x)); no final norm.

    p["blocks"][l][kind]["pre"], from the second block on also ["post"] = {gain: [D], bias: [D]}
    """
    x = pre_block(f64(x0), F[0], p["blocks"][0], norm)
    for l, block in enumerate(F[1:], start=1):
        for kind, body in sublayers(block):
            q = p["blocks"][l][kind]
            x = norm(2 * len(F) * x + body(norm(x, q["pre"])), q["post"])
    return x


def span_norm(x0, F: Bodies, p: Mapping[str, Any], norm: Norm = layer_norm) -> Array:
    """SpanNorm (Wang et al. 2026): y = N(x + F_a(x)), x <- N(x + F_f(y)); no final norm.

    The first block's attention reads N(x), its skip x.
    p["blocks"][l][kind]["post"] = {gain: [D], bias: [D]}, p["blocks"][0]["attention"]["pre"] besides
    """
    x = f64(x0)
    for l, block in enumerate(F):
        a, f = p["blocks"][l]["attention"], p["blocks"][l]["feed_forward"]
        y = norm(x + block["attention"](norm(x, a["pre"]) if l == 0 else x), a["post"])
        x = norm(x + block["feed_forward"](y), f["post"])
    return x
