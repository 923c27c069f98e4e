"""What a classifier takes up at least, told without building it, against the model and against what the compiler plans for its gradient.
(test_train_memory.py holds the decoder's against the whole training program.)"""

import jax
import jax.numpy as jnp
import pytest
from bridge import VOCAB, T, architecture, classifier
from sample import depth_of, expensive

from addnorm_exp.nn.footprint import Outline, footprint
from addnorm_exp.nn.functional import Functional
from addnorm_exp.nn.head import token_losses
from addnorm_exp.nn.models import Classifier
from addnorm_exp.residual import Context, catalogue

CLASSES = 3


@pytest.mark.parametrize("name", expensive())
def test_the_bound_on_parameters_is_below_and_near(name):
    scheme, arch = catalogue.get(name), architecture(depth=depth_of(name, 3), width=64, hidden=256)
    model = classifier(scheme, arch, CLASSES)
    bound = footprint(scheme, Outline.of_classifier(arch, VOCAB, T, CLASSES), itemsize=4)
    assert 0.93 * model.size < bound.parameters <= model.size
    assert all(model.specs[path].shape == spec.shape for path, spec in bound.tables.items())
    for block in bound.blocks:
        assert {path: (spec.shape, spec.init) for path, spec in block.items()} == {
            path: (model.specs[path].shape, model.specs[path].init) for path in block
        }


@pytest.mark.parametrize(
    ("length", "classes", "share"),
    [(96, 2, 0.3), pytest.param(8, 2048, 0.3, marks=pytest.mark.full)],
    ids=["attention weights above all", "logits above all"],
)
def test_the_compiler_plans_for_more_than_the_bound_on_activations(length, classes, share):
    batch, scheme, arch = 64, catalogue.get("post_ln"), architecture(depth=2)
    model = Functional(lambda rngs: Classifier(scheme, arch, VOCAB, length, classes, rngs=rngs))
    parameters = {path: jax.ShapeDtypeStruct(spec.shape, jnp.float32) for path, spec in model.specs.items()}

    def loss(parameters, tokens, mask, labels):
        logits, _ = model.bind(parameters)(tokens, Context(batch=batch, mask=mask))
        return jnp.sum(token_losses(logits, labels)[0])

    shapes = (((batch, length), jnp.int32), ((batch, length), jnp.bool_), ((batch,), jnp.int32))
    arguments = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in shapes]
    planned = jax.jit(jax.grad(loss)).lower(parameters, *arguments).compile().memory_analysis().temp_size_in_bytes
    bound = batch * footprint(scheme, Outline.of_classifier(arch, VOCAB, length, classes), itemsize=4).activations
    assert share * planned < bound < planned, bound / planned
