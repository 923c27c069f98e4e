"""What is worth compiling of a stack at init, and what is not."""

import functools
from collections import Counter
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

PATIENCE = 3  # calls: a block runs forward, forward again perturbed, and a structure's outputs are compared
# A program runs a few hundred times at most: beyond XLA's first level, compiling takes longer than running gains (benchmarks/NOTES.md).
QUICKLY = {"xla_backend_optimization_level": 1}


class Programs:
    """Calls functions of (static, *arrays) for one stack: operation by operation until one is asked for the same structure more than
    `PATIENCE` times, compiled from then on, in later stacks at once.

    A block of a structure of its own (LNS's constants, a history that grows) is not worth compiling: that takes several times as long
    as its calls (benchmarks/NOTES.md), and some twenty mappings of memory, of which Linux grants a process 65,530.
    """

    def __init__(self) -> None:
        self._calls: Counter[Any] = Counter()

    def __call__(self, function: Callable, static: Any, *arrays: Any) -> Any:
        leaves, tree = jax.tree.flatten(arrays)
        asked = function, static, tree, tuple((jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves)
        self._calls[asked] += 1
        if asked not in _recurring and self._calls[asked] <= PATIENCE:
            return function(static, *arrays)
        _recurring.add(asked)
        return _compiled(function)(static, *arrays)


_recurring: set[Any] = set()


@functools.cache
def _compiled(function: Callable) -> Any:
    _functions.add(function)
    return jax.jit(function, static_argnums=0, compiler_options=QUICKLY)


_functions: set[Callable] = set()


def forget() -> None:
    """Gives back what is compiled so far, of which no other scheme has a use."""
    _recurring.clear()
    for function in tuple(_functions):
        _compiled(function).clear_cache()
