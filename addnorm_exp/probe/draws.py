"""Draws that schemes share are made once: initial values and noise depend on a parameter's path, not on the scheme."""

import functools
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from addnorm_exp.residual import init

# For values and for noise each. At the default sizes the whole catalogue has 1.6 GB of values (two laws) and 1.1 GB of noise, and
# nearly all are reused; at twice the width only those that the depths of one scheme share.
KEPT_BYTES = 2**30


class KeptDraws:
    """A function of hashable arguments that returns one array. The latest results are kept."""

    def __init__(self, function: Callable[..., jax.Array], most: int = KEPT_BYTES):
        self._function, self._most = function, most
        self._results: OrderedDict[tuple[Any, ...], jax.Array] = OrderedDict()
        self._size = 0

    def __call__(self, *arguments: Any) -> jax.Array:
        if arguments in self._results:
            self._results.move_to_end(arguments)
            return self._results[arguments]
        result = self._results[arguments] = self._function(*arguments)
        self._size += result.nbytes
        while self._size > self._most:
            self._size -= self._results.popitem(last=False)[1].nbytes
        return result


values = KeptDraws(init.draw_by_seed)


@KeptDraws
def noise(shape: tuple[int, ...], path: str) -> jax.Array:
    """Standard normal."""
    return _normal(shape, np.uint32(init.path_hash(path)))


@functools.partial(jax.jit, static_argnums=0)
def _normal(shape: tuple[int, ...], hashed: jax.Array) -> jax.Array:
    key = jax.random.fold_in(jax.random.key(0, impl="threefry2x32"), hashed)
    return jax.random.normal(key, shape)
