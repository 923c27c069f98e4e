"""The references themselves, against facts that need none of their code: scipy, hand calculation and identities."""

import math
from functools import partial

import numpy as np
import pytest
import scipy.special
import scipy.stats
from numpy.testing import assert_allclose
from reference import norms, schemes, streams, transformer

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


# --- norms ---


def test_layer_norm_is_the_population_z_score():
    x = rng().normal(3.0, 2.0, size=(B, T, D))
    close(exact_layer(x, {}), scipy.stats.zscore(x, axis=-1, ddof=0))
    p = affine(rng(1))
    close(exact_layer(x, p), p["gain"] * scipy.stats.zscore(x, axis=-1, ddof=0) + p["bias"])


def test_eps_stands_where_it_is_said_to():
    x = np.array([3.0, 1.0])  # mean 2, variance 1, mean square 5
    close(norms.layer_norm(x, {}, eps=3.0), [0.5, -0.5])
    close(norms.layer_norm(x, {}, eps=3.0, place="outside"), [0.25, -0.25])
    close(norms.rms_norm(x, {}, eps=4.0), [1.0, 1 / 3])
    close(norms.rms_norm([4.0, 4.0], {}, eps=4.0, place="outside"), [0.5, 0.5])
    with pytest.raises(ValueError, match="inside"):
        norms.rms_norm(x, {}, place="within")


def test_rms_norm_facts():
    x, p = rng().normal(size=(B, T, D)), affine(rng(1))
    close(exact_rms(x, {}), math.sqrt(D) * norms.l2_norm(x))
    close(exact_rms(x - x.mean(-1, keepdims=True), p), exact_layer(x, p))
    offset = {**p, "gain": p["gain"] - 1}
    close(norms.rms_norm(x, offset, unit_offset=True), norms.rms_norm(x, p))
    close(norms.layer_norm(x, offset, unit_offset=True), norms.layer_norm(x, p))


def test_l2_norm_and_no_norm():
    x = rng().normal(size=(B, T, D))
    close(np.linalg.norm(norms.l2_norm(x), axis=-1), 1.0)
    close(np.linalg.norm(norms.l2_norm(x, axis=1), axis=1), 1.0)
    close(norms.l2_norm([3.0, 4.0]), [0.6, 0.8])
    assert np.array_equal(norms.no_norm(x, affine(rng())), x)
    with pytest.raises(ZeroDivisionError):
        norms.l2_norm(np.zeros(3))


# --- the Transformer's parts ---


def test_activations_against_scipy():
    x = np.linspace(-8, 8, 401)
    close(transformer.silu(x), x * scipy.special.expit(x))
    exact = x * scipy.stats.norm.cdf(x)
    assert 1e-5 < np.abs(transformer.gelu(x) - exact).max() < 1e-3  # the approximation, so near but not equal
    close(transformer.gelu([1.0]), 0.8411919906082768)  # tabulated value of the tanh form
    assert transformer.relu([-1.0, 2.0]).tolist() == [0.0, 2.0]


def test_cross_entropy_against_scipy():
    g = rng()
    z, labels = 50 * g.normal(size=(B, T, V)), g.integers(V, size=(B, T))
    picked = [-scipy.special.log_softmax(z[b, t])[labels[b, t]] for b in range(B) for t in range(T)]
    close(transformer.cross_entropy(z, labels), np.mean(picked))
    mask = np.arange(B * T).reshape(B, T) % 3 > 0
    close(transformer.cross_entropy(z, labels, mask), np.mean(np.array(picked)[mask.ravel()]))
    close(transformer.cross_entropy(np.full((B, T, V), 7.0), labels), math.log(V))


