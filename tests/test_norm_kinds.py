"""The less usual normalisers against float64, value and gradient, and what connects them with the usual ones."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bridge import B, decoder, distance, random_parameters, tokens
from flax import nnx
from of_config import checked
from reference import norms as reference

from addnorm_exp.config import Config, override
from addnorm_exp.errors import UserError
from addnorm_exp.residual import Context, catalogue, norms
from addnorm_exp.residual.norms import PUBLISHED, Norm, NormSpec

D = 32
bind = functools.partial
# Spec, reference, and whether the reference takes the x that stays fixed under the gradient.
CASES = {
    "prms": (replace(norms.PRMS, share=0.25), bind(reference.p_rms_norm, share=0.25), False),
    "prms of one coordinate": (replace(norms.PRMS, share=0.001), bind(reference.p_rms_norm, share=0.001), False),
    "prms inside": (
        NormSpec("prms", eps=0.3, affine="full"),
        bind(reference.p_rms_norm, eps=0.3, place="inside"),
        False,
    ),
    "crms": (replace(norms.CRMS, eps=0.3), bind(reference.crms_norm, eps=0.3), False),
    "crms outside": (
        NormSpec("crms", eps=0.3, eps_place="outside", affine="full"),
        bind(reference.crms_norm, eps=0.3, place="outside"),
        False,
    ),
    "scale": (norms.SCALE, reference.scale_norm, False),
    "scale by channel": (replace(norms.SCALE, affine="full"), reference.scale_norm, False),
    "layer by one scalar": (
        NormSpec("layer", eps=0.3, affine="scalar"),
        bind(reference.layer_norm, eps=0.3),
        False,
    ),
    "layer_no_affine": (PUBLISHED["layer_no_affine"], reference.layer_norm, False),
    "gemma_rms": (PUBLISHED["gemma_rms"], bind(reference.rms_norm, unit_offset=True), False),
    "ada": (replace(norms.ADA, eps=0.3), bind(reference.ada_norm, eps=0.3), True),
    "ada inside, scaled": (
        NormSpec("ada", eps=0.3, affine="full", scale=1.7),
        bind(reference.ada_norm, eps=0.3, place="inside", C=1.7),
        True,
    ),
    **{
        f"detach {parts}": (
            NormSpec("detach", eps=0.3, eps_place="outside", affine="full", detached=parts),
            bind(reference.detach_norm, eps=0.3, parts=parts),
            True,
        )
        for parts in ("both", "mean", "deviation")
    },
}


def inputs() -> np.ndarray:
    return (0.7 + np.random.default_rng(0).normal(size=(3, D))).astype(np.float32)


def perturbed(spec: NormSpec) -> tuple[Norm, dict[str, np.ndarray]]:
    norm, g = Norm(spec, D, rngs=nnx.Rngs(0)), np.random.default_rng(1)
    values = {}
    for name in ("gain", "bias"):
        if hasattr(norm, name):
            parameter = getattr(norm, name)
            parameter[...] += jnp.asarray(0.5 * g.normal(size=parameter.shape), jnp.float32)
            values[name] = np.asarray(parameter[...], np.float64)
    return norm, values


@pytest.mark.core
@pytest.mark.parametrize("case", CASES)
def test_value_and_gradient(case):
    """Gradients against central differences of the reference with its constants held."""
    spec, function, holds = CASES[case]
    norm, values = perturbed(spec)
    x, seed = inputs(), np.random.default_rng(2).normal(size=(3, D))
    graph, state = nnx.split(norm)

    def loss(state, x):
        y = nnx.merge(graph, state)(x)
        return jnp.sum(y * seed.astype(np.float32)), y

    (grads, grad_x), y = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(state, jnp.asarray(x))
    assert distance(y, function(x, values)) < 1e-6
    ours = {"x": grad_x, **{name: grads[name][...] for name in values}}
    point = {"x": x.astype(np.float64), **values}

    def reference_loss(moved):
        fixed = {"frozen": x} if holds else {}
        return np.sum(function(moved["x"], {name: moved[name] for name in values}, **fixed) * seed)

    for name, value in point.items():
        numeric, h = np.zeros(value.shape), 1e-5
        for index in np.ndindex(value.shape):
            step = np.zeros(value.shape)
            step[index] = h
            above, below = ({**point, name: value + sign * step} for sign in (1, -1))
            numeric[index] = (reference_loss(above) - reference_loss(below)) / (2 * h)
        assert distance(ours[name], numeric) < 3e-6, name


@pytest.mark.parametrize("kind", PUBLISHED)
def test_first_values_and_bfloat16(kind):
    """As published: a gain of 1 (ScaleNorm √d; stored as 0 by Gemma), and finite numbers where there is nothing to normalise."""
    if kind == "none":
        return
    norm = Norm(PUBLISHED[kind], D, rngs=nnx.Rngs(0))
    if hasattr(norm, "gain"):
        first = {"scale": D**0.5, "gemma_rms": 0.0}.get(kind, 1.0)
        np.testing.assert_allclose(norm.gain[...], first)
        assert norm.gain.shape == (() if kind == "scale" else (D,))
    x = jnp.asarray(inputs())
    rounded = x.astype(jnp.bfloat16)
    half, single = jax.jit(norm)(rounded), jax.jit(norm)(rounded.astype(jnp.float32))
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(half, np.float32), single, rtol=2**-7)
    if kind != "l2":  # which has no ε
        gradient = jax.jit(jax.value_and_grad(lambda x: jnp.sum(norm(x) ** 2)))
        for row in (jnp.zeros((2, D)), jnp.full((2, D), 3.0)):
            value, slope = gradient(row)
            assert np.isfinite(value)
            assert np.all(np.isfinite(slope))


def test_what_connects_them():
    x = jnp.asarray(inputs())

    def normed(spec):
        return np.asarray(Norm(spec, D, rngs=nnx.Rngs(0))(x), np.float64)

    rms = normed(norms.RMS)
    np.testing.assert_allclose(normed(norms.SCALE), rms, rtol=1e-5)  # a shared gain of √d over ‖x‖ is 1 over the RMS
    np.testing.assert_allclose(normed(replace(norms.SCALE, affine="none")), rms, rtol=1e-5)
    np.testing.assert_allclose(normed(replace(norms.RMS, kind="prms", share=1.0)), rms, rtol=1e-6)
    np.testing.assert_allclose(normed(PUBLISHED["gemma_rms"]), rms, rtol=1e-6)
    np.testing.assert_allclose(normed(norms.DETACH), normed(NormSpec("layer", eps_place="outside")), rtol=1e-6)
    y = normed(NormSpec("layer", eps_place="outside", affine="none"))
    np.testing.assert_allclose(normed(norms.ADA), (1 - y / 10) * y, rtol=1e-5)
    whole = np.asarray(x) - np.asarray(x).mean(-1, keepdims=True)
    compressed = Norm(norms.CRMS, D - 1, rngs=nnx.Rngs(0))(jnp.asarray(whole[:, :-1]))
    np.testing.assert_allclose(compressed, Norm(norms.RMS, D, rngs=nnx.Rngs(0))(jnp.asarray(whole))[:, :-1], rtol=1e-4)


@pytest.mark.core
def test_pre_ln_is_pre_rms_norm_after_the_zero_mean_projection():
    """Jiang 2023: with embeddings and output projections that sum to 0 over the stream's channels, LayerNorm is RMSNorm."""
    layer, rms = catalogue.get("pre_ln"), catalogue.get("pre_rms").with_norm(affine="full", eps=1e-5)
    model, other = decoder(layer), decoder(rms)
    assert set(model.specs) == set(other.specs)
    plain = random_parameters(model.specs)

    def projected(path, value):
        writes = path.startswith("embedding/") or any(f"/{role}/" in path for role in ("out", "down"))
        return value - value.mean(-1, keepdims=True) if writes else value

    centred = {path: projected(path, value) for path, value in plain.items()}
    runs = {
        (kind, which): m.bind(p)(tokens(), Context(batch=B))[0]
        for kind, m in (("layer", model), ("rms", other))
        for which, p in (("plain", plain), ("centred", centred))
    }
    np.testing.assert_allclose(runs["layer", "centred"], runs["rms", "centred"], rtol=1e-4, atol=1e-4)
    # LayerNorm never saw the mean, so the projection changes nothing under it; RMSNorm did.
    np.testing.assert_allclose(runs["layer", "plain"], runs["layer", "centred"], rtol=1e-4, atol=1e-4)
    assert distance(runs["rms", "plain"], runs["rms", "centred"]) > 0.01


def test_every_kind_has_a_function():
    assert {spec.kind for spec in PUBLISHED.values()} == set(norms.FUNCTIONS)


@pytest.mark.parametrize("kind", [kind for kind in PUBLISHED if kind != "none"])
def test_every_kind_is_an_axis_of_a_config(kind):
    assert override(Config(), {"norm.kind": kind}, "test").norm.kind == kind


@pytest.mark.parametrize(
    ("kind", "axis"), [("l2", "affine"), ("scale", "eps_place"), ("dyt", "eps"), ("crms", "alpha")]
)
def test_axes_that_mean_nothing_for_a_kind(kind, axis):
    value = {"affine": "full", "eps_place": "inside", "eps": 0.1, "alpha": 0.1}[axis]
    with pytest.raises(UserError, match=f"norm.{axis}"):
        checked(override(Config(), {"norm.kind": kind, f"norm.{axis}": value}, "test"))
