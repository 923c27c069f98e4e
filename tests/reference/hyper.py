"""Schemes that mix several streams, or the parts of one, by learned weights. Notation and arguments as in `schemes`."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from .norms import Array, Norm, f64, layer_norm, rms_norm
from .schemes import Bodies, sublayers
from .transformer import softmax


def weights(x: Array, q: Mapping[str, Any], norm: Norm) -> tuple[Array, Array, Array]:
    """(A_m, A_r, B) of hyper-connections at every token, from streams x: [n, B, T, e].

    Static: A_m: [n, reads], A_r: [n, n], B: [n]. Where q holds "dynamic", s·tanh(N(x_i) W) is added to row i of each:
    {"norm": {gain, bias: [e]}, "W_m": [e, reads], "W_r": [e, n], "W_b": [e], "s": [2]}, s[0] for A_m and A_r, s[1] for B.
    Returns [n, B, T, reads], [n, B, T, n], [n, B, T].
    """
    token = np.ones(x.shape[:-1])
    a_m, a_r, b = (np.multiply.outer(f64(q[name]), np.ones(x.shape[1:-1])) for name in ("A_m", "A_r", "B"))
    a_m, a_r = np.moveaxis(a_m, 1, -1), np.moveaxis(a_r, 1, -1)
    if "dynamic" in q:
        d = q["dynamic"]
        seen = norm(x, d["norm"])
        a_m = a_m + d["s"][0] * np.tanh(seen @ f64(d["W_m"]))
        a_r = a_r + d["s"][0] * np.tanh(seen @ f64(d["W_r"]))
        b = b + d["s"][1] * np.tanh(seen @ f64(d["W_b"]))
    return a_m, a_r, b * token


def hyper(x0, F: Bodies, p: Mapping[str, Any], norm: Norm = layer_norm, memory=None) -> Array:
    """Hyper-connections (Zhu et al. 2024) on n streams, X_0 = n copies of x0:

    u = A_mᵀ X;  X <- A_rᵀ X + B F(N(u));  output N_f(Σ_i X_i).
    p["blocks"][l][kind] = {"A_m": [n, 1], "A_r": [n, n], "B": [n], "dynamic": …?, "pre": {gain, bias: [D]}},
    p["final"] = {gain, bias: [D]}
    """
    x = np.stack([f64(x0)] * len(p["blocks"][0]["attention"]["B"]))
    for l, block in enumerate(F):
        for kind, body in sublayers(block, memory):
            q = p["blocks"][l][kind]
            a_m, a_r, b = weights(x, q, norm)
            u = np.einsum("ibtr,ibtd->rbtd", a_m, x)[0]
            f = body(norm(u, q["pre"]))
            x = np.einsum("jbti,jbtd->ibtd", a_r, x) + b[..., None] * f
    return norm(x.sum(axis=0), p["final"])


def frac(x0, F: Bodies, p: Mapping[str, Any], norm: Norm = layer_norm, memory=None) -> Array:
    """Frac-connections (Zhu et al. 2025): hyper-connections on the m parts of one stream, x = (x_1 … x_m).

    u = (Yᵀ x) joined;  f = F(N(u)) = (f_1 … f_m);  x_i <- (A_rᵀ x)_i + B_i f_i;  output N_f of the parts joined.
    As `hyper`, with A_m = Y: [m, m] and the dynamic part on D/m.
    """
    m = len(p["blocks"][0]["attention"]["B"])

    def split(z):
        return np.stack(np.split(z, m, axis=-1))

    x = f64(x0)
    for l, block in enumerate(F):
        for kind, body in sublayers(block, memory):
            q = p["blocks"][l][kind]
            parts = split(x)
            y, a_r, b = weights(parts, q, norm)
            u = np.einsum("ibtr,ibte->rbte", y, parts)
            f = split(body(norm(np.concatenate(list(u), axis=-1), q["pre"])))
            x = np.concatenate(list(np.einsum("jbti,jbte->ibte", a_r, parts) + b[..., None] * f), axis=-1)
    return norm(x, p["final"])


def sinkhorn_knopp(logits: Array, rounds: int = 20) -> Array:
    """M⁰ = exp(logits), M^t = T_row(T_col(M^{t-1})): columns divided by their sums, then rows; [..., n, n]."""
    m = np.exp(f64(logits))
    for _ in range(rounds):
        m = m / m.sum(axis=-2, keepdims=True)
        m = m / m.sum(axis=-1, keepdims=True)
    return m


def mhc(x0, F: Bodies, p: Mapping[str, Any], norm: Norm = layer_norm, eps: float = 1e-6, memory=None) -> Array:
    """mHC (Xie et al. 2025, eqs. 5–9) on n streams, X_0 = n copies of x0, z = RMSNorm(vec X) without gain:

    H_pre = σ(α_pre z φ_pre + b_pre), H_post = 2σ(α_post z φ_post + b_post), H_res = SK(α_res mat(z φ_res) + b_res);
    X <- H_res X + H_postᵀ F(N(H_pre X));  output N_f(Σ_i X_i).
    p["blocks"][l][kind] = {"alpha": {…}, "phi": {"pre", "post": [nD, n], "res": [nD, n²]}, "b": {"pre", "post": [n], "res": [n²]},
    "pre": {gain, bias: [D]}}, p["final"] = {gain, bias: [D]}; mat is row by row.
    """
    n = len(p["blocks"][0]["attention"]["b"]["pre"])
    x = np.stack([f64(x0)] * n, axis=-2)  # [B, T, n, D]
    for l, block in enumerate(F):
        for kind, body in sublayers(block, memory):
            q = p["blocks"][l][kind]
            z = rms_norm(x.reshape(*x.shape[:-2], -1), {}, eps=eps)
            pre, post, res = (q["alpha"][k] * (z @ f64(q["phi"][k])) + q["b"][k] for k in ("pre", "post", "res"))
            h_res = sinkhorn_knopp(res.reshape(*res.shape[:-1], n, n))
            u = (sigmoid(pre)[..., None] * x).sum(axis=-2)
            f = body(norm(u, q["pre"]))
            x = h_res @ x + 2 * sigmoid(post)[..., None] * f[..., None, :]
    return norm(x.sum(axis=-2), p["final"])


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def laurel(x0, F: Bodies, p: Mapping[str, Any], norm: Norm = layer_norm, memory=None) -> Array:
    """LAuReL-RW+LR (Menghani et al. 2024) on Pre-LN: x <- a F(N(x)) + b (x + x A B), (a, b) = 2 softmax(w); output N_f(x).

    p["blocks"][l][kind] = {"w": [2], "A": [D, r], "B": [r, D], "pre": {gain, bias: [D]}}, p["final"] = {gain, bias: [D]}
    """
    x = f64(x0)
    for l, block in enumerate(F):
        for kind, body in sublayers(block, memory):
            q = p["blocks"][l][kind]
            a, b = 2 * softmax(q["w"])
            x = a * body(norm(x, q["pre"])) + b * (x + x @ f64(q["A"]) @ f64(q["B"]))
    return norm(x, p["final"])
