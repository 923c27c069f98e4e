"""What is said of schemes with several streams, a history or a recipe of their own, besides their equations (test_schemes.py)."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import trees
from bridge import B, architecture, decoder, distance, embedded, nested, random_parameters, tokens
from bridge import bodies as body_parameters
from bridge import own as own_parameters
from copying import Copying
from of_config import hypers, initial_state
from reference import hyper as hyper_reference
from reference import norms, streams, transformer

from addnorm_exp.config import Config
from addnorm_exp.residual import Context, Depths, catalogue, sites
from addnorm_exp.residual.catalogue import history, hyper_connections, manifold, mixing


def logits(scheme, parameters=None, **changes):
    model = decoder(scheme, architecture(**changes))
    return model.bind(parameters or model.init(3))(tokens(), Context(batch=B))[0]


@functools.cache
def plain_at_init(name, depth):
    return logits(catalogue.get(name).with_norm(eps=1e-12), depth=depth)


@pytest.mark.core
@pytest.mark.parametrize(
    "name",
    [
        *("hyper", "laurel", "altup", "attn_res_block"),
        *(pytest.param(name, marks=pytest.mark.full) for name in ("hyper_static", "frac", "denseformer", "attn_res")),
    ],
)
def test_pre_ln_at_init(name):
    """Tensors of one path start alike, so the two are one function to rounding: of Pre-LN, or of Pre-RMSNorm where that is the norm.

    ε is small, for it sees the scale of the stream, of which attention residuals have 1/s. Of six blocks the block form has sums.
    """
    depth = 6 if name == "attn_res_block" else 2
    plain = {"layer": "pre_ln", "rms": "pre_rms"}[catalogue.get(name).norm.kind]
    ours = logits(catalogue.get(name).with_norm(eps=1e-12), depth=depth)
    assert distance(ours, plain_at_init(plain, depth)) < 1e-5


@pytest.mark.core
def test_value_residual_with_unlike_weights():
    """Which of the two is the first block's, and that its values are handed on unmixed."""

    def options(site, norm):
        given = history.first_values(site, norm)
        return {name: value if value == "keep" else (0.3, 1.7) for name, value in given.items()}

    scheme = replace(catalogue.get("value_residual"), options=options)
    model = decoder(scheme)
    parameters = random_parameters(model.specs)
    tree = nested(parameters)
    F = transformer.value_bodies(body_parameters(tree["decoder"]), architecture().num_heads)
    p = trees.value_residual(own_parameters(tree["decoder"]), mix=(0.3, 1.7))
    theirs = transformer.output_logits(
        streams.value_residual(embedded(tree, tokens(), architecture()), F, p, norms.rms_norm), tree["head"]
    )
    assert distance(logits(scheme, parameters), theirs.reshape(-1, theirs.shape[-1])) < 1e-5


@pytest.mark.core
@pytest.mark.parametrize("name", ["mhc", "mhc_zero"])
def test_mhc_is_pre_rms_without_phi(name):
    """H_pre and H_res then only scale the equal streams alike, and H_post is 1; with φ they part, a little at α = 0.01."""
    scheme, plain = (catalogue.get(name).with_norm(eps=1e-12) for name in (name, "pre_rms"))
    parameters = decoder(scheme).init(3)
    without = {path: 0.0 * value if path.endswith("/phi") else value for path, value in parameters.items()}
    assert distance(logits(scheme, without), logits(plain)) < 1e-5
    assert 1e-5 < distance(logits(scheme, parameters), logits(plain)) < 0.05


