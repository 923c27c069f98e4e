"""What the training step asks of an optimiser, and what is the same for all of them."""

from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import optax

from addnorm_exp.experiment import Hypers, Shape
from addnorm_exp.nn.footprint import Specs
from addnorm_exp.nn.functional import Parameters
from addnorm_exp.residual.init import DECAYED


class Optimiser(Protocol):
    """One rule of updates, for the programs of one shape.

    Its numbers are hypers: they are traced, and `init` depends on none of them. `specs` says of each parameter its shape, and its group, by
    which a rule may choose; all other arguments are by path like it.
    """

    @classmethod
    def of(cls, shape: Shape) -> "Optimiser":
        """The optimiser of a shape, which says what is part of the rule's structure."""
        ...

    def init(self, specs: Specs, parameters: Parameters) -> Any:
        """The state before the first update, a pytree of arrays."""
        ...

    def directions(
        self, specs: Specs, parameters: Parameters, grads: Parameters, state: Any, hypers: Hypers
    ) -> tuple[Parameters, Any]:
        """What an update subtracts at a learning rate of 1 without weight decay, and the next state."""
        ...


def update(
    optimiser: Optimiser,
    specs: Specs,
    parameters: Parameters,
    grads: Parameters,
    state: Any,
    lr: jax.Array,
    hypers: Hypers,
) -> tuple[Parameters, Any]:
    """What to add to each parameter, and the next state: the optimiser's directions with decoupled weight decay (Loshchilov & Hutter 2019,
    1711.05101: decay times the learning rate), and each tensor's factors on both."""
    directions, state = optimiser.directions(specs, parameters, grads, state, hypers)

    def change(path: str, direction: jax.Array) -> jax.Array:
        factors = specs[path].factors
        if specs[path].group in DECAYED:
            direction = direction + factors.decay * hypers["optim.weight_decay"] * parameters[path]
        return -(factors.lr * lr) * direction

    return {path: change(path, direction) for path, direction in directions.items()}, state


def transformed(
    transformation: optax.GradientTransformation, grads: Any, state: Any = None, parameters: Any = None
) -> tuple[Any, Any]:
    """The transformed gradients and the next state. Optax relies on standard promotion of dtypes (it raises β, a float, to an integer
    count); our own code is strict."""
    with jax.numpy_dtype_promotion("standard"):
        return transformation.update(grads, optax.EmptyState() if state is None else state, parameters)


def state_bytes(optimiser: Optimiser, specs: Specs) -> int:
    """Bytes of the state that the optimiser keeps for these parameters, without the counts that it keeps for all."""

    def total(specs: Specs) -> int:
        parameters = {path: jax.ShapeDtypeStruct(spec.shape, jnp.float32) for path, spec in specs.items()}
        state = jax.eval_shape(partial(optimiser.init, specs), parameters)
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))

    return total(specs) - total({})
