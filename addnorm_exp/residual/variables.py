"""What a module holds beside its parameters. None of it passes through the verbs: it is bound where the parameters are.

| variable   | its value                                       | example                                 |
|------------|-------------------------------------------------|-----------------------------------------|
| `Constant` | fixed by the record                             | α of DeepNorm                           |
| `Bound`    | given by name by the caller, else the default   | α as a hyper that a study ranges over   |
| `Running`  | goes in with the parameters, comes out changed  | averages of a batch norm, cached keys   |
"""

from dataclasses import dataclass

import jax
import numpy as np
from flax import nnx


class Constant(nnx.Variable):
    """Coefficients that a record fixes, kept as data: blocks that differ in them alone are of one structure, which is scanned and compiled
    as one. No parameter, and without a gradient."""

    @property
    def fixed(self) -> jax.Array:
        return jax.lax.stop_gradient(self[...])


class Bound(nnx.Variable):
    """A value that the caller of a model may give under `given_as`; until then its default. It may be traced, and differ by lane."""


class Running(nnx.Variable):
    """State that a pass changes beside its output: assign to it in the pass, `variable[...] = new`. It has no gradient."""


@dataclass(frozen=True)
class Coefficient:
    """A number of a record that the caller may set by `name`, traced; `default` is the record's own value. Unlike a number that the
    record fixes, one compiled program serves all values. Coefficients of one name have one value once it is given."""

    name: str
    default: float


def bound(name: str, default: float) -> Bound:
    """A float becomes float32, an int int32, and so does what is given in its place."""
    return Bound(np.asarray(default, np.int32 if isinstance(default, int) else np.float32), given_as=name)
