"""The decoder and the classifier: causality, dropout, padding, dtypes, attention implementations and their statistics."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from bridge import (
    DEPTH,
    VOCAB,
    B,
    D,
    T,
    architecture,
    classifier,
    decoder,
    distance,
    random_parameters,
    reference_attention,
    tokens,
)
from flax import nnx
from jaxprs import equations, scans
from sample import FEW, depth_of, expensive

from addnorm_exp.nn.attention import Attention
from addnorm_exp.nn.feed_forward import FeedForward
from addnorm_exp.nn.layers import matmul
from addnorm_exp.nn.stack import UNROLL_BELOW
from addnorm_exp.residual import Context, catalogue, plan

IMPLEMENTATIONS = ("einsum", "xla")
DROPOUT = Context(key=jax.random.key(1), dropout=0.3, batch=B, train=True)


@pytest.mark.core
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("rotary", [False, True])
def test_causality_of_tokens(implementation, rotary):
    """A later token changes no earlier logit, by a bit."""
    model = decoder(catalogue.get("pre_ln"), architecture(attention=implementation, rotary=rotary))
    bound, before = model.bind(random_parameters(model.specs)), tokens()
    after = before.at[:, 5].set((before[:, 5] + 1) % VOCAB)
    one, two = (np.asarray(bound(x, Context(batch=B))[0]).reshape(B, T, VOCAB) for x in (before, after))
    np.testing.assert_array_equal(one[:, :5], two[:, :5])
    assert np.all(np.abs(one[:, 5:] - two[:, 5:]).max(-1) > 1e-4)


# --- dropout ---


def sublayer_outputs(monkeypatch, name):
    """(masks, in order; whether each was put on the very array that a sublayer returned; logits)."""
    masks, left, inputs = [], [], []
    bernoulli, dropout = jax.random.bernoulli, plan.dropout

    def recorded(kind):
        call = kind.__call__

        def wrapped(self, *arguments):
            out = call(self, *arguments)
            left.append(out[0])
            return out

        return wrapped

    with monkeypatch.context() as patched:
        patched.setattr(jax.random, "bernoulli", lambda *a: masks.append(bernoulli(*a)) or masks[-1])
        patched.setattr(plan, "dropout", lambda x, context: inputs.append(x) or dropout(x, context))
        for kind in (Attention, FeedForward):
            patched.setattr(kind, "__call__", recorded(kind))
        model = decoder(catalogue.get(name))
        logits, _ = model.bind(random_parameters(model.specs))(tokens(), DROPOUT)
    return [np.asarray(mask) for mask in masks], [a is b for a, b in zip(inputs, left, strict=True)], logits


@pytest.fixture(scope="module")
def masks_of_pre_ln():
    with pytest.MonkeyPatch.context() as monkeypatch:
        return sublayer_outputs(monkeypatch, "pre_ln")[0]


@pytest.mark.parametrize("name", expensive(core=FEW))
def test_dropout_is_the_same_under_every_scheme(name, masks_of_pre_ln, monkeypatch):
    """One mask for the embedding and one a sublayer, on what the sublayer returns, before any norm or coefficient; and the same key
    gives the same masks whatever the scheme."""
    masks, places, _ = sublayer_outputs(monkeypatch, name)
    assert places == [True] * (2 * DEPTH)
    assert [mask.shape for mask in masks] == [(B * T, D)] * (1 + 2 * DEPTH)
    np.testing.assert_array_equal(masks, masks_of_pre_ln)
    for one in range(len(masks)):
        assert masks[one].mean() == pytest.approx(0.7, abs=0.1)
        for two in range(one):
            assert np.any(masks[one] != masks[two])


@pytest.mark.parametrize("name", expensive(core=FEW))
def test_dropout_draws_in_the_compiled_program(name):
    """As many draws in the jaxpr as sites and one, and none in evaluation."""
    model = decoder(catalogue.get(name))
    parameters = random_parameters(model.specs)

    def count(context):
        jaxpr = jax.make_jaxpr(lambda p: model.bind(p)(tokens(), context)[0])(parameters)
        return sum(equation.primitive.name == "random_bits" for equation in equations(jaxpr.jaxpr))

    assert count(DROPOUT) == 1 + 2 * DEPTH
    assert count(dataclasses.replace(DROPOUT, train=False)) == 0


def test_dropout_is_off_in_evaluation_and_at_rate_0():
    model = decoder(catalogue.get("pre_ln"))
    bound = model.bind(random_parameters(model.specs))
    plain = bound(tokens(), Context(batch=B))[0]
    for changes in ({"train": False}, {"dropout": 0.0}):
        np.testing.assert_array_equal(bound(tokens(), dataclasses.replace(DROPOUT, **changes))[0], plain)
    assert distance(bound(tokens(), DROPOUT)[0], plain) > 0.01
    other = dataclasses.replace(DROPOUT, key=jax.random.key(2))
    assert distance(bound(tokens(), other)[0], bound(tokens(), DROPOUT)[0]) > 0.01


FIRST_APART = dataclasses.replace(
    catalogue.get("pre_ln"),
    block=lambda site, norm: catalogue.get("pre_ln" if site.block else "post_ln").block(site, norm),
)


@pytest.mark.core
@pytest.mark.parametrize(
    ("scheme", "scan", "depth", "lengths"),
    [
        (catalogue.get("pre_ln"), "on", 3, [3]),
        (FIRST_APART, "on", 4, [3]),  # the first block stands by itself
        (catalogue.get("deepnorm"), "on", 3, [3]),
        (catalogue.get("hyper"), "on", 3, [3]),  # which stream a block reads at first
        (catalogue.get("lns"), "on", 4, [3]),  # a constant of its own in each block but the first, whose 1 is none
        (catalogue.get("pre_ln"), "off", UNROLL_BELOW, []),
        (catalogue.get("pre_ln"), "auto", UNROLL_BELOW - 1, []),
        (catalogue.get("pre_ln"), "auto", UNROLL_BELOW, [UNROLL_BELOW]),
    ],
    ids=["on", "on-but-the-first", "constant", "vector", "constants", "off", "auto-shallow", "auto-deep"],
)
def test_layers_are_scanned_where_that_is_said(scheme, scan, depth, lengths):
    """Equal numbers do not tell (they shall be equal): the program does, and a deep one compiles for minutes without."""
    model = decoder(scheme, architecture(scan_layers=scan, depth=depth))
    parameters = {path: jax.ShapeDtypeStruct(spec.shape, jnp.float32) for path, spec in model.specs.items()}
    jaxpr = jax.make_jaxpr(lambda p: model.bind(p)(tokens(), Context(batch=B))[0])(parameters)
    assert scans(jaxpr.jaxpr) == lengths


@pytest.mark.core
def test_constants_are_no_parameters():
    """Each binding has its own: transformations of flax work inside of a program, and no gradient reaches DeepNorm's α."""
    model = decoder(catalogue.get("deepnorm"), architecture(depth=1))
    values = model.init(0)
    assert not any(path.endswith("connection/skip") for path in values)

    def loss(bound, everything):
        return jnp.sum(nnx.merge(nnx.graphdef(bound), everything)(tokens(), Context(batch=B))[0] ** 2)

    @jax.jit
    def gradients(values):
        bound = model.bind(values)
        of_flax = nnx.grad(lambda bound: jnp.sum(bound(tokens(), Context(batch=B))[0] ** 2))(bound)
        return nnx.to_pure_dict(of_flax), jax.grad(loss, 1)(bound, nnx.state(bound))

    of_flax, of_all = gradients(values)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(of_flax))
    constants = [leaf for path, leaf in nnx.to_flat_state(of_all) if path[-1] == "skip"]
    assert len(constants) == 2
    assert all(np.all(leaf[...] == 0) for leaf in constants)


