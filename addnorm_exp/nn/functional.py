"""A module as pure functions over a flat dict of parameters: path → array. Everything above this room works on that dict."""

from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx

from addnorm_exp.residual import init as laws
from addnorm_exp.residual.variables import Bound, Running

Parameters = dict[str, jax.Array]
M = TypeVar("M", bound=nnx.Module)


class Functional(Generic[M]):
    """The structure of a module, made without computing a single value.

    `specs` tells shape, law and group of every parameter by path; `init` draws them; `bind` puts values into a module to call.
    `first_running` is the state before the first pass, by path, and `coefficients` the names that `bind` takes
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
        self.coefficients = frozenset(self._names.values())

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

    def bind(
        self,
        parameters: Parameters,
        running: Mapping[str, jax.Array] | None = None,
        coefficients: Mapping[str, jax.Array | float] | None = None,
    ) -> M:
        """The module with these values. After a pass `running` gives the state that it left."""
        values = {**parameters, **(self.first_running if running is None else running)}
        flat = {path: values[name] for name, path in self._paths.items()}
        given = coefficients or {}
        if not given.keys() <= self.coefficients:
            unknown, known = min(given.keys() - self.coefficients), ", ".join(sorted(self.coefficients)) or "none"
            raise ValueError(f"this model has no coefficient '{unknown}' to set; it has {known}")
        flat |= {path: jnp.asarray(given[name], jnp.float32) for path, name in self._names.items() if name in given}
        return nnx.merge(self._graph, nnx.State.from_flat_path({**self._constants, **flat}))

    def running(self, module: M) -> dict[str, jax.Array]:
        """The running state of a module that `bind` made, by path."""
        flat = nnx.to_flat_state(nnx.state(module, Running))
        return {"/".join(map(str, path)): variable[...] for path, variable in flat}
