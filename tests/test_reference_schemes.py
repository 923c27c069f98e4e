"""The reference schemes of one stream, against hand calculation and identities."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose
from reference import admin, norm_free, norms, schemes, streams, transformer
from reference.cases import (
    B,
    D,
    H,
    M,
    T,
    block_params,
    close,
    exact_layer,
    exact_rms,
    rng,
    scheme_params,
    set_blocks,
    set_sites,
    stack,
)


def forward(name, x, p, F, norm=norms.layer_norm):
    """Any decoder-only scheme by name on one parameter tree."""
    if name == "rezero":
        return norm_free.rezero(x, F, p)
    if name == "no_norm":
        return schemes.no_norm(x, F)
    if name == "ngpt":
        return streams.ngpt(norms.l2_norm(x), F, p)
    if name == "altup":
        return streams.altup(x, F, p, 2, norm)
    if name == "attention_residuals":
        return streams.attention_residuals(x, F, p, norm)
    return getattr(schemes, name)(x, F, p, norm=norm)


NAMES = ["post_ln", "pre_ln", "no_norm", "sandwich_ln", "deepnorm", "rezero", "b2t_encoder", "parallel", "mix_ln"]
NAMES += ["hybrid_norm", "altup", "attention_residuals", "ngpt"]


@pytest.mark.parametrize("name", NAMES)
def test_causal(name):
    g = rng()
    F, p, x = stack(g, rotary_base=10000.0), scheme_params(g), g.normal(size=(B, T, D))
    before = forward(name, x, p, F)
    x[:, 3] += g.normal(size=D)  # not a constant, which LayerNorm would not see
    change = np.abs(forward(name, x, p, F) - before).max(axis=(0, 2))
    assert (change[:3] < 1e-9).all()
    assert (change[3:] > 1e-6).all()


def test_every_scheme_is_another_function():
    g = rng()
    F, p, x = stack(g), scheme_params(g), g.normal(size=(B, T, D))
    outputs = [forward(name, x, p, F) for name in NAMES] + [schemes.hybrid_norm(x, F, p, norms.layer_norm, star=True)]
    for i, one in enumerate(outputs):
        assert np.isfinite(one).all()
        assert all(np.abs(one - other).max() > 1e-2 for other in outputs[:i])


def constant_stack(attention, feed_forward, depth=1):
    return [{"attention": lambda h: np.array(attention), "feed_forward": lambda h: np.array(feed_forward)}] * depth


def but_the_final(norm):
    """`norm`, except that the parameters "skip" turn it off: shows the stream before the final norm."""
    return lambda x, p: x if p == "skip" else norm(x, p)


def test_by_hand_on_pairs():
    """LayerNorm of a pair (u, v) is (1, -1) if u > v and (-1, 1) if u < v, so each step can be done in the head."""
    bare = {kind: {"pre": {}, "branch": {}, "post": {}} for kind in schemes.SUBLAYERS}
    p = {"blocks": [bare | {"a": 0.5}], "final": {}}
    x, F = np.array([[[1.0, 0.0]]]), constant_stack([[[-1.5, 0.0]]], [[[0.0, 3.0]]])
    # post: N(-.5, 0) = (-1, 1), N(-1, 4) = (-1, 1)
    close(schemes.post_ln(x, F, p, exact_layer), [[[-1, 1]]])
    # α = 2: N(.5, 0) = (1, -1), N(2, 1) = (1, -1)
    close(schemes.deepnorm(x, F, p, exact_layer, alpha=2.0), [[[1, -1]]])
    # the attention branch becomes (-1, 1), the other (-1, 1): (1, 0) + 2 (-1, 1) = (-1, 2)
    close(schemes.sandwich_ln(x, F, p, exact_layer), exact_layer([[[-1.0, 2.0]]], {}))
    close(schemes.sandwich_ln(x, F, p, norms.no_norm), [[[-0.5, 3.0]]])
    # x + a (attention + feed-forward), a = .5
    close(norm_free.rezero(x, F, p), [[[0.25, 1.5]]])
    # h = (-1, 1); (1, 0) + (-1, 1) + (0, 3) = (0, 4); with a weaker last branch the input decides: (1,0)+(-1,1)+(0,-3)
    close(schemes.b2t_encoder(x, F, p, exact_layer), [[[-1, 1]]])
    weaker = constant_stack([[[-1.5, 0.0]]], [[[0.0, -1.5]]])
    close(schemes.b2t_encoder(x, weaker, p, exact_layer), [[[1, -1]]])  # (0, -.5)
    close(schemes.post_ln(x, weaker, p, exact_layer), [[[-1, 1]]])  # (-1, -.5)
    # y = (-.5, 0), z = (-1, 1), x = z + (0, 3) = (-1, 4): the skip starts at z
    no_end = p | {"final": "skip"}
    close(schemes.hybrid_norm(x, F, no_end, but_the_final(exact_layer)), [[[-1, 4]]])
    close(schemes.hybrid_norm(x, F, no_end, but_the_final(exact_layer), star=True), [[[-0.5, 3]]])
    close(schemes.b2t_encoder(x, F, p, norms.no_norm), [[[0.5, 3.0]]])  # x + (x + F_a) + F_f


def test_pre_ln_stream_and_the_forms_without_norm():
    g = rng()
    F, p, x = stack(g), scheme_params(g), g.normal(size=(B, T, D))
    identity = schemes.no_norm(x, F)
    for name in ("post_ln", "pre_ln", "sandwich_ln", "mix_ln", "hybrid_norm"):
        close(forward(name, x, p, F, norms.no_norm), identity)
    close(norm_free.rezero(x, F, set_blocks(p, a=1.0)), identity)
    branches = g.normal(size=(2, B, T, D))
    end = schemes.pre_ln(x, constant_stack(*branches, depth=3), scheme_params(g, 3), norms.no_norm)
    close(end, x + 3 * branches.sum(0))
    close(schemes.pre_rms(x, F, p), schemes.pre_ln(x, F, p, norms.rms_norm))
    close(schemes.post_rms(x, F, p), schemes.post_ln(x, F, p, norms.rms_norm))


def test_rezero_is_the_identity_at_a_zero():
    g = rng()
    x = g.normal(size=(B, T, D))
    assert np.array_equal(norm_free.rezero(x, stack(g), set_blocks(scheme_params(g), a=0.0)), x)


def test_rezero_shares_its_scalar_within_a_block_only():
    p = {"blocks": [{"a": 2.0}, {"a": -1.0}]}
    ones = np.ones((1, 1, 2))
    close(norm_free.rezero(0 * ones, constant_stack(ones, 10 * ones, depth=2), p), 2 * 11 - 11)


def test_sandwich_branches_have_the_rms_of_their_gain():
    g = rng()
    F, p, x = stack(g, 1), set_sites(scheme_params(g, 1), branch={"gain": np.full(D, 0.25)}), g.normal(size=(B, T, D))
    only = [{"attention": F[0]["attention"]}]
    end = schemes.sandwich_ln(x, only, p | {"final": "skip"}, but_the_final(exact_rms))
    close(np.sqrt(((end - x) ** 2).mean(-1)), 0.25)


def test_deepnorm_constants():
    assert schemes.deepnorm_single(8) == pytest.approx((2.0, 2**-1.5))
    assert schemes.deepnorm_single(100) == pytest.approx((3.7606, 0.18803), rel=1e-4)
    pair = schemes.deepnorm_pair(16, 16)  # (16^5)^(1/16) = 2^(5/4)
    assert pair["encoder"] == pytest.approx((0.81 * 2**1.25, 0.87 * 2**-1.25))
    assert pair["decoder"] == pytest.approx((48**0.25, 192**-0.25))
    unequal = schemes.deepnorm_pair(2, 16)  # 2^4 · 2^4
    assert unequal["encoder"] == pytest.approx((0.81 * math.sqrt(2), 0.87 / math.sqrt(2)))


def test_deepnorm_with_alpha_one_is_post_ln():
    g = rng()
    F, p, x = stack(g), scheme_params(g), g.normal(size=(B, T, D))
    close(schemes.deepnorm(x, F, p, alpha=1.0), schemes.post_ln(x, F, p))
    # α on the skip is 1/α on the branch when the norm is scale invariant
    quiet = [{kind: lambda h, body=body: body(h) / 8**0.25 for kind, body in block.items()} for block in F]
    close(schemes.deepnorm(x, F, p, exact_layer), schemes.post_ln(x, quiet, p, exact_layer))


def test_admin_with_ones_is_post_ln_and_its_omegas_by_hand():
    g = rng()
    F, p, x = stack(g), scheme_params(g), g.normal(size=(B, T, D))
    close(admin.admin(x, F, set_sites(p, skip=np.ones(D))), schemes.post_ln(x, F, p))
    # ω_1 = 1; x = (1, 0) has variance 1/4 and both branches have 9/4: ω_2² = 5/2; N leaves (-1, 1), of variance 1: ω_3² = 5/2 + 9/4.
    bare = {kind: {"post": {}} for kind in schemes.SUBLAYERS}
    pairs = constant_stack([[[-3.0, 0.0]]], [[[0.0, 3.0]]], depth=2)
    omegas, y = admin.profile(np.array([[[1.0, 0.0]]]), pairs, {"blocks": [bare] * 2}, exact_layer)
    close(np.square(omegas), [1, 2.5, 4.75, 7])
    close(y, [[[-1, 1]]])
    kinds = ("attention", "feed_forward")
    blocks = [
        {kind: {"post": {}, "skip": omega} for kind, omega in zip(kinds, part, strict=True)}
        for part in (omegas[:2], omegas[2:])
    ]
    close(admin.admin(np.array([[[1.0, 0.0]]]), pairs, {"blocks": blocks}, exact_layer), y)


def test_mix_ln_ends_and_boundary():
    g = rng()
    F, p, x = stack(g, 5), scheme_params(g, 5), g.normal(size=(B, T, D))
    close(schemes.mix_ln(x, F, p, a=0.0), schemes.pre_ln(x, F, p))
    close(schemes.mix_ln(x, F, p, a=1.0), norms.layer_norm(schemes.post_ln(x, F, p), p["final"]))
    half = schemes.post_ln(x, F[:2], p)  # floor(5/2) = 2
    close(schemes.mix_ln(x, F, p, a=0.5), schemes.pre_ln(half, F[2:], p | {"blocks": p["blocks"][2:]}))


def test_parallel_without_one_branch_is_pre_ln_without_it():
    g = rng()
    F, p, x = stack(g), scheme_params(g), g.normal(size=(B, T, D))
    for kept, dropped in (("attention", "feed_forward"), ("feed_forward", "attention")):
        halves = [{kept: block[kept]} for block in F]
        muted = [{kept: block[kept], dropped: lambda h: 0 * h} for block in F]
        same = {**p, "blocks": [{kept: {"pre": block["pre"]}} for block in p["blocks"]]}
        close(schemes.parallel(x, muted, p), schemes.pre_ln(x, halves, same))


def test_hybrid_norm_star_differs_in_its_first_block_only():
    g = rng()
    F, p, x = stack(g), scheme_params(g), g.normal(size=(B, T, D))
    close(schemes.hybrid_norm(x, F[:1], p, star=True), schemes.pre_rms(x, F[:1], p))
    first = schemes.pre_block(x, F[0], p["blocks"][0], norms.rms_norm)
    rest = schemes.hybrid_norm(first, F[1:], p | {"blocks": p["blocks"][1:]})
    close(schemes.hybrid_norm(x, F, p, star=True), rest)


# --- encoder and decoder ---


def pair(g, depths=(2, 3), source_mask=None):
    encoder = transformer.bodies([block_params(g) for _ in range(depths[0])], H, causal=False, key_mask=source_mask)
    decoder = [block_params(g, cross=True) for _ in range(depths[1])]
    p = {"encoder": scheme_params(g, depths[0]), "decoder": scheme_params(g, depths[1])}
    return encoder, transformer.bodies(decoder, H, memory_mask=source_mask), p


def test_deepnorm_encoder_decoder():
    g = rng()
    mask = np.array([[1, 1, 1], [1, 1, 0]], dtype=bool)
    encoder, decoder, p = pair(g, source_mask=mask)
    source, target = g.normal(size=(B, M, D)), g.normal(size=(B, T, D))
    out, memory = schemes.deepnorm_encoder_decoder(source, target, encoder, decoder, p)

    padded = source + 5 * ~mask[..., None]
    assert_allclose(schemes.deepnorm_encoder_decoder(padded, target, encoder, decoder, p)[0], out, atol=1e-12)
    moved = schemes.deepnorm_encoder_decoder(source + np.eye(M)[2][:, None], target, encoder, decoder, p)[0]
    assert np.abs(moved - out)[0].max() > 1e-4
    assert np.abs(moved - out)[1].max() < 1e-12
    later = target + np.eye(T)[3][:, None] * np.arange(D)
    change = np.abs(schemes.deepnorm_encoder_decoder(source, later, encoder, decoder, p)[0] - out).max(axis=(0, 2))
    assert (change[:3] < 1e-12).all()
    assert (change[3:] > 1e-6).all()

    constants = schemes.deepnorm_pair(2, 3)
    close(memory, schemes.deepnorm(source, encoder, p["encoder"], alpha=constants["encoder"][0]))
    x = target  # the decoder once more, its nine steps in a row
    for q, body in ((p["decoder"]["blocks"][l], decoder[l]) for l in range(3)):
        for kind in ("attention", "cross_attention", "feed_forward"):
            branch = body[kind](x, memory) if kind == "cross_attention" else body[kind](x)
            x = norms.layer_norm(9**0.25 * x + branch, q[kind]["post"])
    close(out, x)


def test_b2t_decoder():
    g = rng()
    _, decoder, p = pair(g)
    p, x, memory = p["decoder"], g.normal(size=(B, T, D)), g.normal(size=(B, M, D))
    # x + g + F_f(g) with g = x + F_a + F_c: one more input than without B2T, and only one
    only = [{**decoder[0], "feed_forward": lambda h: 0 * h}]
    close(schemes.b2t_decoder(x, only, p, memory, norms.no_norm), x + schemes.no_norm(x, only, memory))
    # a cross-attention that adds nothing, under the identity, leaves the encoder's form
    silent = [{**block, "cross_attention": lambda h, memory: 0 * h} for block in decoder]
    bare = set_sites(p, post={})
    close(
        schemes.b2t_decoder(x, silent, bare, memory, exact_layer),  # N(N(h)) = N(h) without affine
        schemes.b2t_encoder(x, silent, bare, exact_layer),
    )
    close(schemes.b2t_decoder(x, decoder[:1], p, memory), b2t_in_one_line(x, decoder[0], p["blocks"][0], memory))


def b2t_in_one_line(x, F, q, memory):
    def n(z, kind):
        return norms.layer_norm(z, q[kind]["post"])

    h = n(x + F["attention"](x), "attention")
    return n(
        x + (g := n(h + F["cross_attention"](h, memory), "cross_attention")) + F["feed_forward"](g), "feed_forward"
    )
