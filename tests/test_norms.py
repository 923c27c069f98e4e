"""Every normaliser on every axis against float64: values, gradients, large means, bfloat16."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bridge import distance
from flax import nnx
from reference import norms as reference

from addnorm_exp.residual import SchemeError, catalogue, norms
from addnorm_exp.residual.norms import Norm, NormSpec

D = 16
REFERENCE = {"layer": reference.layer_norm, "rms": reference.rms_norm}
ELEMENTWISE = {"dyt": reference.dyt, "derf": reference.derf}
AXES = list(
    itertools.product(("layer", "rms"), ("full", "gain", "none"), ("plain", "unit_offset"), ("inside", "outside"))
) + [(kind, affine, "plain", "inside") for kind in ELEMENTWISE for affine in ("full", "gain", "none")]


def inputs(width: int = D, mean: float = 0.0, spread: float = 1.0) -> np.ndarray:
    """float32 (3, width); the reference sees the same rounded numbers."""
    return (mean + spread * np.random.default_rng(0).normal(size=(3, width))).astype(np.float32)


def perturbed(spec: NormSpec, width: int = D) -> tuple[Norm, dict[str, np.ndarray]]:
    """A norm with random gain and bias, and these as the reference's parameters."""
    norm, g = Norm(spec, width, rngs=nnx.Rngs(0)), np.random.default_rng(1)
    values = {}
    for name in ("gain", "bias"):
        if hasattr(norm, name):
            parameter = getattr(norm, name)
            parameter[...] += jnp.asarray(0.5 * g.normal(size=width), jnp.float32)
            values[name] = np.asarray(parameter[...], np.float64)
    for name, value in (("alpha", 0.7), ("shift", -0.3)):
        if hasattr(norm, name):
            getattr(norm, name)[...] = jnp.float32(value)
            values[name] = np.float64(np.float32(value))
    return norm, values


def expected(spec: NormSpec, x: np.ndarray, values) -> np.ndarray:
    if spec.kind in ELEMENTWISE:
        return ELEMENTWISE[spec.kind](x, values)
    unit_offset = spec.gain == "unit_offset"
    return REFERENCE[spec.kind](x, values, eps=spec.eps, place=spec.eps_place, unit_offset=unit_offset)


@pytest.mark.core
@pytest.mark.parametrize(("kind", "affine", "gain", "place"), AXES)
def test_values(kind, affine, gain, place):
    for eps in (1e-6, 0.3):
        spec = NormSpec(kind, eps=eps, eps_place=place, affine=affine, gain=gain)
        norm, values = perturbed(spec)
        scalars = {"dyt": {"alpha"}, "derf": {"alpha", "shift"}}.get(kind, set())
        assert set(values) - scalars == {"full": {"gain", "bias"}, "gain": {"gain"}, "none": set()}[affine]
        assert scalars <= set(values)
        x = inputs(mean=0.7)
        assert distance(norm(jnp.asarray(x)), expected(spec, x, values)) < 1e-6


@pytest.mark.parametrize(("kind", "affine", "gain", "place"), AXES)
def test_gradients(kind, affine, gain, place):
    """Against central differences of the reference, which float64 gives to about 1e-9."""
    spec = NormSpec(kind, eps=0.1, eps_place=place, affine=affine, gain=gain)
    norm, values = perturbed(spec)
    x, seed = inputs(mean=0.7), np.random.default_rng(2).normal(size=(3, D))

    def loss(state, x):
        return jnp.sum(nnx.merge(graph, state)(x) * seed.astype(np.float32))

    graph, state = nnx.split(norm)
    grads, grad_x = jax.grad(loss, argnums=(0, 1))(state, jnp.asarray(x))
    inside = {"x": x.astype(np.float64), **values}
    ours = {"x": grad_x, **{name: grads[name][...] for name in values}}

    def reference_loss(point):
        return np.sum(expected(spec, point["x"], {name: point[name] for name in values}) * seed)

    for name, value in inside.items():
        numeric, h = np.zeros(value.shape), 1e-5
        for index in np.ndindex(value.shape):
            step = np.zeros(value.shape)
            step[index] = h
            above, below = ({**inside, name: value + sign * step} for sign in (1, -1))
            numeric[index] = (reference_loss(above) - reference_loss(below)) / (2 * h)
        assert distance(ours[name], numeric) < 2e-6, name


@pytest.mark.core
@pytest.mark.parametrize("mean", [1e3, -1e4, 1e5])
@pytest.mark.parametrize("kind", ["layer", "rms"])
def test_large_mean(kind, mean):
    """A one-pass variance has lost all its digits here, and a plain two-pass mean its fourth."""
    spec = norms.PUBLISHED[kind]
    norm, values = perturbed(spec)
    x = inputs(mean=mean)
    ours, theirs = norm(jnp.asarray(x)), expected(spec, x, values)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6 * np.abs(theirs).max())
    if kind == "layer":
        # LayerNorm does not see the mean, so neither may its gradient.
        seed = jnp.asarray(np.random.default_rng(3).normal(size=x.shape), jnp.float32)
        centred = x.astype(np.float64) - x.astype(np.float64).mean(-1, keepdims=True)
        grad = jax.grad(lambda x: jnp.sum(norm(x) * seed))
        assert distance(grad(jnp.asarray(x)), grad(jnp.asarray(centred, jnp.float32))) < 1e-4


