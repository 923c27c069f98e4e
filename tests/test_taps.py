"""The tap against plain autodiff: the forward pass is rewritten so that each probe is a zero added to the stream, and its gradient is
the stream's."""

import itertools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bridge import DEPTH, B, T, architecture, classifier, decoder, distance, random_parameters, tokens
from of_config import hypers, initial_state, make_step, make_task
from sample import expensive
from training import config as tiny

from addnorm_exp.nn.functional import Functional
from addnorm_exp.nn.stack import Block
from addnorm_exp.residual import Context, Depths, catalogue, plan, sites, tap

CONTEXT = Context(batch=B, diagnostics=True)
SCHEMES = {
    name: catalogue.get(name)
    for name in ("pre_ln", "post_ln", "deepnorm", "rezero", "residual_dual", "hyper", "altup", "attn_res")
}
LESSER = (
    "post_ln",
    "deepnorm",
    "rezero",
    "hyper",
    "altup",
    "pre_ln",
)  # their like is among the others: `full` takes them
OF_ONE_STREAM = ("pre_ln", "post_ln", "deepnorm", "rezero")


def loss_of(model, numbers=None, dtype=jnp.float32, context=CONTEXT):
    numbers = tokens() if numbers is None else numbers

    def loss(parameters, probes):
        logits, stats = model.bind(parameters)(numbers, context, probes, dtype)
        return jnp.mean(jnp.square(jnp.sin(logits))), stats

    return loss


def by_autodiff(monkeypatch, model, *lanes, dtype=jnp.float32):
    """Squared norm of the gradient of the stream at every site, float64 (lanes, sites), of each of these parameters."""
    numbers = tokens()
    with monkeypatch.context() as patched:
        patched.setattr(plan, "tap", lambda x, probe: x + probe.astype(x.dtype))
        zeros = jnp.zeros((len(model.module.labels), numbers.size, architecture().width), dtype)
        gradient = jax.jit(jax.grad(loss_of(model, numbers, dtype), argnums=1, has_aux=True))
        return [np.sum(np.asarray(gradient(lane, zeros)[0], np.float64) ** 2, axis=(1, 2)) for lane in lanes]


@pytest.mark.core
def test_one_tap():
    """The identity forward and backward, and the square of the cotangent for the probe's gradient."""
    x, weight = (jnp.asarray(np.random.default_rng(n).normal(size=(4, 5)), jnp.float32) for n in (0, 1))
    y, pull = jax.vjp(tap, x, jnp.float32(7.0))
    np.testing.assert_array_equal(y, x)
    grad, probe = pull(weight)
    np.testing.assert_array_equal(grad, weight)
    assert probe == pytest.approx(float(np.sum(np.asarray(weight, np.float64) ** 2)), rel=1e-6)


@pytest.mark.core
@pytest.mark.parametrize(
    "name", [name if name not in LESSER else pytest.param(name, marks=pytest.mark.full) for name in SCHEMES]
)
def test_equals_autodiff(name, monkeypatch):
    """Of several streams, or of a history, what a site reads is tapped, before its norm."""
    model = decoder(SCHEMES[name], architecture(depth=2))
    parameters = random_parameters(model.specs)
    gradient = jax.jit(jax.grad(loss_of(model), argnums=1, has_aux=True))
    taps, _ = gradient(parameters, jnp.ones(len(model.module.labels)))
    (expected,) = by_autodiff(monkeypatch, model, parameters)
    assert np.all(expected > 0)
    np.testing.assert_allclose(taps, expected, rtol=1e-4)
    # That the tap stands where it says: of one stream the first is x0; in AltUp's block, what the block reads is what attention reads.
    if name == "altup":
        np.testing.assert_allclose(taps[0::3], taps[1::3], rtol=1e-6)
    elif name in OF_ONE_STREAM:
        bound = model.bind(parameters)
        x0 = bound.embedding(tokens(), CONTEXT, jnp.float32)

        def rest(x):
            return jnp.mean(jnp.square(jnp.sin(bound.decoder(x, Context(batch=B))[0] @ bound.head.kernel[...])))

        assert float(taps[0]) == pytest.approx(float(jnp.sum(jnp.square(jax.jit(jax.grad(rest))(x0)))), rel=1e-4)


@pytest.mark.core
@pytest.mark.parametrize("name", expensive(default=("altup",), names=("altup", "pre_ln", "deepnorm")))
def test_under_scan_vmap_and_remat(name, monkeypatch):
    """All three at once, in the two orders that training meets: lanes of scanned layers, and a rematerialised loss."""
    model, scanned = (decoder(SCHEMES[name], architecture(depth=2, scan_layers=scan)) for scan in ("off", "on"))
    lanes = [random_parameters(model.specs, seed) for seed in (0, 1)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *lanes)
    probes = jnp.zeros(len(model.module.labels))
    remat = jax.checkpoint(lambda parameters, probes: loss_of(scanned)(parameters, probes)[0])
    taps = jax.jit(jax.vmap(jax.grad(remat, argnums=1), in_axes=(0, None)))(stacked, probes)
    np.testing.assert_allclose(taps, by_autodiff(monkeypatch, model, *lanes), rtol=1e-4)


