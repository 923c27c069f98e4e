"""A module as pure functions over a flat dict of parameters: path → array. Everything above this room works on that dict."""

from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

import jax
from flax import nnx

from addnorm_exp.residual import init as laws

Parameters = dict[str, jax.Array]
M = TypeVar("M", bound=nnx.Module)


class Functional(Generic[M]):
    """The structure of a module, made without computing a single value.

    `specs` tells shape, law and group of every parameter by path; `init` draws them; `bind` puts values into a module to call.
    """

    def __init__(self, make: Callable[[nnx.Rngs], M]):
        self.module = make(laws.ABSTRACT)
        self.specs = laws.specs(self.module)
        laws.forget(self.module)
        self._graph, *states = nnx.split(self.module, nnx.Param, ...)
        state, constants = states
        self._constants = {path: variable[...] for path, variable in nnx.to_flat_state(constants)}
        self._paths = {"/".join(map(str, path)): path for path, _ in nnx.to_flat_state(state)}

    @property
    def size(self) -> int:
        """Number of parameters."""
        return sum(spec.size for spec in self.specs.values())

    def init(self, seed: jax.Array | int, hypers: Mapping[str, jax.Array | float] = laws.HYPERS) -> Parameters:
        return laws.initial_values(self.specs, seed, hypers)

    def init_by_seed(
        self,
        seeds: int,
        hypers: Mapping[str, jax.Array | float] = laws.HYPERS,
        draws: Callable[..., jax.Array] = laws.draw_by_seed,
    ) -> Parameters:
        """The values of `init` for seeds 0 to `seeds` - 1, in a leading axis."""
        return laws.initial_values_by_seed(self.specs, seeds, hypers, draws)

    def bind(self, parameters: Parameters) -> M:
        flat = {path: parameters[name] for name, path in self._paths.items()}
        return nnx.merge(self._graph, nnx.State.from_flat_path({**self._constants, **flat}))
