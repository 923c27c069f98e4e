"""Layouts of schemes with a topology of their own: from `bridge.own`, parameters by label, to what the references read.

The package keeps weights that start as a pattern as their distance from it; here the pattern is put back, from the equations.
"""

import numpy as np

KINDS = ("attention", "feed_forward")


def value_residual(p, mix=(0.5, 0.5)):
    return {**p, "blocks": [{**block, "value_mix": mix} for block in p["blocks"]]}


def hyper(p):
    """A_m = e_(k mod n) + …, k counted over all sublayers from 0; A_r = I + …."""
    blocks = [
        {kind: mixing(block[kind], one_hot=2 * l + i) for i, kind in enumerate(KINDS)}
        for l, block in enumerate(p["blocks"])
    ]
    return {**p, "blocks": blocks}


def frac(p):
    return {**p, "blocks": [{kind: mixing(block[kind]) for kind in KINDS} for block in p["blocks"]]}


def mixing(own, one_hot=None):
    q = own["mixing"]
    n = len(q["beta"])
    reads = q["alpha"].shape[1] - n
    pattern = np.eye(n) if one_hot is None else np.eye(n)[:, [one_hot % n]]
    found = {"A_m": q["alpha"][:, :reads] + pattern, "A_r": q["alpha"][:, reads:] + np.eye(n), "B": q["beta"]}
    if "dynamic_alpha" in q:
        found["dynamic"] = {
            "norm": q["norm"],
            "W_m": q["dynamic_alpha"][:, :reads],
            "W_r": q["dynamic_alpha"][:, reads:],
            "W_b": q["dynamic_beta"][:, 0],
            "s": [q["scale_alpha"], q["scale_beta"]],
        }
    return found | {"pre": own["pre"]}


def mhc_zero(p):
    return mhc(p, paper=False)


def mhc(p, paper=True):
    """With b of the paper's v2, A.6: of sublayer k, counted from 0, the home stream is k mod n."""

    def first(n, home):
        pre = np.where(np.arange(n) == home % n, 3.0, -3.0)
        return np.concatenate([pre, np.zeros(n), np.where(np.eye(n), 3.0, -3.0).ravel()]) * paper

    def site(own, number):
        n = len(own["phi"][0])
        n = round((n + 1) ** 0.5) - 1  # n + n + n² columns
        parts = {"pre": slice(0, n), "post": slice(n, 2 * n), "res": slice(2 * n, None)}
        return {
            "alpha": dict(zip(parts, own["scale"], strict=True)),
            "phi": {name: own["phi"][:, part] for name, part in parts.items()},
            "b": {name: (own["bias"] + first(n, number))[part] for name, part in parts.items()},
            "pre": own["pre"],
        }

    blocks = [
        {kind: site(block[kind], 2 * l + i) for i, kind in enumerate(KINDS)} for l, block in enumerate(p["blocks"])
    ]
    return {**p, "blocks": blocks}


def laurel(p):
    def site(own):
        width, rank = own["down"].shape
        orthogonal = np.array([[i % rank == j for j in range(rank)] for i in range(width)]) / np.sqrt(rank * width)
        return {"w": own["weights"], "A": orthogonal + own["down"], "B": own["up"], "pre": own["pre"]}

    return {**p, "blocks": [{kind: site(block[kind]) for kind in KINDS} for block in p["blocks"]]}


def altup(p):
    def block(found):
        own = found["block"]
        return {**found, "predict": np.eye(len(own["correct"])) + own["predict"], "correct": own["correct"]}

    return {**p, "blocks": [block(found) for found in p["blocks"]]}


def denseformer(p):
    blocks = [{**block, "a": block["block"]["weights"] + np.eye(l + 2)[-1]} for l, block in enumerate(p["blocks"])]
    return {**p, "blocks": blocks}


def attention_residuals(p):
    """The first sublayer has no query; of one source any will do."""
    width = len(p["final"]["gain"])
    first = {"query": np.ones(width), "key_norm": {}}
    blocks = [
        {kind: {**block[kind].get("sources", first), "pre": block[kind]["pre"]} for kind in KINDS}
        for block in p["blocks"]
    ]
    return {**p, "blocks": blocks, "readout": p["ends"]["sources"]}


def ngpt(p):
    """Rates are stored as a / (0.05 √D)."""
    blocks = [
        {kind: {"rate": 0.05 * np.sqrt(len(block[kind]["rate"])) * block[kind]["rate"]} for kind in KINDS}
        for block in p["blocks"]
    ]
    return {**p, "blocks": blocks}


LAYOUTS = {
    "ngpt": ngpt,
    "value_residual": value_residual,
    "hyper_static": hyper,
    "hyper": hyper,
    "frac": frac,
    "mhc": mhc,
    "mhc_zero": mhc_zero,
    "laurel": laurel,
    "altup": altup,
    "denseformer": denseformer,
    "attn_res": attention_residuals,
    "attn_res_block": attention_residuals,
}