# --- the classifier ---


@pytest.mark.core
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("name", ["post_ln", pytest.param("no_norm", marks=pytest.mark.full)])
def test_padded_tokens_do_not_matter(name, implementation):
    model = classifier(catalogue.get(name), architecture(attention=implementation))
    bound = model.bind(random_parameters(model.specs))
    mask = jnp.arange(T)[None] < jnp.array([T, 5])[:, None]
    context = Context(batch=B, mask=mask)
    before = tokens()
    plain, _ = bound(before, context)
    np.testing.assert_array_equal(bound(jnp.where(mask, before, (before + 3) % VOCAB), context)[0], plain)
    assert distance(bound(before.at[1, 4].add(1) % VOCAB, context)[0], plain) > 1e-4
    # A padded sequence is the shorter sequence.
    short, _ = bound(before[1:, :5], Context(batch=1))
    np.testing.assert_allclose(plain[1:], short, rtol=1e-4, atol=1e-5)
    everywhere, _ = bound(before, Context(batch=B, mask=jnp.ones((B, T), bool)))
    np.testing.assert_allclose(everywhere, bound(before, Context(batch=B))[0], rtol=1e-5, atol=1e-6)


def test_an_empty_sequence_pools_to_zero():
    model = classifier(catalogue.get("post_ln"))
    parameters = random_parameters(model.specs)
    mask = jnp.stack([jnp.ones(T, bool), jnp.zeros(T, bool)])
    logits, _ = model.bind(parameters)(tokens(), Context(batch=B, mask=mask))
    np.testing.assert_allclose(logits[1], parameters["head/bias"], rtol=1e-6)
    assert np.isfinite(logits).all()


