"""What happens at the embedding and before the head, where the residual stream opens and closes."""

from typing import Any

import jax
from flax import nnx

from addnorm_exp.residual import norms
from addnorm_exp.residual.contract import State
from addnorm_exp.residual.digest import ModuleRecord
from addnorm_exp.residual.norms import NormSpec


class EndsModule(nnx.Module):
    """The verbs at the ends: of one stream, `open(x0) = x0` and `close(x) = N(x)`. Schemes of another state derive from this."""

    def __init__(self, width: int, rngs: nnx.Rngs, *, closing: NormSpec | None = None):
        self.closing = norms.make(closing, width, rngs)

    def open(self, x0: jax.Array) -> State:
        """The state of the first block, from the embedding (..., width)."""
        return x0

    def close(self, state: State) -> jax.Array:
        """What the head sees of the last block's state, (..., width)."""
        return norms.apply(self.closing, state)


class Ends(ModuleRecord):
    """The record of the ends: `closing` is the final norm, where there is one; of several streams it may be more than one norm."""

    def __init__(self, closing: NormSpec | None = None, module: type[EndsModule] = EndsModule, **arguments: Any):
        super().__init__(module, closing=closing, **arguments)
        self.closing = closing
