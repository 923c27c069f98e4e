"""A module as pure functions over a flat dict of parameters: path → array. Everything above this room works on that dict."""

from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike

from addnorm_exp.residual import init as laws
from addnorm_exp.residual.variables import Bound, Running

Parameters = dict[str, jax.Array]
M = TypeVar("M", bound=nnx.Module)


class Functional(Generic[M]):
    """The structure of a module, made without computing a single value.

    `specs` tells shape, law, group and place of every parameter by path; `init` draws them; `bind` puts values into a module to call.
    `first_running` is the state before the first pass, by path, and `takes` the names of values that may be given to `bind`
    (residual/variables.py); both are empty for most modules.
    """

    def __init__(self, make: Callable[[nnx.Rngs], M]):
        self.module = make(laws.ABSTRACT)
        self.specs = laws.specs(self.module)
        laws.forget(self.module)
        self._graph, *states = nnx.split(self.module, nnx.Param, Running, ...)
        state, running, rest = (nnx.to_flat_state(part) for part in states)
        self._constants = {path: variable[...] for path, variable in rest}
        self._names = {path: variable.given_as for path, variable in rest if isinstance(variable, Bound)}
        self._paths = {"/".join(map(str, path)): path for path, _ in (*state, *running)}
        self.first_running = {"/".join(map(str, path)): variable[...] for path, variable in running}
        self.takes = frozenset(self._names.values())

    @property
    def size(self) -> int:
        """Number of parameters."""
        return sum(spec.size for spec in self.specs.values())

    def init(self, seed: ArrayLike, hypers: Mapping[str, ArrayLike] = laws.HYPERS) -> Parameters:
        return laws.initial_values(self.specs, seed, hypers)

    def init_by_seed(
        self,
        seeds: int,
        hypers: Mapping[str, ArrayLike] = laws.HYPERS,
        draws: Callable[..., jax.Array] = laws.draw_by_seed,
    ) -> Parameters:
        """The values of `init` for seeds 0 to `seeds` - 1, in a leading axis."""
        return laws.initial_values_by_seed(self.specs, seeds, hypers, draws)

    def bind(
        self,
        parameters: Parameters,
        running: Mapping[str, jax.Array] | None = None,
        given: Mapping[str, ArrayLike] | None = None,
    ) -> M:
        """The module with these values; `given` by name, others are the record's. After a pass `running` gives the state that it left."""
        given = given or {}
        if not given.keys() <= self.takes:
            unknown, known = min(given.keys() - self.takes), ", ".join(sorted(self.takes)) or "none"
            raise ValueError(f"this model takes no value '{unknown}'; it takes {known}")
        values = {**parameters, **(self.first_running if running is None else running)}
        flat = {path: values[name] for name, path in self._paths.items()}
        named = ((path, given[name]) for path, name in self._names.items() if name in given)
        flat |= {path: jnp.asarray(value, self._constants[path].dtype) for path, value in named}
        return nnx.merge(self._graph, nnx.State.from_flat_path({**self._constants, **flat}))

    def running(self, module: M) -> dict[str, jax.Array]:
        """The running state of a module that `bind` made, by path."""
        flat = nnx.to_flat_state(nnx.state(module, Running))
        return {"/".join(map(str, path)): variable[...] for path, variable in flat}
