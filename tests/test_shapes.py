"""The shapes and dtypes that annotations give are checked in every call under the tests (conftest.py). A wrong one has a message that says
which argument it is."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType

import jax.numpy as jnp
import pytest
from flax import nnx
from jaxtyping import AbstractArray, TypeCheckError

from addnorm_exp import nn as room
from addnorm_exp import residual
from addnorm_exp.nn.layers import matmul
from addnorm_exp.residual import norms


def refusal(call, *arguments) -> str:
    with pytest.raises(TypeCheckError) as error:
        call(*arguments)
    return str(error.value)


def test_a_wrong_shape_is_refused_by_name():
    message = refusal(matmul, jnp.ones((2, 3), jnp.float32), jnp.ones((4, 5), jnp.float32))
    for part in (
        "Type-check error whilst checking the parameters of addnorm_exp.nn.layers.matmul.",
        "parameter 'kernel'",
        "Actual value: f32[4,5]",
        "fan_in fan_out",
        "fan_in=3",
    ):
        assert part in message, message


def test_a_wrong_dtype_is_refused():
    norm = norms.Norm(norms.RMS, 4, rngs=nnx.Rngs(0))
    message = refusal(norm, jnp.ones((2, 4), jnp.int32))
    assert "Actual value: i32[2,4]" in message, message
    assert "Float[" in message


def annotated(module: ModuleType) -> Iterator[tuple[str, object]]:
    """The functions and methods of a module with a shape in their signature."""
    for name, value in vars(module).items():
        if getattr(value, "__module__", None) != module.__name__:
            continue
        for member, function in (vars(value) if inspect.isclass(value) else {"": value}).items():
            function = getattr(function, "fun", getattr(function, "fget", function))  # of custom_vjp and property
            if inspect.isfunction(function) and any(map(shaped, inspect.get_annotations(function).values())):
                yield f"{module.__name__}.{name}.{member}".rstrip("."), function


def shaped(annotation: object) -> bool:
    parts = (annotation, *getattr(annotation, "__args__", ()))
    return any(inspect.isclass(part) and issubclass(part, AbstractArray) for part in parts)


def test_every_shape_in_a_signature_is_checked():
    """A module that is not on conftest.py's list would have annotations that nobody holds it to."""
    modules = [
        importlib.import_module(found.name)
        for package in (room, residual)
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    ]
    functions = {name: function for module in modules for name, function in annotated(module)}
    assert len(functions) > 40
    assert [name for name, function in functions.items() if not hasattr(function, "__wrapped__")] == []
    assert [name for name, function in norms.FUNCTIONS.items() if not hasattr(function, "__wrapped__")] == []