@pytest.mark.core
def test_rematerialised_block():
    """`jax.checkpoint` around each block, as a user would put it to save memory."""
    places = sites("decoder", Depths(decoder=2))
    blocks = [
        Functional(lambda rngs, site=site: Block(SCHEMES["post_ln"], site, architecture(), causal=True, rngs=rngs))
        for site in places
    ]
    parameters = [random_parameters(block.specs, seed) for seed, block in enumerate(blocks)]
    x = jnp.asarray(np.random.default_rng(0).normal(size=(16, architecture().width)), jnp.float32)

    def loss(probes, wrap):
        state = x
        for block, values, probe in zip(blocks, parameters, probes, strict=True):
            state = wrap(lambda state, probe, b=block, v=values: b.bind(v)(state, {}, CONTEXT, probe)[0])(state, probe)
        return jnp.sum(jnp.sin(state) ** 2)

    gradient = jax.jit(jax.grad(loss), static_argnums=1)
    plain, remat = (gradient(jnp.zeros((2, 2)), wrap) for wrap in (lambda f: f, jax.checkpoint))
    assert np.all(np.asarray(plain) > 0)
    np.testing.assert_allclose(remat, plain, rtol=1e-5)


def test_bfloat16(monkeypatch):
    """The cotangent has 8 bits, the sum of its squares float32's."""
    model = decoder(SCHEMES["pre_ln"], architecture(depth=2))
    parameters = random_parameters(model.specs)
    gradient = jax.jit(jax.grad(loss_of(model, dtype=jnp.bfloat16), argnums=1, has_aux=True))
    taps, stats = gradient(parameters, jnp.zeros(4))
    assert taps.dtype == jnp.float32
    assert all(value.dtype == jnp.float32 for value in stats.values())
    np.testing.assert_allclose(taps, by_autodiff(monkeypatch, model, parameters, dtype=jnp.bfloat16)[0], rtol=0.02)
    cotangent = jnp.full((1000, 7), 0.1, jnp.bfloat16)
    _, pull = jax.vjp(tap, jnp.zeros((1000, 7), jnp.bfloat16), jnp.float32(0.0))
    assert pull(cotangent)[1] == pytest.approx(7000 * float(jnp.bfloat16(0.1)) ** 2, rel=1e-6)


@pytest.mark.core
def test_diagnostics_change_nothing_else():
    """Loss and gradients of the parameters are the same numbers with taps and without."""
    model = decoder(SCHEMES["pre_ln"], architecture(depth=1))
    parameters, probes = random_parameters(model.specs), jnp.zeros(2)
    with_taps = jax.value_and_grad(loss_of(model), has_aux=True)(parameters, probes)
    without = jax.value_and_grad(loss_of(model, context=Context(batch=B)), has_aux=True)(parameters, probes)
    assert with_taps[0][0] == without[0][0]
    for path in parameters:
        np.testing.assert_array_equal(with_taps[1][path], without[1][path], err_msg=path)


@pytest.mark.core
@pytest.mark.parametrize(
    ("name", "padded"), [("pre_ln", False), ("sandwich_ln", True), ("rezero", False), ("hybrid_norm", False)]
)
def test_statistics_are_those_of_the_stream_and_of_what_is_added(name, padded, monkeypatch):
    """`branch_ratio`: what a site adds, its norm and coefficient included, over the stream that it reads. The skip is the stream itself,
    so what is added is the difference of two streams in a row; but HybridNorm's feed-forward normalises the stream for its skip too, and
    the stream is told as it was before. Valid tokens alone count."""
    model, seen = classifier(catalogue.get(name)), []
    mask = np.arange(T)[None] < np.array([[T], [5]]) if padded else np.ones((B, T), bool)
    monkeypatch.setattr(plan, "tap", lambda x, probe: seen.append(np.asarray(x, np.float64)[mask.reshape(-1)]) or x)
    context = replace(CONTEXT, mask=jnp.asarray(mask)) if padded else CONTEXT
    _, stats = model.bind(random_parameters(model.specs))(tokens(), context, jnp.zeros(2 * DEPTH))
    assert len(seen) == 2 * DEPTH
    root = [np.sqrt(np.mean(x**2)) for x in seen]
    np.testing.assert_allclose(stats["stream_rms"], root, rtol=1e-5)
    if name == "hybrid_norm":
        return
    added = [np.sqrt(np.mean((after - before) ** 2)) for before, after in itertools.pairwise(seen)]
    ratio = [one / stream for one, stream in zip(added, root, strict=False)]
    np.testing.assert_allclose(stats["branch_ratio"][:-1], ratio, rtol=1e-4)


def test_rezero_adds_nothing_at_init():
    model = classifier(catalogue.get("rezero"))
    _, stats = model.bind(model.init(0))(tokens(), CONTEXT, jnp.zeros(2 * DEPTH))
    np.testing.assert_array_equal(stats["branch_ratio"], np.zeros(2 * DEPTH))


@pytest.mark.core
def test_accumulation_adds_the_squares():
    """In A micro-batches: the sum of their squares over A², which is the square of the whole batch's. Through the real step."""
    results, data = {}, jnp.asarray(np.random.default_rng(0).integers(97, 123, size=4_000), jnp.uint8)
    for parts in (1, 4):
        config = tiny(optim__accumulate=parts, execution__diagnostics=True)
        task = make_task(config)
        state = initial_state(task, hypers(config))
        _, results[parts] = jax.jit(make_step(config, task, lambda batch: batch))(state, hypers(config), data)
    assert results[1]["grad_stream"].shape == (2,)
    for name in ("grad_stream", "grad_weight", "loss"):
        assert distance(results[4][name], results[1][name]) < 1e-4
