"""Every scheme of the catalogue in the real decoder and encoder against its float64 reference, scanned against unrolled, and the
identities that its paper states."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bridge import (
    DEPTH,
    HEADS,
    B,
    T,
    architecture,
    bodies,
    classifier,
    decoder,
    distance,
    embedded,
    nested,
    own,
    random_parameters,
    reference,
    reference_logits,
    tokens,
)
from reference import norms as reference_norms
from reference import schemes as reference_schemes
from reference import transformer

from addnorm_exp.residual import Context, Depths, Site, catalogue, sites
from addnorm_exp.residual.catalogue import placement
from addnorm_exp.residual.init import Init

NAMES = catalogue.names()
SHAPES = {
    "gelu-learned-untied": ({}, False),
    "swiglu-rotary-tied": ({"activation": "swiglu", "rotary": True, "bias": False}, True),
    "relu-rotary-untied": ({"activation": "relu", "rotary": True, "law": "normal"}, False),
    "gelu-learned-tied": ({"bias": False, "law": "normal"}, True),
}


@pytest.mark.core
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", NAMES)
def test_decoder_equals_the_reference(name, shape):
    changes, tied = SHAPES[shape]
    arch = architecture(**changes)
    model = decoder(catalogue.get(name), arch, tied=tied)
    parameters = random_parameters(model.specs)
    logits, stats = model.bind(parameters)(tokens(), Context(batch=B))
    assert stats == {}
    assert distance(logits, reference_logits(name, parameters, tokens(), arch)) < 1e-5


@pytest.mark.parametrize("name", [name for name in NAMES if catalogue.get(name).norm.kind != "none"])
def test_decoder_under_another_norm(name):
    """The norm axes of a config reach every norm of the scheme, the final one included."""
    kind = "rms" if catalogue.get(name).norm.kind == "layer" else "layer"
    model = decoder(catalogue.get(name).with_norm(kind=kind, eps=0.02))
    parameters = random_parameters(model.specs)
    functions = {"layer": reference_norms.layer_norm, "rms": reference_norms.rms_norm}
    theirs = reference_logits(
        name, parameters, tokens(), architecture(), norm=lambda x, p: functions[kind](x, p, eps=0.02)
    )
    logits, _ = model.bind(parameters)(tokens(), Context(batch=B))
    assert distance(logits, theirs) < 1e-5


@pytest.mark.core
@pytest.mark.parametrize("name", NAMES)
def test_scan_equals_unrolled(name):
    """Outputs, gradients, taps and statistics. Dropout takes part for one scheme, since it lies outside of all of them."""
    context, results = Context(batch=B, diagnostics=True), {}
    if name == "pre_ln":
        context = replace(context, key=jax.random.key(3), dropout=0.2, train=True, attention_statistics=True)
    for scan in ("off", "on"):
        model = decoder(catalogue.get(name), architecture(scan_layers=scan))
        parameters = random_parameters(model.specs)
        assert model.bind(parameters).decoder.scan is (scan == "on")

        def loss(parameters, probes, model=model):
            logits, stats = model.bind(parameters)(tokens(), context, probes)
            return jnp.mean(jnp.sin(logits)), (logits, stats)

        function = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
        results[scan] = function(parameters, jnp.zeros(2 * DEPTH))
    (_, (_, stats)), (grads, _) = results["off"]
    assert {"stream_rms", "branch_ratio"} <= set(stats)
    # A gradient that is 0 but for rounding (a key's bias) has no scale of its own.
    least = 1e-3 * max(float(jnp.abs(grad).max()) for grad in grads.values())
    flat, other = (jax.tree_util.tree_leaves_with_path(results[scan]) for scan in ("off", "on"))
    for (path, one), (_, two) in zip(flat, other, strict=True):
        assert jnp.abs(one - two).max() <= 2e-5 * max(float(jnp.abs(one).max()), least), path


@pytest.mark.core
@pytest.mark.parametrize("name", NAMES)
def test_encoder_with_padding_equals_the_reference(name):
    model = classifier(catalogue.get(name))
    parameters = random_parameters(model.specs)
    mask = np.array([[True] * T, [True] * 5 + [False] * (T - 5)])
    logits, _ = model.bind(parameters)(tokens(), Context(batch=B, mask=jnp.asarray(mask)))
    tree = nested(parameters)
    F = transformer.bodies(bodies(tree["encoder"]), HEADS, causal=False, key_mask=mask)
    y = reference(name)(embedded(tree, tokens(), architecture()), F, own(tree["encoder"]))
    assert distance(logits, transformer.linear(tree["head"], transformer.mean_pool(y, mask))) < 1e-5


# --- what the papers say of their own schemes ---


@pytest.mark.core
def test_rezero_is_the_identity_at_init():
    """The stream is x0 to the last bit; only a, the embedding and the head have a gradient."""
    model = decoder(catalogue.get("rezero"))
    rates = [path for path in model.specs if model.specs[path].group == "coefficient"]
    assert len(rates) == DEPTH
    assert all(model.specs[path].init == Init.constant(0.0) for path in rates)
    parameters = random_parameters(model.specs) | {path: jnp.zeros(()) for path in rates}

    def run(parameters):
        bound = model.bind(parameters)
        x = bound.embedding(tokens(), Context(batch=B), jnp.float32)
        return x, bound.decoder(x, Context(batch=B))[0]

    before, after = run(parameters)
    np.testing.assert_array_equal(before, after)

    def loss(parameters):
        logits, _ = model.bind(parameters)(tokens(), Context(batch=B))
        return jnp.mean(jnp.sin(logits))

    alive = {path for path, grad in jax.jit(jax.grad(loss))(parameters).items() if np.any(grad)}
    assert alive == {*rates, "embedding/tokens", "embedding/positions", "head/kernel"}


def test_deepnorm_without_its_constants_is_post_ln(monkeypatch):
    parameters = random_parameters(decoder(catalogue.get("post_ln")).specs)

    def logits(scheme):
        return decoder(scheme).bind(parameters)(tokens(), Context(batch=B))[0]

    with_constants = logits(catalogue.get("deepnorm"))
    monkeypatch.setattr(placement, "deepnorm_alpha", lambda site: 1.0)
    without = logits(replace(catalogue.get("deepnorm"), init=lambda site, role: 1.0))
    np.testing.assert_array_equal(without, logits(catalogue.get("post_ln")))
    assert distance(with_constants, without) > 0.01


@pytest.mark.core
@pytest.mark.parametrize(("encoder", "decoder_"), [(0, 4), (0, 18), (6, 0), (12, 0), (6, 6), (12, 3)])
def test_deepnorm_constants(encoder, decoder_):
    """Its figure 2: every matrix of both stacks, and α at every site."""
    scheme, depths = catalogue.get("deepnorm"), Depths(encoder, decoder_)
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
    assert placement.deepnorm_alpha(site) == pytest.approx(6**0.5)
    assert placement.deepnorm_beta(site, "out") == pytest.approx(12**-0.5)


def test_sandwich_init_multipliers():
    site = Site(depths=Depths(decoder=8))
    scheme = catalogue.get("sandwich_ln")
    assert {role: scheme.init(site, role) for role in ("out", "down")} == {"out": 0.25, "down": 0.25}
    assert {scheme.init(site, role) for role in ("query", "key", "value", "up", "gate")} == {1.0}


# Parameters against pre_ln's, per block and at the ends, in units of: a norm with bias (2 D), one without (D), a scalar (1).
DELTA = {
    "post_ln": (0, 0, 0, -1, 0),
    "pre_ln": (0, 0, 0, 0, 0),
    "post_rms": (-2, 2, 0, -1, 0),
    "pre_rms": (-2, 2, 0, -1, 1),
    "no_norm": (-2, 0, 0, -1, 0),
    "sandwich_ln": (2, 0, 0, 0, 0),
    "deepnorm": (0, 0, 0, -1, 0),
    "rezero": (-2, 0, 1, -1, 0),
}


@pytest.mark.parametrize("name", NAMES)
def test_parameter_delta_against_pre_ln(name):
    if name not in DELTA:
        pytest.fail(f"scheme '{name}' has no entry in DELTA: say by hand what parameters it adds to pre_ln's")
    layer, gain_only, scalar, end_layer, end_gain = DELTA[name]
    for depth, width in ((1, 16), (3, 32)):
        arch = architecture(depth=depth, width=width)
        delta = decoder(catalogue.get(name), arch).size - decoder(catalogue.get("pre_ln"), arch).size
        block = 2 * width * layer + width * gain_only + scalar
        assert delta == depth * block + 2 * width * end_layer + width * end_gain
