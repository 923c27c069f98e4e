"""Sizes and random parameters of the tests of the references, and `close`: equal to float64 rounding."""

import math
from functools import partial

import numpy as np
from numpy.testing import assert_allclose

from . import norms, schemes, transformer

B, T, D, H, L, HIDDEN, V, M = 2, 5, 8, 2, 4, 12, 11, 3
close = partial(assert_allclose, rtol=1e-12, atol=1e-12)
exact_layer = partial(norms.layer_norm, eps=0.0)
exact_rms = partial(norms.rms_norm, eps=0.0)
SCALE_INVARIANT = [exact_layer, exact_rms]


def rng(seed=0):
    return np.random.default_rng(seed)


def linear(g, n_in, n_out, bias=True):
    p = {"kernel": g.normal(size=(n_in, n_out)) / math.sqrt(n_in)}
    return {**p, "bias": 0.1 * g.normal(size=n_out)} if bias else p


def affine(g, width=D):
    return {"gain": 1 + 0.3 * g.normal(size=width), "bias": 0.2 * g.normal(size=width)}


def attention_params(g, bias=True):
    return {name: linear(g, D, D, bias) for name in ("query", "key", "value", "out")}


def block_params(g, cross=False, swiglu=False, bias=True):
    block = {"attention": attention_params(g, bias)}
    if cross:
        block["cross_attention"] = attention_params(g, bias)
    block["feed_forward"] = {"up": linear(g, D, HIDDEN, bias), "down": linear(g, HIDDEN, D, bias)}
    if swiglu:
        block["feed_forward"]["gate"] = linear(g, D, HIDDEN, bias)
    return block


def stack(g, depth=L, **options):
    return transformer.bodies([block_params(g) for _ in range(depth)], H, **options)


def scheme_params(g, depth=L, kinds=schemes.SUBLAYERS):
    """Random parameters under every key that any scheme reads, so that one tree serves them all."""

    def site():
        places = {place: affine(g) for place in ("pre", "branch", "post")}
        return {**places, "query": g.normal(size=D), "key_norm": {"gain": affine(g)["gain"]}, "rate": g.normal(size=D)}

    def block():
        own = {"pre": affine(g), "a": g.normal(), "value_mix": g.normal(size=2)}
        altup = {"predict": np.eye(2) + 0.1 * g.normal(size=(2, 2)), "correct": g.normal(size=2)}
        return {kind: site() for kind in kinds} | own | altup

    blocks = [block() for _ in range(depth)]
    return {"blocks": blocks, "final": affine(g), "readout": {"query": g.normal(size=D), "key_norm": {}}}


def set_sites(p, **values):
    """p with the given entries at every sublayer of every block."""
    blocks = [{k: {**s, **values} if k in schemes.SUBLAYERS else s for k, s in block.items()} for block in p["blocks"]]
    return {**p, "blocks": blocks}


def set_blocks(p, **values):
    return {**p, "blocks": [{**block, **values} for block in p["blocks"]]}
