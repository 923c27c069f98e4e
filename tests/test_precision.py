"""What is float32 where the model computes in bfloat16: the attention's logits and softmax, the head, the loss, the diagnostics."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bridge import DEPTH, HEADS, VOCAB, B, decoder, random_parameters, tokens
from jaxprs import equations
from of_config import make_task
from reference import transformer
from training import config as tiny

from addnorm_exp.residual import Context, catalogue, plan

PRE = catalogue.get("pre_ln")
LENGTH = 7  # no width of the model, so that shapes tell what is what


@pytest.fixture(scope="module")
def forward():
    """(primitive, types of the arguments, shape and type of the result) of each operation of the bfloat16 decoder."""
    model = decoder(PRE)
    parameters = random_parameters(model.specs)
    run = lambda p: model.bind(p)(tokens()[:, :LENGTH], Context(batch=B), dtype=jnp.bfloat16)[0]  # noqa: E731
    found = []
    for equation in equations(jax.make_jaxpr(run)(parameters).jaxpr):
        (result, *_) = (variable.aval for variable in equation.outvars)
        types = {str(variable.aval.dtype) for variable in equation.invars}
        found.append((equation.primitive.name, types, result.shape, str(result.dtype)))
    return found


@pytest.mark.core
def test_logits_of_attention_and_their_softmax_are_float32(forward):
    """The product of bfloat16 queries and keys is left as it was summed, and nothing between it and the weights is rounded."""
    square = (B, HEADS, LENGTH, LENGTH)
    there = [(name, types, dtype) for name, types, shape, dtype in forward if shape == square]
    products = [(types, dtype) for name, types, dtype in there if name == "dot_general"]
    assert products == [({"bfloat16"}, "float32")] * DEPTH
    sums = [types for name, types, shape, _ in forward if name == "reduce_sum" and shape == square[:-1]]
    assert sums == [types for name, types, _ in there if name == "exp"] == [{"float32"}] * DEPTH
    roundings = [name for name, types, dtype in there if dtype == "bfloat16" and "float32" in types]
    assert len(roundings) == DEPTH, "of the weights, for the product with the values"


@pytest.mark.core
def test_logits_of_the_head_are_float32(forward):
    """The product of bfloat16 stream and kernel is left as it was summed."""
    there = [(name, types, dtype) for name, types, shape, dtype in forward if shape == (B * LENGTH, VOCAB)]
    assert [(types, dtype) for name, types, dtype in there if name == "dot_general"] == [({"bfloat16"}, "float32")]
    assert {dtype for _, _, dtype in there} == {"float32"}


@pytest.mark.core
def test_the_loss_is_that_of_the_float32_logits():
    """Against float64 on the very logits that the model gives, large ones: rounded to 8 bits before they have another loss."""
    task = make_task(tiny(model__compute_dtype="bfloat16"))
    parameters = {name: 3.0 * value for name, value in random_parameters(task.model.specs).items()}
    inputs, targets = jnp.asarray(np.random.default_rng(0).integers(256, size=(2, 3, 16)))
    context = Context(batch=3)

    @jax.jit  # one program, so that the logits are those of the loss
    def computed(parameters):
        logits, _ = task.model.bind(parameters)(inputs, context, None, jnp.bfloat16)
        share = task.loss(parameters, jnp.zeros(4), (inputs, targets), float(targets.size), {}, context)
        return logits, share.value

    logits, loss = computed(parameters)
    exact = transformer.cross_entropy(logits, targets.reshape(-1))
    rounded = transformer.cross_entropy(logits.astype(jnp.bfloat16), targets.reshape(-1))
    assert abs(rounded / exact - 1) > 2e-5
    assert loss.dtype == jnp.float32
    assert float(loss) == pytest.approx(exact, rel=2e-6)


@pytest.mark.core
def test_diagnostics_are_taken_in_float32(monkeypatch):
    """Against float64 on the very streams and branches, bfloat16, that are told of."""
    streams, branches = [], []
    monkeypatch.setattr(plan, "tap", lambda x, probe: streams.append(x) or x)
    monkeypatch.setattr(plan, "drop_path", lambda x, context: branches.append(x) or x)
    model = decoder(PRE)
    context = replace(Context(batch=B), diagnostics=True, variances=True)
    _, stats = model.bind(random_parameters(model.specs))(tokens(), context, jnp.zeros(2 * DEPTH), jnp.bfloat16)
    assert {str(x.dtype) for x in streams + branches} == {"bfloat16"}
    stream, branch = (np.asarray(parts, np.float64).reshape(2 * DEPTH, -1) for parts in (streams, branches))
    root = np.sqrt(np.mean(stream**2, axis=1))
    np.testing.assert_allclose(stats["stream_rms"], root, rtol=1e-5)
    np.testing.assert_allclose(stats["branch_ratio"], np.sqrt(np.mean(branch**2, axis=1)) / root, rtol=1e-5)
    np.testing.assert_allclose(stats["stream_variance"], stream.var(axis=1), rtol=1e-5)
    np.testing.assert_allclose(stats["branch_variance"], branch.var(axis=1), rtol=1e-5)
