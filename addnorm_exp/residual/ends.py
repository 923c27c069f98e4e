"""What happens at the embedding and before the head, where the residual stream opens and closes."""

import math
from dataclasses import dataclass, field
from typing import Any, Protocol

import jax
from flax import nnx

from addnorm_exp.residual import norms
from addnorm_exp.residual.contract import LATER, Context, State
from addnorm_exp.residual.init import Init, parameter
from addnorm_exp.residual.norms import NormSpec


class EndsRecord(Protocol):
    """Data that makes the ends. `closing` is the final norm, where there is one.

    `connect` gives a module with the verbs `open(x0, context)` and `close(state, context)` of the contract.
    """

    @property
    def closing(self) -> NormSpec | None: ...

    def connect(self, width: int, rngs: nnx.Rngs) -> Any: ...


@dataclass(frozen=True)
class NormEnds:
    """`open(x0) = N_open(x0)` and `close(x) = N_close(x)`, each norm optional: the ends of a scheme of one stream.

    `scaled`: x0 times a learned scalar, √width at first, before its norm (the language models of DyT and Derf).
    """

    opening: NormSpec | None = None
    closing: NormSpec | None = None
    scaled: bool = field(default=False, metadata=LATER)

    def connect(self, width: int, rngs: nnx.Rngs) -> "NormEndsModule":
        return NormEndsModule(self, width, rngs)


class NormEndsModule(nnx.Module):
    def __init__(self, ends: NormEnds, width: int, rngs: nnx.Rngs):
        self.scale = parameter((), Init.constant(math.sqrt(width)), "coefficient", rngs) if ends.scaled else None
        self.opening = norms.make(ends.opening, width, rngs)
        self.closing = norms.make(ends.closing, width, rngs)

    def open(self, x0: jax.Array, context: Context) -> State:
        del context
        if self.scale is not None:
            x0 = self.scale[...].astype(x0.dtype) * x0
        return norms.apply(self.opening, x0)

    def close(self, state: State, context: Context) -> jax.Array:
        del context
        return norms.apply(self.closing, state)
