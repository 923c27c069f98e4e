"""Floating-point operations a token, against the matrix products of the traced forward pass."""

import math

import jax
import jax.numpy as jnp
import pytest
from bridge import VOCAB, B, D, T, architecture, classifier, tokens
from jaxprs import equations
from of_config import make_task, minimum_footprint

from addnorm_exp.config.door import override
from addnorm_exp.config.schema import Config
from addnorm_exp.nn.footprint import Outline, footprint, matrix_entries
from addnorm_exp.residual import Context, catalogue

SMALL = {"model.depth": 3, "model.width": 24, "model.num_heads": 2, "seq_len": 8, "execution.scan_layers": "off"}


def products(jaxpr) -> int:
    """Operations of all matrix products of a program, none of which is in a loop (Sinkhorn's rounds are sums): 2 · M · N · K each."""
    total = 0
    for equation in equations(jaxpr):
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            sizes = equation.invars[0].aval.shape
            total += 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(sizes[axis] for axis in contracted)
    return total


def traced(task, length: int) -> float:
    """Three times the forward pass's products, a token."""
    parameters = {path: jax.ShapeDtypeStruct(spec.shape, jnp.float32) for path, spec in task.model.specs.items()}
    tokens = jax.ShapeDtypeStruct((1, length), jnp.int32)
    probes = jnp.zeros(len(task.labels))
    forward = jax.make_jaxpr(lambda values, x: task.loss(values, probes, (x, x), 1.0, {}, Context()))(
        parameters, tokens
    )
    return 3 * products(forward.jaxpr) / length


# Pre-LN with and without a gate; matrices of the connection (GTrXL, LAuReL, mHC over its joined streams); a sublayer with fewer, whose
# average over earlier tokens is a product in the program (2 · length · width in each of 3 blocks, three times) and no weight matrix.
CASES = [
    ("pre_ln", "gelu", 0),
    ("pre_ln", "swiglu", 0),
    ("gtrxl", "gelu", 0),
    ("laurel", "gelu", 0),
    ("mhc", "gelu", 0),
    ("simplified", "gelu", 3 * 3 * 2 * 8 * 24),
    # Not counted: W for three more of four streams. Counted and no products: static weights, 4 · 5. At each of 6 sublayers.
    ("hyper", "gelu", 6 * 3 * 2 * (3 * 24 * 6 - 4 * 5)),
    # Not counted: the query of sublayer s = 2 … 6 with each of s sources, and the last one with seven.
    ("attn_res", "gelu", (2 + 3 + 4 + 5 + 6 + 7) * 3 * 2 * 24),
]


@pytest.mark.parametrize(("scheme", "activation", "beside"), CASES)
def test_flops_are_those_of_the_traced_products(scheme, activation, beside):
    config = override(Config(), {**SMALL, "scheme": scheme, "model.activation": activation}, "test")
    task = make_task(config)
    assert task.cost.flops_per_token == traced(task, config.seq_len) - beside
    if scheme != "simplified":  # whose first block has more matrices than the others
        assert minimum_footprint(config).cost == task.cost


@pytest.mark.parametrize(("scheme", "activation"), [("post_ln", "gelu"), ("gtrxl", "swiglu")])
def test_flops_of_a_classifier_are_those_of_the_traced_products(scheme, activation):
    """Attention looks everywhere, and the head sees one vector a sequence: the mean, whose product with the mask is not counted."""
    arch = architecture(activation=activation)
    model = classifier(catalogue.get(scheme), arch)
    parameters = {path: jax.ShapeDtypeStruct(spec.shape, jnp.float32) for path, spec in model.specs.items()}
    mask = jax.ShapeDtypeStruct((B, T), jnp.bool_)
    forward = jax.make_jaxpr(lambda values, mask: model.bind(values)(tokens(), Context(batch=B, mask=mask))[0])
    pooling = 2 * T * D
    expected = 3 * (products(forward(parameters, mask).jaxpr) / B - pooling)
    outline = Outline.of_classifier(arch, VOCAB, T, 3)
    cost = outline.cost(matrix_entries(model.specs.values()))
    assert cost.tokens * cost.flops_per_token == expected
    assert footprint(catalogue.get(scheme), outline, itemsize=4).cost == cost