@pytest.mark.core
def test_sinkhorn():
    """Doubly stochastic to what 20 rounds give, rows exactly; no overflow where exp alone would."""
    g = np.random.default_rng(0)
    found = np.asarray(manifold.sinkhorn(jnp.asarray(g.normal(size=(4, 4, 50)), jnp.float32)))
    np.testing.assert_allclose(found.sum(axis=1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(found.sum(axis=0), 1.0, rtol=1e-3)
    large = 200.0 * jnp.eye(4)[..., None]
    np.testing.assert_allclose(manifold.sinkhorn(large)[..., 0], np.eye(4), atol=1e-6)
    # Logits so far apart that 20 rounds do not converge: their number counts, and whether rows or columns come last.
    apart = 8 * g.normal(size=(50, 4, 4))
    theirs = hyper_reference.sinkhorn_knopp(apart)
    assert np.abs(theirs.sum(axis=-2) - 1).max() > 0.05
    ours = manifold.sinkhorn(jnp.asarray(np.moveaxis(apart, 0, -1), jnp.float32))
    np.testing.assert_allclose(ours, np.moveaxis(theirs, 0, -1), rtol=1e-4, atol=1e-6)


@pytest.mark.core
def test_mhc_starts_as_the_second_version_of_its_paper_says():
    """2512.24880 v2, A.6: H_pre reads σ(3) of the home stream and σ(-3) of the others, H_res is nearly the identity, H_post is 1."""
    own = manifold.paper_bias(4, 2)
    np.testing.assert_array_equal(own[:4], [-3, -3, 3, -3])
    np.testing.assert_array_equal(own[4:8], 0)
    np.testing.assert_array_equal(own[8:].reshape(4, 4), 6 * np.eye(4) - 3)
    homes = [
        at.rule.fields["home"] for site in sites("decoder", Depths(decoder=3)) for at in catalogue.get("mhc").plan(site)
    ]
    assert homes == [0, 1, 2, 3, 0, 1]
    assert all(
        at.rule.fields["home"] is None for at in catalogue.get("mhc_zero").plan(sites("decoder", Depths(decoder=1))[0])
    )


@pytest.mark.core
def test_deepseek_v4_mixes_by_the_same_matrices():
    """Its code without ε, softmax over rows, columns, then 19 times rows and columns, on transposed logits and mixing by the
    transpose: the matrices of the paper's eqs. 8 and 9 (docs/schemes.md, the traps of mhc)."""
    logits = 3 * np.random.default_rng(0).normal(size=(20, 4, 4))
    theirs = np.exp(np.swapaxes(logits, -1, -2))
    for _ in range(20):
        theirs = theirs / theirs.sum(-1, keepdims=True)
        theirs = theirs / theirs.sum(-2, keepdims=True)
    ours = manifold.sinkhorn(jnp.asarray(np.moveaxis(logits, 0, -1), jnp.float32))
    np.testing.assert_allclose(np.moveaxis(ours, -1, 0), np.swapaxes(theirs, -1, -2), rtol=1e-5, atol=1e-7)


@pytest.mark.core
def test_mixing_over_all_depth_neither_grows_nor_shrinks():
    """The gain of the product of the mixings of 48 blocks, its largest sum of magnitudes in a row or column (2512.24880, 3.1): about 1
    under mHC whatever the logits are; hyper-connections have nothing that bounds it."""
    g = np.random.default_rng(0)
    logits = g.normal(size=(96, 4, 4))
    free, bound = np.eye(4), np.eye(4)
    mixings = manifold.sinkhorn(jnp.asarray(np.moveaxis(logits, 0, -1), jnp.float32))
    for one, mixed in zip(logits, np.moveaxis(np.asarray(mixings, np.float64), -1, 0), strict=True):
        free, bound = (np.eye(4) + 0.1 * one) @ free, mixed @ bound

    def gain(matrix):
        return max(np.abs(matrix).sum(axis=axis).max() for axis in (0, 1))

    assert gain(bound) == pytest.approx(1.0, abs=0.01)
    assert gain(free) > 3


@pytest.mark.core
@pytest.mark.parametrize("dynamic", [False, True])
def test_one_stream_is_the_plain_residual(dynamic):
    """Its three weights are of the one stream: at (1, 1, 1) Pre-LN, whatever the rest of the model."""
    scheme = replace(
        catalogue.get("hyper"),
        block=hyper_connections.hyper_block(1, dynamic),
        ends=lambda norm: mixing.copies(norm, 1),
    )
    model, plain = decoder(scheme), decoder(catalogue.get("pre_ln"))
    parameters = random_parameters(plain.specs)
    first = model.init(0)
    ours = {path: parameters.get(path, first[path]) for path in model.specs}
    assert distance(logits(scheme, ours), logits(catalogue.get("pre_ln"), parameters)) < 1e-5


@pytest.mark.core
def test_streams_of_hyper_connections_part_in_training():
    """Their reads start at different streams, so that equal copies of the embedding do not stay equal: each has a gradient of its own."""
    model = decoder(catalogue.get("hyper_static"), architecture(depth=1))

    def loss(parameters):
        return jnp.mean(jnp.sin(model.bind(parameters)(tokens(), Context(batch=B))[0]))

    grads = jax.jit(jax.grad(loss))(model.init(0))
    beta = np.asarray(grads["decoder/blocks/0/connections/nodes/attention/connection/mixing/beta"])
    assert len(set(beta.tolist())) > 1


@pytest.mark.core
@pytest.mark.parametrize("blocks", [1, 2, 3, 5])
def test_attention_residuals_in_other_numbers_of_blocks(blocks):
    """Parts that end inside a Transformer block, and parts that are not even."""
    scheme = replace(catalogue.get("attn_res_block"), block=history.depth_attention_in_blocks(blocks))
    arch = architecture(depth=4)
    model = decoder(scheme, arch)
    parameters = random_parameters(model.specs)
    tree = nested(parameters)
    F = transformer.bodies(body_parameters(tree["decoder"]), arch.num_heads)
    p = trees.attention_residuals(own_parameters(tree["decoder"]))
    y = streams.attention_residuals_in_blocks(embedded(tree, tokens(), arch), F, p, blocks)
    theirs = transformer.output_logits(y, tree["head"])
    assert distance(logits(scheme, parameters, depth=4), theirs.reshape(-1, theirs.shape[-1])) < 1e-5


@pytest.mark.core
def test_a_history_is_never_scanned():
    """Asked to scan, the stack runs block after block: what a block leaves is longer than what it found."""
    for name in ("denseformer", "attn_res", "attn_res_block"):
        model = decoder(catalogue.get(name), architecture(depth=6, scan_layers="on"))
        run = jax.make_jaxpr(lambda p, model=model: model.bind(p)(tokens(), Context(batch=B))[0])
        assert "scan[" not in str(run(model.init(0))), name
    scanned = decoder(catalogue.get("pre_ln"), architecture(depth=6, scan_layers="on"))
    assert "scan[" in str(jax.make_jaxpr(lambda p: scanned.bind(p)(tokens(), Context(batch=B))[0])(scanned.init(0)))


@pytest.mark.core
def test_no_skip_is_without_a_stream():
    """Attention that says nothing leaves nothing: the model's output is the same for all tokens."""
    model = decoder(catalogue.get("no_skip"))
    parameters = random_parameters(model.specs)
    silent = {path: 0.0 * value if "feed_forward/down" in path else value for path, value in parameters.items()}
    said = logits(catalogue.get("no_skip"), silent)
    np.testing.assert_allclose(said, np.broadcast_to(said[0], said.shape), rtol=1e-5, atol=1e-6)
    assert np.std(logits(catalogue.get("no_skip"), parameters), axis=0).min() > 1e-3


@pytest.mark.core
def test_ngpt_lives_on_the_sphere():
    """The stream between blocks, whatever the parameters; and every weight vector of length D after the projection, by the roles of the
    reference."""
    scheme, arch = catalogue.get("ngpt"), architecture(activation="swiglu", rotary=True, bias=False)
    model = decoder(scheme, arch)
    parameters = random_parameters(model.specs)
    bound = model.bind(parameters)
    x0 = bound.embedding(tokens(), Context(batch=B), jnp.float32)
    y, _ = bound.decoder(x0, Context(batch=B))
    np.testing.assert_allclose(np.linalg.norm(y, axis=-1), 1.0, rtol=1e-5)
    projected, tree = nested(scheme.project(model.specs, parameters)), nested(parameters)

    def layout(tree):
        return {
            "embedding": tree["embedding"]["tokens"],
            "head": tree["head"],
            "blocks": body_parameters(tree["decoder"]),
        }

    theirs = streams.ngpt_project(layout(tree))
    for ours, leaf in zip(jax.tree.leaves(layout(projected)), jax.tree.leaves(theirs), strict=True):
        assert distance(ours, leaf) < 1e-6


@pytest.mark.core
@pytest.mark.parametrize("law", ["normal", "xavier"])
def test_ngpt_normalises_its_embedding_inside_only_with_learned_positions(law):
    """The released code does it after the update alone: under rotary positions a row enters as it is, whatever its length, so that its
    gradient keeps the part along the row. The sum with a learned position has no length of its own."""
    for rotary in (True, False):
        model = decoder(catalogue.get("ngpt"), architecture(rotary=rotary, law=law))
        parameters = random_parameters(model.specs)
        x0 = model.bind(parameters).embedding(tokens(), Context(batch=B), jnp.float32)
        if rotary:
            np.testing.assert_array_equal(x0, parameters["embedding/tokens"][tokens().reshape(-1)])
        else:
            np.testing.assert_allclose(np.linalg.norm(x0, axis=-1), 1.0, rtol=1e-5)


@pytest.mark.core
def test_ngpt_is_projected_before_the_first_step():
    """That it is after every step, test_scheme_training.py sees in the real one."""
    task = Copying(catalogue.get("ngpt"), depth=1)
    start = initial_state(task, hypers(Config())).parameters
    again, drawn = task.scheme.project(task.model.specs, start), task.model.init(0)
    for path in start:
        np.testing.assert_allclose(again[path], start[path], rtol=1e-5, atol=1e-7, err_msg=path)
    path = "decoder/blocks/0/attention/query/kernel"
    assert distance(drawn[path], start[path]) > 1e-3


def test_diagnostics_of_several_streams():
    """stream_rms is that of what a site reads before its norm: under hyper-connections at init the one stream that Pre-LN has."""
    context = Context(batch=B, diagnostics=True)
    found = {}
    for name in ("pre_ln", "hyper_static", "frac"):
        model = decoder(catalogue.get(name))
        _, found[name] = model.bind(model.init(0))(tokens(), context, jnp.zeros(len(model.module.labels)))
    for name in ("hyper_static", "frac"):
        for quantity in ("stream_rms", "branch_ratio"):
            np.testing.assert_allclose(found[name][quantity], found["pre_ln"][quantity], rtol=1e-4)


def test_parts_of_a_stack_are_as_even_as_they_can_be():
    places = sites("decoder", Depths(decoder=6))
    starts = [history.starts_block(site, kind, 8) for site in places for kind in site.sublayers]
    lengths = np.diff(np.flatnonzero([*starts, True]))
    assert sum(starts) == 8
    assert set(lengths.tolist()) == {1, 2}