@pytest.mark.parametrize("kind", ["layer", "rms"])
def test_constant_input_is_finite(kind):
    """Zero variance: ε alone stands under the root, in value and gradient."""
    norm, _ = perturbed(norms.PUBLISHED[kind])
    for value in (0.0, 0.1, 1e4 + 1 / 3):
        x = jnp.full((3, D), value)
        y, grad = norm(x), jax.grad(lambda x: jnp.sum(norm(x) ** 2))(x)
        assert np.isfinite(y).all()
        assert np.isfinite(grad).all()
        if kind == "layer":
            assert distance(y, np.broadcast_to(np.asarray(norm.bias[...], np.float64), (3, D))) < 1e-5


def test_l2_and_none():
    x = jnp.asarray(inputs())
    assert distance(norms.apply(norms.make(norms.L2, D, nnx.Rngs(0)), x), reference.l2_norm(x)) < 1e-6
    for spec in (None, norms.NONE, NormSpec("none", affine="full")):
        assert norms.make(spec, D, nnx.Rngs(0)) is None
    assert norms.apply(None, x) is x


@pytest.mark.core
@pytest.mark.parametrize("kind", ["layer", "rms", "l2", "dyt", "derf"])
def test_bfloat16_has_float32_statistics(kind):
    """From bfloat16 numbers, the float32 result rounded once: half a unit in the last of 8 bits."""
    x = jnp.asarray(inputs(mean=30.0), jnp.bfloat16)
    norm, values = perturbed(norms.PUBLISHED[kind])
    y = norm(x)
    assert y.dtype == jnp.bfloat16
    exact = np.asarray(x, np.float64)
    theirs = reference.l2_norm(exact) if kind == "l2" else expected(norms.PUBLISHED[kind], exact, values)
    np.testing.assert_allclose(np.asarray(y, np.float64), theirs, rtol=2**-8, atol=1e-5)
    assert np.isfinite(np.asarray(norm(x * 2.0**50), np.float32)).all()


def test_override_brings_the_published_axes_of_another_kind():
    assert norms.LAYER.override(kind="rms") == norms.RMS
    assert norms.RMS.override(kind="layer", eps=1e-3) == NormSpec("layer", eps=1e-3, affine="full")
    assert norms.RMS.override(kind="rms", affine="full") == NormSpec("rms", eps=1e-6, affine="full")
    swin = NormSpec("layer", gain_init=0.0)
    assert swin.override(kind="rms").gain_init == 0.0
    assert norms.LAYER.override(gain="unit_offset", eps_place="outside") == NormSpec(
        gain="unit_offset", eps_place="outside"
    )


@pytest.mark.parametrize("gain_init", [0.0, 1.0])
def test_gain_starts_where_it_says(gain_init):
    x = jnp.asarray(inputs())
    plain, offset = (
        Norm(NormSpec("rms", affine="gain", gain=gain, gain_init=gain_init), D, rngs=nnx.Rngs(0))
        for gain in ("plain", "unit_offset")
    )
    np.testing.assert_allclose(plain(x), offset(x), rtol=1e-6)
    np.testing.assert_array_equal(plain.gain[...], gain_init)
    np.testing.assert_array_equal(offset.gain[...], gain_init - 1.0)


@pytest.mark.parametrize("kind", ["layer", "rms"])
def test_a_row_without_spread_has_gradient_zero(kind):
    """Outside of the root, ε does not keep it from 0, where it has no derivative."""
    norm = Norm(NormSpec(kind, eps=1e-8, eps_place="outside", affine="none"), 8, rngs=nnx.Rngs(0))
    gradient = jax.grad(lambda x: norm(x).sum())(jnp.zeros((2, 8)))
    assert np.all(np.isfinite(gradient))


def test_axes_that_mean_nothing_are_refused():
    for kind, axes in (("dyt", {"eps": 1e-5}), ("derf", {"eps_place": "outside"}), ("rms", {"alpha": 0.3})):
        with pytest.raises(SchemeError, match=f"norm.kind is '{kind}', so norm.{min(axes)} has no meaning"):
            catalogue.get("pre_ln").with_norm(kind=kind, **axes)
    assert catalogue.get("pre_ln").with_norm(kind="derf", alpha=0.3).norm == NormSpec("derf", eps=0.0, alpha=0.3)
    assert catalogue.get("dyt").with_norm(kind="dyt").norm.alpha == 1.0
