"""Every scheme of the catalogue in the real decoder and encoder against its float64 reference, scanned against unrolled, and the
identities that its paper states."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bridge import (
    DEPTH,
    HEADS,
    HIDDEN,
    VOCAB,
    B,
    D,
    T,
    architecture,
    as_used,
    bodies,
    classifier,
    decoder,
    distance,
    entering,
    head_logits,
    nested,
    random_parameters,
    reference,
    reference_logits,
    sublayers,
    tokens,
)
from reference import norms as reference_norms
from reference import schemes as reference_schemes
from reference import transformer
from sample import covering, depth_of, due, expensive, third, variant_of

from addnorm_exp.residual import Context, Depths, Site, catalogue, sites
from addnorm_exp.residual.catalogue import depth_scaled

NAMES = catalogue.names()
SHAPES = {
    "gelu-learned-untied": ({}, False),
    "swiglu-rotary-tied": ({"activation": "swiglu", "rotary": True, "bias": False}, True),
    "relu-rotary-untied": ({"activation": "relu", "rotary": True, "law": "normal"}, False),
    "gelu-learned-tied": ({"bias": False, "law": "normal"}, True),
}


@pytest.mark.core
@pytest.mark.parametrize("name", NAMES)
def test_decoder_equals_the_reference(name):
    equals_the_reference(name, "gelu-learned-untied")


OTHER_SHAPES = [shape for shape in SHAPES if shape != "gelu-learned-untied"]


@pytest.mark.parametrize("name", due("another shape"))
def test_decoder_of_another_shape_equals_the_reference(name):
    """One of the others for each scheme in turn."""
    equals_the_reference(name, OTHER_SHAPES[variant_of(name, 9) // 3])


@pytest.mark.full
@pytest.mark.parametrize("shape", OTHER_SHAPES)
@pytest.mark.parametrize("name", NAMES)
def test_decoder_of_every_shape_equals_the_reference(name, shape):
    equals_the_reference(name, shape)


def equals_the_reference(name, shape):
    changes, tied = SHAPES[shape]
    arch = architecture(depth=depth_of(name, DEPTH), **changes)
    model = decoder(catalogue.get(name), arch, tied=tied)
    parameters = random_parameters(model.specs)
    logits, stats = model.bind(parameters)(tokens(), Context(batch=B))
    assert stats == {}
    assert distance(logits, reference_logits(name, parameters, tokens(), arch)) < 1e-5


def has_code_for_the_shape(name: str) -> bool:
    """Whether a scheme reaches into what the shape changes: the embedding that a tied head uses, or a feed-forward's gate."""
    scheme = catalogue.get(name)
    (site,) = sites("decoder", Depths(decoder=1))
    ends, inside = scheme.around, scheme.sublayer_options(site.at("feed_forward"))
    gate, up = (scheme.init(site.at("feed_forward"), role) for role in ("gate", "up"))
    return bool(ends.fixed_norm or ends.embedding_norm or ends.embedding_scale or inside or gate != up)


@pytest.mark.parametrize("name", [name for name in NAMES if has_code_for_the_shape(name)])
def test_a_scheme_with_code_for_gate_or_tied_head_equals_its_reference_there(name):
    """In the default run once; `full` takes the other schemes through these shapes too."""
    equals_the_reference(name, "swiglu-rotary-tied")


@pytest.mark.parametrize(
    "name", covering("another norm", names=[name for name in NAMES if catalogue.get(name).takes_norm])
)
def test_decoder_under_another_norm(name):
    """The norm axes of a config reach every norm of the scheme, the final one included."""
    kind = "rms" if catalogue.get(name).norm.kind == "layer" else "layer"
    arch = architecture(depth=depth_of(name, DEPTH))
    model = decoder(catalogue.get(name).with_norm(kind=kind, eps=0.02), arch)
    parameters = random_parameters(model.specs)
    functions = {"layer": reference_norms.layer_norm, "rms": reference_norms.rms_norm}
    theirs = reference_logits(name, parameters, tokens(), arch, norm=lambda x, p: functions[kind](x, p, eps=0.02))
    logits, _ = model.bind(parameters)(tokens(), Context(batch=B))
    assert distance(logits, theirs) < 1e-5


