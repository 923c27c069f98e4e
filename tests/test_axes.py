"""The axes that go with any scheme: what they compute against float64, where they hold, and what they are in a run's identity."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bridge import (
    DEPTH,
    HEADS,
    VOCAB,
    B,
    D,
    T,
    architecture,
    bodies,
    decoder,
    distance,
    embedded,
    nested,
    random_parameters,
    tokens,
)
from of_config import identify, make_task
from reference import norms as reference_norms
from reference import transformer
from training import config as tiny

from addnorm_exp.errors import UserError
from addnorm_exp.residual import Context, Depths, SchemeError, axes, catalogue, norms, sites
from addnorm_exp.residual.dropout import drop_path

PRE = catalogue.get("pre_ln")
PLACES = sites("decoder", Depths(decoder=8))


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (None, [1, 2, 3, 4, 5, 6, 7, 8]),
        ("first:3", [1, 2, 3]),
        ("first:0.25", [1, 2]),
        ("first:0.2", [1]),
        ("first:0", []),
        ("last:2", [7, 8]),
        ("last:0.5", [5, 6, 7, 8]),
        ("every:3", [3, 6]),
        ("1", [1]),
        ("1,4-6", [1, 4, 5, 6]),
    ],
)
def test_where_a_predicate_holds(where, expected):
    assert [site.block + 1 for site in PLACES if axes.holds(where, site)] == expected


def test_a_share_of_the_stack_is_exact():
    """0.29 of 100 blocks are 29; in binary 0.29 · 100 is a little less."""
    places = sites("decoder", Depths(decoder=100))
    assert sum(axes.holds("first:0.29", site) for site in places) == 29


@pytest.mark.parametrize(
    "where", ["first", "first:", "first:x", "first:1.5", "last:-1", "every:0", "0", "3-2", "1-2-3", "1,", "all"]
)
def test_a_predicate_that_cannot_be_read(where):
    with pytest.raises(SchemeError, match="no choice of blocks; write first:N"):
        axes.holds(where, PLACES[0])


def test_the_norm_of_some_blocks():
    scheme = axes.with_norm(PRE, "last:2", kind="rms")
    kinds = [scheme.plan(site)[0].rule.pre.kind for site in PLACES]
    assert kinds == ["layer"] * 6 + ["rms"] * 2
    assert scheme.ends(scheme.norm).closing == norms.LAYER
    inner = axes.with_norm(catalogue.get("sub_ln"), "first:1", kind="rms")
    found = [inner.sublayer_options(site.at("feed_forward"))["hidden_norm"].kind for site in PLACES[:2]]
    assert found == ["rms", "layer"]
    scheme.check(PLACES)


def test_attention_of_some_blocks_and_off():
    scheme = axes.with_attention(PRE, "every:2", qk_norm="head", soft_cap=5.0)
    assert [bool(scheme.sublayer_options(site.at("attention"))) for site in PLACES] == [False, True] * 4
    assert not any(scheme.sublayer_options(site.at("feed_forward")) for site in PLACES)
    swin = catalogue.get("swin_v2")
    off = axes.with_attention(swin, None, qk_norm="none")
    assert off.sublayer_options(PLACES[0].at("attention")) == {}
    assert swin.sublayer_options(PLACES[0].at("attention")) == {"qk_norm": "cosine"}


@pytest.mark.core
def test_all_axes_at_once_against_the_reference():
    """QK- and V-norm with a cap in the last two blocks, a norm on the scaled embedding, capped logits."""
    scheme = axes.with_attention(PRE, "last:2", qk_norm="head", v_norm="head", soft_cap=0.7)
    scheme = axes.with_around(scheme, embedding_norm="rms", embedding_scale="learned", logit_cap=1.5)
    model = decoder(scheme)
    assert model.specs["embedding/scale"].init.scale == pytest.approx(D**0.5)
    parameters = random_parameters(model.specs)
    tree = nested(parameters)
    x = reference_norms.rms_norm(
        float(tree["embedding"]["scale"]) / np.sqrt(D) * embedded(tree, tokens(), architecture()),
        tree["embedding"]["norm"],
    )
    stack = tree["decoder"]
    for number, block in enumerate(bodies(stack)):
        own = stack["blocks"][str(number)]["connections"]["nodes"]
        h = reference_norms.layer_norm(x, own["attention"]["connection"]["pre"])
        x = x + transformer.attention(block["attention"], h, HEADS, soft_cap=0.7 if number > 0 else 0.0)
        h = reference_norms.layer_norm(x, own["feed_forward"]["connection"]["pre"])
        x = x + transformer.feed_forward(block["feed_forward"], h)
    z = transformer.output_logits(reference_norms.layer_norm(x, stack["ends"]["closing"]), tree["head"])
    logits, _ = model.bind(parameters)(tokens(), Context(batch=B))
    assert distance(logits, (1.5 * np.tanh(z / 1.5)).reshape(-1, VOCAB)) < 1e-5
    assert sum("query_norm" in path for path in model.specs) == 2


@pytest.mark.parametrize(
    ("scale", "law", "factor"), [("one", "xavier", 1.0), ("root", "normal", D**0.5), (None, "normal", 1.0)]
)
def test_scale_of_the_embedding(scale, law, factor):
    model = decoder(axes.with_around(PRE, embedding_scale=scale), architecture(law=law, rotary=True))
    bound = model.bind(random_parameters(model.specs))
    x = bound.embedding(tokens(), Context(batch=B), jnp.float32).reshape(B, T, D)
    np.testing.assert_allclose(x, factor * bound.embedding.tokens[...][tokens()], rtol=1e-6)


def test_the_norm_of_the_embedding_stands_before_dropout():
    model = decoder(axes.with_around(PRE, embedding_norm="rms"))
    bound = model.bind(random_parameters(model.specs))
    noise = Context(batch=B, key=jax.random.key(0), dropout=0.4, train=True)
    whole, noisy = (bound.embedding(tokens(), context, jnp.float32) for context in (Context(batch=B), noise))
    kept = np.asarray(noisy) != 0
    assert kept.mean() == pytest.approx(0.6, abs=0.1)
    np.testing.assert_allclose(noisy[kept], whole[kept] / 0.6, rtol=1e-6)


# --- z-loss ---


def test_z_loss_is_in_the_gradient_and_not_in_the_loss():
    """Against the gradient of the penalty by itself; outside of training it is not there at all."""
    plain, task = (make_task(tiny(**changes)) for changes in ({}, {"logits__z_loss": 0.3}))
    parameters, probes = plain.model.init(0), jnp.zeros(len(plain.labels))
    batch = tuple(jnp.asarray(np.random.default_rng(n).integers(256, size=(4, 16))) for n in (0, 1))

    def gradient(task, context):
        return jax.jit(jax.value_and_grad(lambda p: task.loss(p, probes, batch, 64.0, {}, context).value))(parameters)

    def penalty(p):
        logits, _ = plain.model.bind(p)(batch[0], Context(batch=4))
        return 0.3 * jnp.mean(jax.nn.logsumexp(logits, axis=-1) ** 2)

    (loss, base), (same, with_it) = (gradient(t, Context(train=True)) for t in (plain, task))
    assert loss == same
    extra = jax.jit(jax.grad(penalty))(parameters)
    for path in base:
        np.testing.assert_allclose(with_it[path] - base[path], extra[path], rtol=2e-3, atol=1e-5, err_msg=path)
    assert max(float(jnp.abs(value).max()) for value in extra.values()) > 0.01
    for path, value in gradient(task, Context())[1].items():
        np.testing.assert_array_equal(value, base[path], err_msg=path)


# --- stochastic depth ---


def test_stochastic_depth_drops_whole_samples():
    context = Context(key=jax.random.key(0), drop_path=0.25, batch=400, train=True)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(400 * 3, 2)), jnp.float32)
    y = np.asarray(drop_path(x, context)).reshape(400, -1)
    kept = y.any(axis=1)
    assert kept.mean() == pytest.approx(0.75, abs=0.06)
    np.testing.assert_allclose(y[kept], np.asarray(x).reshape(400, -1)[kept] / 0.75, rtol=1e-6)
    for off in ({"train": False}, {"drop_path": None}, {"key": None}):
        assert drop_path(x, replace(context, **off)) is x


@pytest.mark.core
@pytest.mark.parametrize("scan", ["off", "on"])
def test_stochastic_depth_rises_from_nothing(scan):
    """At a rate of all but 1 the first block is whole, and only it: what is left is the model of its one block."""
    model, one = decoder(PRE, architecture(scan_layers=scan)), decoder(PRE, architecture(depth=1))
    parameters = random_parameters(model.specs)
    context = Context(key=jax.random.key(0), drop_path=1.0 - 1e-7, batch=B, train=True)
    rates = [float(context.into(block, DEPTH).drop_path) for block in range(DEPTH)]
    np.testing.assert_allclose(rates, [0.0, 0.5, 1.0], rtol=1e-5)
    first = {path: parameters[path] for path in one.specs}
    bound = model.bind(parameters)
    expected = one.bind(first)(tokens(), Context(batch=B))[0]
    run = jax.jit(lambda key: bound(tokens(), replace(context, key=key))[0])
    # The second block stands in half of the draws; where it is gone at both sublayers and for both samples, the first is left.
    runs = [distance(run(jax.random.key(seed)), expected) for seed in range(64)]
    assert min(runs) < 1e-5
    assert np.median(runs) > 0.01
    assert distance(bound(tokens(), Context(batch=B))[0], expected) > 0.01


# --- at the door ---


def identity(**changes) -> str:
    return identify(tiny(model__depth=2, **changes), "0" * 64)


AXES = [
    {"attention__qk_norm": "head"},
    {"attention__qk_norm": "full"},
    {"attention__qk_norm": "head", "attention__blocks": "first:1"},
    {"attention__v_norm": "head"},
    {"attention__soft_cap": 50.0},
    {"embedding__norm": "rms"},
    {"embedding__scale": "learned"},
    {"logits__soft_cap": 30.0},
    {"logits__z_loss": 1e-4},
    {"model__drop_path": 0.1},
    {"norm__kind": "rms"},
    {"norm__kind": "rms", "norm__blocks": "last:1"},
]
SAME = [
    {"attention__qk_norm": "none"},
    {"attention__soft_cap": 0.0},
    {"embedding__norm": "none"},
    {"logits__soft_cap": 0.0},
    {"logits__z_loss": 0.0},
    {"model__drop_path": 0.0},
]


@pytest.mark.core
def test_an_axis_is_another_run_and_off_is_none():
    ids = [identity(), *(identity(**changes) for changes in AXES)]
    assert len(set(ids)) == len(ids)
    assert {identity(**changes) for changes in SAME} == {identity()}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"norm__blocks": "first:1"}, "norm.blocks says where"),
        ({"attention__blocks": "first:1"}, "attention.blocks says where"),
        ({"attention__qk_norm": "head", "attention__blocks": "some"}, "'some' is no choice of blocks"),
        ({"attention__qk_norm": "head", "attention__blocks": "9"}, "attention.blocks='9' matches none of the 2 blocks"),
        ({"norm__kind": "rms", "norm__blocks": "first:0.25"}, "norm.blocks='first:0.25' matches none of the 2 blocks"),
        ({"attention__soft_cap": 5.0, "execution__attention": "xla"}, "does not support a soft-cap"),
        ({"scheme": "no_skip", "model__drop_path": 0.1}, "has no skip at decoder.0.attention: stochastic depth"),
        ({"scheme": "value_skipinit", "model__drop_path": 0.1}, "has no skip at decoder.0.attention: stochastic depth"),
        ({"scheme": "simplified", "model__drop_path": 0.1}, r"has no skip at decoder.0.attention\+feed_forward"),
        ({"scheme": "ngpt", "embedding__norm": "layer"}, "scheme 'ngpt' has the norm 'l2' on its embedding"),
        ({"attention__qk_norm": "heads"}, "attention.qk_norm='heads'"),
        ({"model__drop_path": 1.0}, "model.drop_path=1.0"),
    ],
)
def test_refused_at_the_door(changes, message):
    with pytest.raises(UserError, match=message):
        tiny(model__depth=2, **changes)