def test_attention_against_a_loop_over_tokens():
    g = rng()
    p, x = attention_params(g), g.normal(size=(B, T, D))
    valid = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 1, 0]], dtype=bool)
    q, k, v = (x @ p[name]["kernel"] + p[name]["bias"] for name in ("query", "key", "value"))
    heads = np.zeros((B, T, D))
    for b in range(B):
        for t in range(T):
            seen = [s for s in range(t + 1) if valid[b, s]]
            for n in range(H):
                one = slice(n * D // H, (n + 1) * D // H)
                w = scipy.special.softmax([q[b, t, one] @ k[b, s, one] / math.sqrt(D // H) for s in seen])
                heads[b, t, one] = sum(w_s * v[b, s, one] for w_s, s in zip(w, seen, strict=True))
    close(transformer.attention(p, x, H, key_mask=valid), heads @ p["out"]["kernel"] + p["out"]["bias"])


def test_a_query_without_valid_keys_attends_to_nothing():
    g = rng()
    p, x = attention_params(g), g.normal(size=(1, T, D))
    valid = np.array([[0, 0, 1, 1, 1]], dtype=bool)
    close(transformer.attention(p, x, H, key_mask=valid)[0, :2], np.stack([p["out"]["bias"]] * 2))


def test_cross_attention_reads_memory_only_and_whole():
    g = rng()
    p, x, memory = attention_params(g), g.normal(size=(B, T, D)), g.normal(size=(B, M, D))
    together = transformer.attention(p, x, H, memory)
    alone = np.concatenate([transformer.attention(p, x[:, t : t + 1], H, memory) for t in range(T)], axis=1)
    close(together, alone)
    weights = transformer.attention_parts(p, x, H, memory=memory)["weights"]
    assert weights.shape == (B, H, T, M)
    assert weights.min() > 0


def test_rotary_turns_pairs_half_a_head_apart():
    g, h = rng(), 8
    x = g.normal(size=(1, 1, T, h))
    y = transformer.rotary(x, np.arange(T))
    as_complex = (x[..., :4] + 1j * x[..., 4:]) * np.exp(1j * np.arange(T)[:, None] / 10 ** np.arange(4))
    close(y, np.concatenate([as_complex.real, as_complex.imag], axis=-1))  # 10000^(-2i/8) = 10^-i
    close(np.linalg.norm(y, axis=-1), np.linalg.norm(x, axis=-1))


def test_rotary_scores_depend_on_relative_positions_only():
    g = rng()
    q, k = g.normal(size=(2, 1, 1, T, 8))
    near, far = (
        transformer.rotary(q, s + np.arange(T)) @ transformer.rotary(k, s + np.arange(T)).swapaxes(-1, -2)
        for s in (0, 37)
    )
    close(near, far)
    assert not np.allclose(near, q @ k.swapaxes(-1, -2))


def test_per_head_norms_make_attention_blind_to_the_size_of_its_projections():
    g = rng()
    p, x = attention_params(g, bias=False), g.normal(size=(B, T, D))
    p |= {f"{name}_norm": {"gain": g.normal(size=D // H)} for name in ("query", "key", "value")}
    louder = p | {name: {"kernel": 9 * p[name]["kernel"]} for name in ("query", "key", "value")}
    options = {"head_norm": exact_rms, "rotary_base": 10000.0}
    close(transformer.attention(p, x, H, **options), transformer.attention(louder, x, H, **options))
    # The norm comes before rotary: its gain, not constant over a pair, does not commute with the turn.
    one = slice(D // H, 2 * D // H)
    q, k = (
        transformer.rotary(exact_rms((x @ p[name]["kernel"])[:1, :, one], p[f"{name}_norm"]), np.arange(T))
        for name in ("query", "key")
    )
    parts = transformer.attention_parts(p, x, H, causal=False, **options)
    close(parts["logits"][0, 1], (q @ k.swapaxes(-1, -2))[0] / math.sqrt(D // H))


def test_ngpt_attention_logits_are_scaled_cosines():
    g = rng()
    p, x = attention_params(g, bias=False) | {"qk_scale": np.full(D, 0.5)}, g.normal(size=(B, T, D))
    parts = transformer.attention_parts(p, x, H, causal=False)
    q, k = x[1, 2] @ p["query"]["kernel"][:, 4:], x[1, 4] @ p["key"]["kernel"][:, 4:]
    close(parts["logits"][1, 1, 2, 4], math.sqrt(D // H) * 0.25 * q @ k / np.linalg.norm(q) / np.linalg.norm(k))
    assert np.abs(parts["logits"]).max() <= 0.25 * math.sqrt(D // H)


def test_feed_forward_forms():
    g = rng()
    p, x = block_params(g, swiglu=True)["feed_forward"], g.normal(size=(B, T, D))
    u, v = (x @ p[name]["kernel"] + p[name]["bias"] for name in ("up", "gate"))

    def down(hidden):
        return hidden @ p["down"]["kernel"] + p["down"]["bias"]

    close(transformer.feed_forward(p, x, "swiglu"), down(u * v * scipy.special.expit(v)))
    close(transformer.feed_forward(p, x, "relu"), down(u * (u > 0)))
    scaled = p | {"up_scale": np.full(HIDDEN, 3.0), "gate_scale": np.full(HIDDEN, 1 / math.sqrt(D))}
    close(transformer.feed_forward(scaled, x, "swiglu", root_d_on="gate"), down(3 * u * v * scipy.special.expit(v)))


def test_embedding_head_and_pooling():
    g = rng()
    table, positions, tokens = g.normal(size=(V, D)), g.normal(size=(9, D)), g.integers(V, size=(B, T))
    x = transformer.embed({"embedding": table, "positions": positions}, tokens, scale=2.0)
    close(x[1, 3], 2 * table[tokens[1, 3]] + positions[3])
    close(transformer.output_logits(x, embedding=table), transformer.output_logits(x, {"kernel": table.T}))
    mask = np.array([[1, 0, 0, 0, 0], [1, 1, 0, 0, 0]])
    close(transformer.mean_pool(x, mask), [x[0, 0], (x[1, 0] + x[1, 1]) / 2])


# --- schemes ---


def forward(name, x, p, F, norm=norms.layer_norm):
    """Any decoder-only scheme by name on one parameter tree."""
    if name == "rezero":
        return schemes.rezero(x, F, p)
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
    close(schemes.rezero(x, F, p), [[[0.25, 1.5]]])
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
    close(schemes.rezero(x, F, set_blocks(p, a=1.0)), identity)
    branches = g.normal(size=(2, B, T, D))
    end = schemes.pre_ln(x, constant_stack(*branches, depth=3), scheme_params(g, 3), norms.no_norm)
    close(end, x + 3 * branches.sum(0))
    close(schemes.pre_rms(x, F, p), schemes.pre_ln(x, F, p, norms.rms_norm))
    close(schemes.post_rms(x, F, p), schemes.post_ln(x, F, p, norms.rms_norm))


def test_rezero_is_the_identity_at_a_zero():
    g = rng()
    x = g.normal(size=(B, T, D))
    assert np.array_equal(schemes.rezero(x, stack(g), set_blocks(scheme_params(g), a=0.0)), x)


def test_rezero_shares_its_scalar_within_a_block_only():
    p = {"blocks": [{"a": 2.0}, {"a": -1.0}]}
    ones = np.ones((1, 1, 2))
    close(schemes.rezero(0 * ones, constant_stack(ones, 10 * ones, depth=2), p), 2 * 11 - 11)


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


# --- several streams, history, values, the sphere ---


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