@pytest.mark.core
def test_the_textbook_classifier_overfits_a_small_batch():
    """Post-LN encoder with padding masks, mean pooling and a softmax head, from its own initial values by plain Adam."""
    model = classifier(catalogue.get("post_ln"), architecture(depth=1))
    g = np.random.default_rng(0)
    words, labels = tokens(3, batch=12), jnp.asarray(g.integers(3, size=12))
    mask = jnp.asarray(np.arange(T)[None] < g.integers(3, T + 1, size=12)[:, None])
    adam = optax.adam(3e-3)

    def loss(parameters):
        logits, _ = model.bind(parameters)(words, Context(batch=12, mask=mask))
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def step(carry, _):
        value, grads = jax.value_and_grad(loss)(carry[0])
        with jax.numpy_dtype_promotion("standard"):  # optax relies on it
            updates, moments = adam.update(grads, carry[1])
        return (optax.apply_updates(carry[0], updates), moments), value

    parameters = model.init(0)
    (parameters, _), losses = jax.jit(lambda p: jax.lax.scan(step, (p, adam.init(p)), length=120))(parameters)
    assert losses[0] > 0.5
    assert losses[-1] < 0.02
    logits, _ = model.bind(parameters)(words, Context(batch=12, mask=mask))
    np.testing.assert_array_equal(np.argmax(logits, -1), labels)


# --- numbers ---


@pytest.mark.parametrize("name", expensive(core=("deepnorm",), default=("hyper_static",)))
def test_bfloat16(name):
    """Near the float32 result, float32 logits, finite gradients; the parameters stay float32."""
    model = decoder(catalogue.get(name), architecture(depth=depth_of(name, 1)))
    parameters = random_parameters(model.specs)
    exact, _ = model.bind(parameters)(tokens(), Context(batch=B))

    def logits(parameters):
        y, _ = model.bind(parameters)(tokens(), Context(batch=B), dtype=jnp.bfloat16)
        return jnp.mean(y**2), y

    grads, rounded = jax.jit(jax.grad(logits, has_aux=True))(parameters)
    assert rounded.dtype == jnp.float32
    assert 1e-4 < distance(rounded, exact) < 0.1
    for path, grad in grads.items():
        assert grad.dtype == jnp.float32
        assert np.isfinite(grad).all(), path


