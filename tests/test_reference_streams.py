"""The reference schemes of several streams, with a history, with values across blocks, and on the sphere."""

import math

import numpy as np
import pytest
from reference import norms, schemes, streams, transformer
from reference.cases import (
    HIDDEN,
    SCALE_INVARIANT,
    B,
    D,
    H,
    L,
    T,
    V,
    affine,
    attention_params,
    block_params,
    close,
    exact_layer,
    linear,
    rng,
    scheme_params,
    set_blocks,
    set_sites,
    stack,
)


@pytest.mark.parametrize("reads", ["predicted", "old"])
def test_altup_at_its_neutral_coefficients_is_pre_ln(reads):
    g = rng()
    F, p, x = stack(g), scheme_params(g), g.normal(size=(B, T, D))
    for k in (1, 2, 3):
        neutral = set_blocks(p, predict=np.eye(k), correct=np.ones(k))
        close(streams.altup(x, F, neutral, k, readout="mean", block_reads=reads), schemes.pre_ln(x, F, p))
        close(streams.altup(x, F, neutral, k, exact_layer, block_reads=reads), schemes.pre_ln(x, F, p, exact_layer))


def test_altup_alternates_predicts_and_corrects():
    x = np.array([1.0, 10.0]).reshape(2, 1, 1, 1)
    step = {"predict": [[1.0, 0.5], [0.0, 2.0]], "correct": [1.0, 0.25]}
    # block 0 reads x̂ = (6, 20) at 0: y = 60, x = (6 + 54, 20 + 54/4)
    close(streams.altup_streams(x, [lambda h: 10 * h], [step]).ravel(), [60.0, 33.5])
    close(streams.altup_streams(x, [lambda h: 10 * h], [step], block_reads="old").ravel(), [10.0, 21.0])
    own = [{"predict": np.eye(2), "correct": np.eye(2)[l % 2]} for l in range(5)]  # each stream keeps its own updates
    close(streams.altup_streams(x, [lambda h, l=l: (l + 2) * h for l in range(5)], own).ravel(), [48.0, 150.0])


def test_value_residual_ends():
    g = rng()
    blocks = [block_params(g, bias=False) for _ in range(L)]
    F, plain = transformer.value_bodies(blocks, H), transformer.bodies(blocks, H)
    p, x = scheme_params(g), g.normal(size=(B, T, D))
    close(streams.value_residual(x, F, set_blocks(p, value_mix=(0.0, 1.0))), schemes.pre_ln(x, plain, p))
    # λ = (0, 3) is a value kernel three times as large in every block but the first
    louder = [
        {**b, "attention": b["attention"] | {"value": {"kernel": 3 * b["attention"]["value"]["kernel"]}}}
        for b in blocks[1:]
    ]
    tripled = transformer.bodies(blocks[:1] + louder, H)
    close(streams.value_residual(x, F, set_blocks(p, value_mix=(0.0, 3.0))), schemes.pre_ln(x, tripled, p))
    # λ = (1, 0): the value kernels of all blocks but the first are dead
    dead = transformer.value_bodies(
        blocks[:1] + [{**b, "attention": b["attention"] | {"value": linear(g, D, D)}} for b in blocks[1:]], H
    )
    first_only = set_blocks(p, value_mix=(1.0, 0.0))
    close(streams.value_residual(x, F, first_only), streams.value_residual(x, dead, first_only))