@pytest.mark.parametrize("name", expensive(core=("deepnorm", "pre_ln"), default=("ngpt",)))
def test_scanned_layers_equal_unrolled_ones_and_no_token_sees_a_later_one(name):
    """Two properties of one program, because its compilation is most of the cost.

    - Outputs, gradients, taps and statistics are those of the scanned layers. Dropout takes part for one scheme, since it lies
      outside of all of them.
    - d logits[t] / d x0[s] is 0 for s > t and is not for s ≤ t; no sequence of the batch sees another.
    """
    context, results = Context(batch=B, diagnostics=True), {}
    if name == "pre_ln":
        context = replace(context, key=jax.random.key(3), dropout=0.2, train=True, attention_statistics=True)
    for scan in ("on", "off"):
        model = decoder(catalogue.get(name), architecture(depth=depth_of(name, 2), scan_layers=scan))
        parameters = random_parameters(model.specs)
        assert model.bind(parameters).decoder.scan is (scan == "on")

        def loss(parameters, probes, moved, weights, model=model):
            bound = model.bind(parameters)
            x0 = 0.1 * bound.embedding(tokens(), context, jnp.float32) + moved  # if large, softmax sees one token alone
            y, stats = bound.decoder(x0, context, probes)
            logits = bound.logits(y)
            return jnp.sum(jnp.sin(logits), axis=-1) @ weights, (logits, stats)

        function = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))
        probes, moved = (
            jnp.zeros(len(model.module.labels), jnp.float32),
            jax.random.normal(jax.random.key(1), (B * T, D)),
        )
        results[scan] = function(parameters, probes, moved, jnp.full(B * T, 1 / (B * T), jnp.float32))
    (_, (_, stats)), (grads, *_) = results["off"]
    assert {"stream_rms", "branch_ratio"} <= set(stats)
    # A gradient that is 0 but for rounding (a key's bias) has no scale of its own.
    least = 1e-3 * max(float(jnp.abs(grad).max()) for grad in grads.values())
    flat, other = (jax.tree_util.tree_leaves_with_path(results[scan]) for scan in ("off", "on"))
    for (path, one), (_, two) in zip(flat, other, strict=True):
        difference = jnp.abs(one - two).max()
        assert difference <= 2e-5 * max(float(jnp.abs(one).max()), least), f"scanned layers differ: {path}"

    rows = jnp.eye(B * T, dtype=jnp.float32)  # the loss of one token at a time
    reach = np.stack([np.abs(function(parameters, probes, moved, row)[1][2]).max(-1) for row in rows])
    allowed = np.kron(np.eye(B), np.tri(T)).astype(bool)
    assert np.all(reach[~allowed] == 0.0), "a token sees a later one, or another sequence"
    assert np.all(reach[allowed] > 1e-6), "a token does not see an earlier one"


@pytest.mark.parametrize("name", covering("encoder", core=("post_ln",)))
def test_encoder_with_padding_equals_the_reference(name):
    model = classifier(catalogue.get(name), architecture(depth=depth_of(name, DEPTH)))
    parameters = random_parameters(model.specs)
    mask = np.array([[True] * T, [True] * 5 + [False] * (T - 5)])
    logits, _ = model.bind(parameters)(tokens(), Context(batch=B, mask=jnp.asarray(mask)))
    tree = as_used(name, nested(parameters))
    inner = getattr(reference_norms, f"{catalogue.get(name).norm.kind}_norm", reference_norms.no_norm)
    F = sublayers(name)(bodies(tree["encoder"]), HEADS, causal=False, key_mask=mask, inner_norm=inner)
    y = reference(name)(entering(name, tree, tokens(), architecture()), F, tree["encoder"])
    assert distance(logits, head_logits(transformer.mean_pool(y, mask), tree)) < 1e-5


# --- what the papers say of their own schemes ---


