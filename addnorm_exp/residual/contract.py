"""The contract: a scheme is how sublayers read from the residual stream and write to it.

    state    = open(x0)                      once, from the embedding
    h, kept  = read(state)                   what the body F sees        Pre-LN: N(x)        Post-LN: x
    b, memo  = F(h, memo)                    the body; memo carries what crosses blocks (first-layer values)
    state    = write(state, b, kept)         what F leaves behind        Pre-LN: x + b       Post-LN: N(x + b)
    y        = close(state)                  once, to the head           Pre-LN: N(x)        Post-LN: x

`state` is one array for most schemes, and whatever a scheme needs for the others: two streams, n streams, the history of all outputs.
`kept` is what `write` needs of what `read` saw. A body is a sublayer, a sum of sublayers, or a chain of connections around further
bodies: with the last, "the skip starts at the block's input" (B2T, SpanNorm) or "one sub-stream goes through a whole block"
(AltUp) are connections like any other.

Activations have shape (..., width), whatever the leading axes; the Transformer of `addnorm_exp.nn` uses (tokens, width).
"""

from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import jax
from flax import nnx

State = Any  # a pytree of arrays, private to a scheme
Memo = dict[str, jax.Array]
Stats = dict[str, list[jax.Array]]  # one scalar a site and quantity, in the order of the sites
STATIC = {"static": True}


@dataclass(frozen=True)
class Depths:
    """Blocks in each stack of the model; 0 where it has none."""

    encoder: int = 0
    decoder: int = 0


@dataclass(frozen=True)
class Site:
    """Where a connection stands: all that a scheme may know of its place, and static.

    `block` counts blocks of its stack from 0. `kind` is `attention`, `cross_attention` or `feed_forward`, and `block` where a scheme
    is asked about a block as a whole. `sublayers` are the kinds that a block of this stack holds, in order.
    """

    stack: str = "decoder"
    block: int = 0
    kind: str = "block"
    sublayers: tuple[str, ...] = ("attention", "feed_forward")
    depths: Depths = Depths()

    @property
    def depth(self) -> int:
        """Blocks in this site's stack (the papers' L, N or M)."""
        return self.depths.encoder if self.stack == "encoder" else self.depths.decoder

    def at(self, kind: str) -> "Site":
        return replace(self, kind=kind)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Context:
    """What a forward pass knows besides the stream. The arrays are traced; `train` and `diagnostics` are static.

    `step` counts finished updates. `mask` is True at valid tokens, shape (batch, tokens), `None` where all are. `key` is this step's
    dropout key, folded with block and sublayer on the way down; `dropout` is the rate. `batch` is the number of sequences that the
    leading axis of (tokens, width) activations holds. `attention_statistics` asks attention for its logits and entropy.
    """

    step: jax.Array | None = None
    key: jax.Array | None = None
    mask: jax.Array | None = None
    dropout: jax.Array | float = 0.0
    batch: int = field(default=1, metadata=STATIC)
    train: bool = field(default=False, metadata=STATIC)  # dropout is on
    diagnostics: bool = field(default=False, metadata=STATIC)
    attention_statistics: bool = field(default=False, metadata=STATIC)

    def fold(self, number: jax.Array | int) -> "Context":
        """The same context with a key of its own for sublayer or block `number`."""
        return self if self.key is None else replace(self, key=jax.random.fold_in(self.key, number))


class Body(Protocol):
    """What stands between `read` and `write`."""

    def __call__(self, h: jax.Array, memo: Memo, context: Context) -> tuple[jax.Array, Memo, Stats]: ...


class Connection(nnx.Module):
    """The two verbs at one site. A scheme with a topology of its own derives from this; all others are a `Rule`."""

    def read(self, state: State, context: Context) -> tuple[jax.Array, Any]:
        raise NotImplementedError

    def leave(self, branch: jax.Array) -> jax.Array:
        """What the body leaves behind, as it enters the sum: after the branch's norm and coefficient, where a scheme has them."""
        return branch

    def write(self, state: State, branch: jax.Array, kept: Any, context: Context) -> State:
        """`branch` is what `leave` made of the body's output."""
        raise NotImplementedError
