"""Schemes that carry more than one residual stream: several, the history of outputs, first-layer values, the sphere.

Notation and arguments as in `schemes`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .norms import Array, Norm, f64, l2_norm, layer_norm, rms_norm
from .schemes import Bodies, pre_block, sublayers
from .transformer import softmax


def altup_streams(
    streams, blocks: Sequence[Callable], p: Sequence[Mapping[str, Any]], block_reads: str = "predicted"
) -> Array:
    """AltUp (Baykal et al. 2023) on K streams `[K, B, T, D]`; `blocks[l]` is a whole block, its own residuals included.

    x̂_i = Σ_j P_ij x_j;  y = Block(x̂_{j*});  x_i <- x̂_i + g_i (y - x̂_{j*})
    The active stream alternates: j* = l mod K with l from 0. `block_reads="old"` computes y from x_{j*} instead,
    which is the same at P = I.
    p[l]["predict"] = P: [K, K] (row i makes stream i), p[l]["correct"] = g: [K]. Returns the K streams.
    """
    x = f64(streams)
    for l, block in enumerate(blocks):
        active = l % len(x)
        predicted = np.einsum("ij,jbtd->ibtd", f64(p[l]["predict"]), x)
        y = block({"predicted": predicted, "old": x}[block_reads][active])
        x = predicted + f64(p[l]["correct"])[:, None, None, None] * (y - predicted[active])
    return x


def altup(
    x0,
    F: Bodies,
    p: Mapping[str, Any],
    streams: int,
    norm: Norm = layer_norm,
    readout: str = "sum",
    block_reads: str = "predicted",
) -> Array:
    """AltUp around Pre-LN blocks: K copies of the embedding, `altup_streams`, the streams' sum (or "mean"), N_f.

    p["blocks"][l] = {"predict": [K, K], "correct": [K], kind: {"pre": {gain, bias: [D]}}},
    p["final"] = {gain, bias: [D]}
    """

    def whole(l: int) -> Callable:
        return lambda h: pre_block(h, F[l], p["blocks"][l], norm)

    opened = np.stack([f64(x0)] * streams)
    x = altup_streams(opened, [whole(l) for l in range(len(F))], p["blocks"], block_reads)
    total = {"sum": 1.0, "mean": 1.0 / streams}[readout] * x.sum(axis=0)
    return norm(total, p["final"])


def value_residual(x0, F: Bodies, p: Mapping[str, Any], norm: Norm = layer_norm) -> Array:
    """Value residual (Zhou et al. 2024) on Pre-LN: in blocks l ≥ 2 attention uses λ₁ V_1 + λ₂ V_l in place of V_l.

    V_1 and V_l are the layers' own values after projection and head split, V_1 that of the first block, never mixed.
    F[l]["attention"](h, first_values, value_mix) -> (branch, own values): see `transformer.value_bodies`.
    p["blocks"][l]["value_mix"] = (λ₁, λ₂) scalars, absent in block 0;
    p["blocks"][l][kind]["pre"], p["final"] = {gain, bias: [D]}
    """
    x = f64(x0)
    first = None
    for l, block in enumerate(F):
        q = p["blocks"][l]
        mix = None if l == 0 else q["value_mix"]
        branch, values = block["attention"](norm(x, q["attention"]["pre"]), first, mix)
        first = values if l == 0 else first
        x = x + branch
        x = x + block["feed_forward"](norm(x, q["feed_forward"]["pre"]))
    return norm(x, p["final"])


def depth_attention(history: Sequence[Array], query, key_norm: Mapping[str, Any], key_eps: float = 1e-6) -> Array:
    """Σ_i a_i v_i with a = softmax_i(wᵀ RMSNorm(v_i)), per token, without 1/√d.

    `query` = w: [D], `key_norm` = {gain: [D]}.
    """
    v = np.stack([f64(v) for v in history])
    a = softmax(rms_norm(v, key_norm, eps=key_eps) @ f64(query), axis=0)
    return (a[..., None] * v).sum(axis=0)


def attention_residuals(
    x0, F: Bodies, p: Mapping[str, Any], norm: Norm = rms_norm, key_eps: float = 1e-6, memory=None
) -> Array:
    """Full attention residuals (Kimi 2026), sublayers s = 1…S counted one by one.

    v_0 = x0;  h_s = Σ_{i<s} a_{i→s} v_i;  v_s = F_s(N(h_s));  output N_f(Σ_{i≤S} a_i v_i) with one more query,
    a_{·→s} = softmax_i(w_sᵀ RMSNorm_s(v_i)). Queries are 0 at init. The key norm's gain belongs to the
    reader s, not to v_i.
    p["blocks"][l][kind] = {"pre": {gain, bias: [D]}, "query": [D], "key_norm": {gain: [D]}},
    p["readout"] = {"query": [D], "key_norm": {gain: [D]}}, p["final"] = {gain, bias: [D]}
    """
    history = [f64(x0)]
    for l, block in enumerate(F):
        for kind, body in sublayers(block, memory):
            q = p["blocks"][l][kind]
            h = depth_attention(history, q["query"], q["key_norm"], key_eps)
            history.append(body(norm(h, q["pre"])))
    return norm(depth_attention(history, p["readout"]["query"], p["readout"]["key_norm"], key_eps), p["final"])


def ngpt(x0, F: Bodies, p: Mapping[str, Any]) -> Array:
    """nGPT's residual rule (Loshchilov et al. 2024): x <- Norm(x + |a| ⊙ (Norm(F(x)) - x)), Norm = L2.

    No other norm and no final one. x0 must already lie on the sphere (rows of a normalised embedding). The bodies are
    attention with `qk_scale` in its parameters and feed-forward "swiglu" with `up_scale` and `gate_scale`. The released
    code also normalises x once more before use, which does nothing.
    p["blocks"][l][kind]["rate"] = a: [D], the effective value
    """
    x = f64(x0)
    for l, block in enumerate(F):
        for kind, body in sublayers(block):
            rate = np.abs(f64(p["blocks"][l][kind]["rate"]))
            x = l2_norm(x + rate * (l2_norm(body(x)) - x))
    return x


def ngpt_logits(x, head_kernel, scale) -> Array:
    """s_z ⊙ (E_out x): x [B, T, D], head_kernel [D, V] (untied), scale = s_z: [V], the effective value."""
    return (f64(x) @ f64(head_kernel)) * f64(scale)


def ngpt_effective(stored, init: float, scale: float) -> Array:
    """nGPT's learned scales: the stored parameter starts at `scale`, and stored · init / scale is what acts.

    Rates: init 0.05, scale 1/√d; s_qk: 1, 1/√d; s_u and s_v: 1, 1; s_z: 1, 1/√d.
    """
    return f64(stored) * init / scale


# The axis of length d along which a kernel [in, out] is normalised: its input axis, unless it writes to the stream.
NGPT_AXIS = {"query": 0, "key": 0, "value": 0, "up": 0, "gate": 0, "out": 1, "down": 1}


def ngpt_project(params: Mapping[str, Any]) -> dict[str, Any]:
    """nGPT's weight normalisation, at init and after every update; returns a new tree, scales untouched.

    params = {"embedding": [V, D], "head": {"kernel": [D, V]}, "blocks": [{"attention": …, "feed_forward": …}]}; every
    vector along the d axis gets length 1: the embedding's rows, the head's columns, kernels along `NGPT_AXIS`.
    """
    blocks = [
        {
            sublayer: {
                name: {**leaf, "kernel": l2_norm(leaf["kernel"], axis=NGPT_AXIS[name])} if name in NGPT_AXIS else leaf
                for name, leaf in body.items()
            }
            for sublayer, body in block.items()
        }
        for block in params["blocks"]
    ]
    head = {**params["head"], "kernel": l2_norm(params["head"]["kernel"], axis=0)}
    return {**params, "embedding": l2_norm(params["embedding"]), "head": head, "blocks": blocks}


def residual_dual(x0, F: Bodies, p: Mapping[str, Any], norm: Norm = layer_norm, memory=None) -> Array:
    """ResiDual (Xie et al. 2023): f = F(x), r <- r + f, x <- N(x + f) from x = r = x0; output x + N_f(r).

    p["blocks"][l][kind]["post"], p["final"] = {gain, bias: [D]}
    """
    post = total = f64(x0)
    for l, block in enumerate(F):
        for kind, body in sublayers(block, memory):
            f = body(post)
            total = total + f
            post = norm(post + f, p["blocks"][l][kind]["post"])
    return post + norm(total, p["final"])


def siamese(x0, F: Bodies, p: Mapping[str, Any], norm: Norm = layer_norm, memory=None) -> Array:
    """SiameseNorm (Li et al. 2026) as its authors' code for DeiT has it, l = 1…L:

    p' = N_p(p), f = F(N_in(p' + N_u(u))), p <- p' + f/√(2l), u <- u + f from p = u = x0; output N(N(p) + N(u)).
    p["blocks"][l][kind] = {"post": N_p, "pre": N_u, "entry": N_in}, p["ends"] = {"post", "pre", "closing"}, each
    {gain, bias: [D]}
    """
    post = pre = f64(x0)
    for l, block in enumerate(F, start=1):
        for kind, body in sublayers(block, memory):
            q = p["blocks"][l - 1][kind]
            post = norm(post, q["post"])
            f = body(norm(post + norm(pre, q["pre"]), q["entry"]))
            post, pre = post + f / np.sqrt(2.0 * l), pre + f
    ends = p["ends"]
    return norm(norm(post, ends["post"]) + norm(pre, ends["pre"]), ends["closing"])


def denseformer(x0, F: Bodies, p: Mapping[str, Any], norm: Norm = layer_norm, memory=None) -> Array:
    """DenseFormer (Pagliardini et al. 2024), l = 1…L: X_l = Block_l(x_{l-1}), x_l = Σ_{j=0..l} a_lj X_j; output N_f(x_L).

    X_0 = x_0 = x0; the blocks are Pre-LN.
    p["blocks"][l] = {"a": [l + 2], kind: {"pre": {gain, bias: [D]}}}, p["final"] = {gain, bias: [D]}
    """
    x = f64(x0)
    outputs = [x]
    for l, block in enumerate(F):
        outputs.append(pre_block(x, block, p["blocks"][l], norm, memory))
        x = np.einsum("j,jbtd->btd", f64(p["blocks"][l]["a"]), np.stack(outputs))
    return norm(x, p["final"])


def attention_residuals_in_blocks(
    x0, F: Bodies, p: Mapping[str, Any], blocks: int = 8, norm: Norm = rms_norm, key_eps: float = 1e-6, memory=None
) -> Array:
    """Block attention residuals (Kimi 2026) over `blocks` parts of the S sublayers; part n ends with sublayer ⌈nS/blocks⌉.

    b_0 = x0, b_n = the sum of part n's sublayer outputs. The first sublayer of part n sees b_0 … b_{n-1}, the later ones
    the running sum of their own part as well; the readout sees all. Layout as in `attention_residuals`.
    """
    total = sum(len(block) for block in F)
    ends = {int(np.ceil(n * total / blocks)) for n in range(1, blocks + 1)}
    done, running, s = [f64(x0)], None, 0
    for l, block in enumerate(F):
        for kind, body in sublayers(block, memory):
            q, s = p["blocks"][l][kind], s + 1
            seen = done if running is None else [*done, running]
            f = body(norm(depth_attention(seen, q["query"], q["key_norm"], key_eps), q["pre"]))
            running = f if running is None else running + f
            if s in ends:
                done, running = [*done, running], None
    assert running is None
    return norm(depth_attention(done, p["readout"]["query"], p["readout"]["key_norm"], key_eps), p["final"])