def test_deepnorm_without_its_constants_is_post_ln(monkeypatch):
    parameters = random_parameters(decoder(catalogue.get("post_ln")).specs)

    def logits(scheme):
        return decoder(scheme).bind(parameters)(tokens(), Context(batch=B))[0]

    with_constants = logits(catalogue.get("deepnorm"))
    monkeypatch.setattr(depth_scaled, "deepnorm_alpha", lambda site: 1.0)
    without = logits(replace(catalogue.get("deepnorm"), init=lambda site, role: 1.0))
    np.testing.assert_array_equal(without, logits(catalogue.get("post_ln")))
    assert distance(with_constants, without) > 0.01


@pytest.mark.core
@pytest.mark.parametrize(("encoder", "decoder_"), [(0, 4), (0, 18), (6, 0), (12, 0), (6, 6), (12, 3)])
def test_deepnorm_constants(encoder, decoder_):
    """Its figure 2: every matrix of both stacks, and α at every site."""
    scheme, depths = catalogue.get("deepnorm"), Depths(encoder=encoder, decoder=decoder_)
    if encoder and decoder_:
        expected = reference_schemes.deepnorm_pair(encoder, decoder_)
    else:
        expected = dict.fromkeys(("encoder", "decoder"), reference_schemes.deepnorm_single(encoder or decoder_))
    for stack in ("encoder", "decoder"):
        kinds = (
            ("attention", "cross_attention", "feed_forward")
            if stack == "decoder" and encoder
            else ("attention", "feed_forward")
        )
        for site in sites(stack, depths, kinds):
            alpha, beta = expected[stack]
            assert [at.rule.skip for at in scheme.plan(site)] == pytest.approx([alpha] * len(kinds))
            for kind in kinds:
                here = site.at(kind)
                assert [scheme.init(here, role) for role in ("value", "out", "up", "down")] == pytest.approx([beta] * 4)
                assert [scheme.init(here, role) for role in ("query", "key", "gate")] == [1.0] * 3


def test_deepnorm_known_values():
    """α and β of the paper's 18-layer and 1,000-layer single stacks by hand: (2·18)^¼ = √6, (8·18)^-¼ = 1/√12."""
    site = Site(depths=Depths(decoder=18))
    assert depth_scaled.deepnorm_alpha(site) == pytest.approx(6**0.5)
    assert depth_scaled.deepnorm_beta(site, "out") == pytest.approx(12**-0.5)


@pytest.mark.core
@pytest.mark.parametrize("scan", ["off", "on"])
def test_mix_ln_of_more_blocks(scan):
    """Of nine blocks the first two are Post-LN; of the three of the other tests none."""
    arch = architecture(depth=9, scan_layers=scan)
    model = decoder(catalogue.get("mix_ln"), arch)
    assert sum(path.endswith("post/gain") for path in model.specs) == 2 * 2
    parameters = random_parameters(model.specs)
    logits, _ = jax.jit(lambda p: model.bind(p)(tokens(), Context(batch=B)))(parameters)
    assert distance(logits, reference_logits("mix_ln", parameters, tokens(), arch)) < 1e-5


@pytest.mark.core
def test_what_is_pre_ln_at_depth_1():
    """LNS, Mix-LN and GPT-2 with random parameters; NormFormer and Sub-LN are not, for their inner norms."""
    arch = architecture(depth=1)
    plain = decoder(catalogue.get("pre_ln"), arch)
    parameters = random_parameters(plain.specs)
    expected = plain.bind(parameters)(tokens(), Context(batch=B))[0]
    for name in ("lns", "mix_ln", "gpt2"):
        model = decoder(catalogue.get(name).with_norm(kind="layer"), arch)
        assert set(model.specs) == set(parameters)
        np.testing.assert_array_equal(model.bind(parameters)(tokens(), Context(batch=B))[0], expected, err_msg=name)