@pytest.mark.core
@pytest.mark.parametrize("rotary", [False, True])
@pytest.mark.parametrize("model_of", [decoder, classifier])
def test_attention_implementations_agree(model_of, rotary):
    models = {
        name: model_of(catalogue.get("pre_ln"), architecture(attention=name, rotary=rotary))
        for name in ("einsum", "xla")
    }
    parameters = random_parameters(models["xla"].specs)
    mask = None if model_of is decoder else jnp.arange(T)[None] < jnp.array([T, 5])[:, None]
    context = Context(batch=B, mask=mask)
    one, two = (model.bind(parameters)(tokens(), context)[0] for model in models.values())
    assert distance(two, one) < 1e-5


@pytest.mark.core
@pytest.mark.parametrize("implementation", ["einsum", "xla"])
@pytest.mark.parametrize("padded", [False, True])
def test_attention_statistics(padded, implementation):
    """Largest logit and mean entropy of each attention sublayer against the reference's weights, with masks."""
    arch = architecture(attention=implementation)
    model = (classifier if padded else decoder)(catalogue.get("pre_ln"), arch)
    parameters = random_parameters(model.specs)
    mask = np.arange(T)[None] < np.array([T, 5])[:, None] if padded else None
    context = Context(batch=B, mask=None if mask is None else jnp.asarray(mask), attention_statistics=True)
    _, stats = model.bind(parameters)(tokens(), context)
    stack = "encoder" if padded else "decoder"
    largest, entropies = reference_attention(parameters, tokens(), arch, stack, mask)
    np.testing.assert_allclose(stats["logit_max"], largest, rtol=1e-5)
    np.testing.assert_allclose(stats["entropy"], entropies, rtol=1e-5)


def test_statistics_do_not_come_unasked():
    model = decoder(catalogue.get("pre_ln"))
    assert model.bind(random_parameters(model.specs))(tokens(), Context(batch=B))[1] == {}


@pytest.mark.core
def test_the_gradient_of_a_tied_embedding_is_that_of_both_its_uses():
    """At the input and at the head, taken apart in the untied model whose head is the transposed table."""
    tied, untied = (decoder(catalogue.get("pre_ln"), architecture(depth=1), tied=tied) for tied in (True, False))
    shared = random_parameters(tied.specs)
    apart = shared | {"head/kernel": shared["embedding/tokens"].T}
    assert apart.keys() == untied.specs.keys()

    def gradients(model, parameters):
        return jax.jit(jax.grad(lambda p: jnp.mean(jnp.sin(model.bind(p)(tokens(), Context(batch=B))[0]))))(parameters)

    whole, parts = gradients(tied, shared), gradients(untied, apart)
    uses = parts["embedding/tokens"], parts["head/kernel"].T
    assert min(float(jnp.abs(use).max()) for use in uses) > 1e-3
    assert distance(whole["embedding/tokens"], sum(uses)) < 1e-5


@pytest.mark.parametrize("shape", [(8, 24), (24, 8), (8, 8)])
def test_gradients_of_a_linear_map(shape):
    """W's gradient is formed in two ways, by which side is longer (nn/layers.py); both are xᵀg, and x's is gWᵀ."""
    random = np.random.default_rng(0)
    x, kernel, g = (random.normal(size=size) for size in ((5, shape[0]), shape, (5, shape[1])))
    y, pull = jax.vjp(matmul, jnp.float32(x), jnp.float32(kernel))
    assert distance(y, x @ kernel) < 1e-6
    dx, dkernel = pull(jnp.float32(g))
    assert distance(dx, g @ kernel.T) < 1e-6
    assert distance(dkernel, x.T @ g) < 1e-6