def test_the_values_handed_on_are_as_projected():
    g = rng()
    p, x = attention_params(g) | {"value_norm": affine(g, D // H)}, g.normal(size=(B, T, D))
    own = x @ p["value"]["kernel"] + p["value"]["bias"]
    parts = transformer.attention_parts(p, x, H, first_values=np.ones((B, H, T, D // H)), value_mix=(2.0, 3.0))
    close(parts["values"][:, 1], own[..., D // H :])
    used = norms.rms_norm(2 + 3 * own[..., D // H :], p["value_norm"])  # mixed, then normed
    alone = p | {"out": {"kernel": np.eye(D)}}
    parts = transformer.attention_parts(alone, x, H, first_values=np.ones((B, H, T, D // H)), value_mix=(2.0, 3.0))
    close(parts["out"][:, 0, D // H :], used[:, 0])  # the first token sees itself only


def test_value_residual_mixes_with_the_first_layers_unmixed_values():
    seen = []

    def attention(h, first, mix):
        seen.append((first, mix))
        return 0 * h, len(seen)  # the layer's "own values" are its number

    F = [{"attention": attention, "feed_forward": lambda h: h} for _ in range(3)]
    p = scheme_params(rng(), 3)
    streams.value_residual(np.ones((1, 1, D)), F, p)
    assert [first for first, _ in seen] == [None, 1, 1]
    assert [mix is p["blocks"][l]["value_mix"] for l, (_, mix) in enumerate(seen)] == [False, True, True]


@pytest.mark.parametrize("norm", SCALE_INVARIANT)
def test_attention_residuals_with_zero_queries_are_pre_ln(norm):
    g = rng()
    F, p, x = stack(g), scheme_params(g), g.normal(size=(B, T, D))
    zero = set_sites(p, query=np.zeros(D)) | {"readout": {"query": np.zeros(D), "key_norm": {}}}
    close(streams.attention_residuals(x, F, zero, norm), schemes.pre_ln(x, F, p, norm))
    assert np.abs(streams.attention_residuals(x, F, p, norm) - schemes.pre_ln(x, F, p, norm)).max() > 1e-2


def test_depth_attention_by_hand():
    history = np.array([[3.0, 3.0], [-7.0, 7.0]]).reshape(2, 1, 1, 2)  # normalised keys (1, 1) and (-1, 1)
    query, key_norm = np.array([math.log(3) / 4, 5.0]), {"gain": np.array([2.0, 1.0])}  # logits 5 ± ln(3)/2
    out = streams.depth_attention(history, query, key_norm, key_eps=0.0)
    close(out.ravel(), [0.75 * 3 - 0.25 * 7, 0.75 * 3 + 0.25 * 7])


def test_attention_residuals_keep_branches_not_the_stream():
    """With queries that pick the newest entry alone, the body reads only the last branch."""
    x = np.array([[[1.0, 1.0]]])
    F = [{"attention": lambda h: h * [-1.0, 1.0], "feed_forward": lambda h: h * [-1.0, -1.0]}]
    sharp = {"key_norm": {}, "pre": {}}
    p = {
        "blocks": [{"attention": sharp | {"query": np.zeros(2)}, "feed_forward": sharp | {"query": [-400.0, 0.0]}}],
        "readout": {"query": [0.0, -400.0], "key_norm": {}},
        "final": {},
    }
    # v0 = (1, 1), v1 = (-1, 1), h2 = v1, v2 = (1, -1), readout picks v2
    close(streams.attention_residuals(x, F, p, norms.no_norm), [[[1.0, -1.0]]])


def ngpt_setup(g, root_d_on="both"):
    blocks = [block_params(g, swiglu=True, bias=False) for _ in range(L)]
    for block in blocks:
        block["attention"]["qk_scale"] = g.uniform(0.5, 1.5, D)
        block["feed_forward"] |= {"up_scale": g.uniform(0.5, 1.5, HIDDEN), "gate_scale": g.uniform(0.5, 1.5, HIDDEN)}
    params = {"embedding": g.normal(size=(V, D)), "head": linear(g, D, V, bias=False), "blocks": blocks}
    return streams.ngpt_project(params)


def test_ngpt_stays_on_the_sphere():
    g = rng()
    params, p = ngpt_setup(g), scheme_params(g)
    x = transformer.embed(params, g.integers(V, size=(B, T)))
    F = transformer.bodies(params["blocks"], H, "swiglu", rotary_base=10000.0)
    y = streams.ngpt(x, F, p)
    close(np.linalg.norm(y, axis=-1), 1.0)
    close(streams.ngpt(x, F, set_sites(p, rate=np.zeros(D))), x)
    full = streams.ngpt(x, F[:1], set_sites(p, rate=-np.ones(D)))  # |a| = 1 leaves only the branch, normalised
    close(full, norms.l2_norm(F[0]["feed_forward"](norms.l2_norm(F[0]["attention"](x)))))
    # √d on u or not is a factor on the branch, which Norm removes
    gate_only = [
        {**b, "feed_forward": lambda h, q=q["feed_forward"]: transformer.feed_forward(q, h, "swiglu", "gate")}
        for b, q in zip(F, params["blocks"], strict=True)
    ]
    close(streams.ngpt(x, gate_only, p), y)
    z = streams.ngpt_logits(y, params["head"]["kernel"], np.arange(V))
    assert (np.abs(z) <= np.arange(V) + 1e-12).all()


def test_ngpt_projection_and_effective_scales():
    params = ngpt_setup(rng())
    block = params["blocks"][1]
    for name in ("query", "key", "value"):
        close(np.linalg.norm(block["attention"][name]["kernel"], axis=0), np.ones(D))
    close(np.linalg.norm(block["attention"]["out"]["kernel"], axis=1), np.ones(D))
    for name in ("up", "gate"):
        close(np.linalg.norm(block["feed_forward"][name]["kernel"], axis=0), np.ones(HIDDEN))
    close(np.linalg.norm(block["feed_forward"]["down"]["kernel"], axis=1), np.ones(HIDDEN))
    close(np.linalg.norm(params["embedding"], axis=1), np.ones(V))
    close(np.linalg.norm(params["head"]["kernel"], axis=0), np.ones(V))
    assert block["attention"]["qk_scale"].std() > 0.1
    scale = 1 / math.sqrt(D)
    close(streams.ngpt_effective(np.full(D, scale), 0.05, scale), 0.05)
    close(streams.ngpt_effective(np.full(D, 2 * scale), 1.0, scale), 2.0)