@pytest.mark.core
def test_swin_v2_is_the_identity_at_init():
    model = decoder(catalogue.get("swin_v2"))
    bound = model.bind(model.init(0))
    x = bound.embedding(tokens(), Context(batch=B), jnp.float32)
    _, stats = bound.decoder(x, Context(batch=B, diagnostics=True), jnp.zeros(2 * DEPTH))
    np.testing.assert_array_equal(stats["branch_ratio"], 0.0)
    np.testing.assert_array_equal(bound.decoder(x, Context(batch=B))[0], bound.decoder.ends.close(x))


def test_hybrid_norm_star_differs_in_its_first_block_alone():
    depths = Depths(decoder=4)
    plain, star = (catalogue.get(name) for name in ("hybrid_norm", "hybrid_norm_star"))
    places = sites("decoder", depths)
    assert [plain.plan(site) == star.plan(site) for site in places] == [False, True, True, True]
    assert star.plan(places[0]) == catalogue.get("pre_rms").with_norm(eps=1e-5).plan(places[0])


@pytest.mark.parametrize(("encoder", "decoder_"), [(0, 4), (12, 0), (6, 6), (12, 3)])
def test_sub_ln_constants(encoder, decoder_):
    """γ at every matrix of both stacks; cross-attention plain."""
    scheme, depths = catalogue.get("sub_ln"), Depths(encoder=encoder, decoder=decoder_)
    expected = reference_schemes.sub_ln_gammas(encoder, decoder_)
    for stack in ("encoder", "decoder"):
        for site in sites(stack, depths, ("attention", "cross_attention", "feed_forward")):
            for kind, gamma in (
                ("attention", expected[stack]),
                ("cross_attention", 1.0),
                ("feed_forward", expected[stack]),
            ):
                here = site.at(kind)
                assert [scheme.init(here, role) for role in ("value", "out", "up", "down")] == pytest.approx(
                    [gamma] * 4
                )
                assert [scheme.init(here, role) for role in ("query", "key", "gate")] == [1.0] * 3
    assert reference_schemes.sub_ln_gammas(0, 18)["decoder"] == pytest.approx(1.8931, rel=1e-4)  # √ln 36


def test_sandwich_init_multipliers():
    site = Site(depths=Depths(decoder=8))
    scheme = catalogue.get("sandwich_ln")
    assert {role: scheme.init(site, role) for role in ("out", "down")} == {"out": 0.25, "down": 0.25}
    assert {scheme.init(site, role) for role in ("query", "key", "value", "up", "gate")} == {1.0}


# Parameters against pre_ln's, per block and at the ends, in units of: a norm with bias (2 D), one without (D), a scalar (1);
# or, where that is not their form, a function of depth and width.
DELTA = {
    "post_ln": (0, 0, 0, -1, 0),
    "pre_ln": (0, 0, 0, 0, 0),
    "post_rms": (-2, 2, 0, -1, 0),
    "pre_rms": (-2, 2, 0, -1, 1),
    "no_norm": (-2, 0, 0, -1, 0),
    "sandwich_ln": (2, 0, 0, 0, 0),
    "deepnorm": (0, 0, 0, -1, 0),
    "rezero": (-2, 0, 1, -1, 0),
    "skipinit": (-2, 0, 2, -1, 0),
    "layerscale": (0, 2, 0, 0, 0),
    "dyt": lambda depth, width: 2 * depth + 2,  # α of each norm, and the embedding's scale
    "derf": lambda depth, width: 4 * depth + 3,
    "fixup": lambda depth, width: depth * (6 - 4 * width) + 1 - 2 * width,
    "t_fixup": (-2, 0, 0, -1, 0),
    "ds_init": (0, 0, 0, -1, 0),
    "depth_mup": (0, 0, 0, 0, 0),
    "completep": (0, 0, 0, 0, 0),
    "gtrxl": lambda depth, width: depth * 2 * (6 * width**2 + width) - 2 * width,
    "highway": lambda depth, width: depth * 2 * (width**2 + width),
    "branch_norm": (0, 0, 0, -1, 0),
    # Per block one gain instead of two norms with bias, no W_v, W_o and their biases; two β and a, b, c of two heads.
    # In the first block s, r and W_v besides.
    "simplified": lambda depth, width: (
        depth * (width - 4 * width - 2 * (width**2 + width) + 2 + 6) + (width**2 + 2) - width
    ),
    # Per block two gains instead of two norms with bias, β, β_f, γ, and a, b of two heads.
    "value_skipinit": lambda depth, width: depth * (-2 * width + 3 + 4) - width,
}

# Placement: functions of depth L and width d; the norms of q, k and v are over the d / HEADS of a head.
DELTA |= {
    "peri_ln": lambda L, d: -d,
    "res_post_norm": lambda L, d: -d,
    "swin_v2": lambda L, d: L * HEADS,
    "normformer": lambda L, d: L * (3 * d + 2 * HIDDEN + HEADS),
    "sub_ln": lambda L, d: L * (2 * d + 2 * HIDDEN),
    "gpt2": lambda L, d: 0,
    "admin": lambda L, d: L * 2 * d - 2 * d,
    "mix_ln": DELTA["pre_rms"],
    "hybrid_norm": lambda L, d: L * (3 * d // HEADS - 3 * d) - d,
    "hybrid_norm_star": lambda L, d: L * (3 * d // HEADS - 3 * d),
    "lns": DELTA["pre_rms"],
    "keel": lambda L, d: (L - 1) * 4 * d - 2 * d,
    "b2t": lambda L, d: -2 * d,
    "span_norm": lambda L, d: 0,
    "parallel": lambda L, d: -2 * L * d,
}

# Several streams, depth history, recipes and controls.
DELTA |= {
    "no_skip": (0, 0, 0, 0, 0),
    "scale_norm": lambda L, d: (2 * L + 1) * (1 - 2 * d),
    "ngpt": lambda L, d: L * (2 * d + d + HIDDEN - 4 * d) - 2 * d + VOCAB,
    "residual_dual": (0, 0, 0, 0, 0),
    "siamese": (4, 0, 0, 2, 0),
    "altup": lambda L, d: L * (2 * 2 + 2),
    "hyper_static": lambda L, d: 2 * L * 4 * (4 + 2),
    "hyper": lambda L, d: 2 * L * (4 * (4 + 2) + d * (4 + 2) + 2 + 2 * d),
    "frac": lambda L, d: 2 * L * (2 * (2 * 2 + 1) + d // 2 * (2 * 2 + 1) + 2 + 2 * d // 2),
    "mhc": lambda L, d: 2 * L * (4 * d * (4**2 + 2 * 4) + 4**2 + 2 * 4 + 3) - d * (2 * L + 1),  # RMSNorm for LayerNorm
    "mhc_zero": lambda L, d: DELTA["mhc"](L, d),
    "laurel": lambda L, d: 2 * L * (2 * 16 * d + 2),
    "value_residual": DELTA["pre_rms"],
    "denseformer": lambda L, d: L * (L + 3) // 2,
    "attn_res": lambda L, d: 2 * d * 2 * L - d * (2 * L + 1),  # RMSNorm for LayerNorm
    "attn_res_block": lambda L, d: 2 * d * 2 * L - d * (2 * L + 1),
}


@functools.cache
def size_of_pre_ln(depth: int, width: int) -> int:
    return decoder(catalogue.get("pre_ln"), architecture(depth=depth, width=width)).size


@pytest.mark.parametrize("name", third("delta"))
def test_parameter_delta_against_pre_ln(name):
    if name not in DELTA:
        pytest.fail(
            f"scheme '{name}' has no entry in DELTA (tests/test_schemes.py): say by hand what parameters it adds to pre_ln's"
        )
    entry = DELTA[name]
    for depth, width in ((1, 16), (3, 32)):
        delta = decoder(catalogue.get(name), architecture(depth=depth, width=width)).size - size_of_pre_ln(depth, width)
        if callable(entry):
            assert delta == entry(depth, width)
            continue
        layer, gain_only, scalar, end_layer, end_gain = entry
        block = 2 * width * layer + width * gain_only + scalar
        assert delta == depth * block + 2 * width * end_layer + width * end_gain
