"""The contract: a scheme is how sublayers read from the residual stream and write to it.

    state    = open(x0)                      once, from the embedding
    u, kept  = read(state)                   what this site takes of it  Pre-LN: x           Post-LN: x
    h        = enter(u)                      what the body F sees        Pre-LN: N(x)        Post-LN: x
    b, memo  = F(h, memo)                    the body; memo carries what crosses blocks (first-layer values)
    b        = leave(b)                      what F leaves behind        Sandwich-LN: N(b), and b for both
    state    = write(state, b, kept)         what becomes of the state   Pre-LN: x + b       Post-LN: N(x + b)
    y        = close(state)                  once, to the head           Pre-LN: N(x)        Post-LN: x

`state` is one array for most schemes, and a tuple of what a scheme needs for the others: two streams, n streams, the history of all
outputs. Then `u` is what the stream is elsewhere: one array, of which the diagnostics tell. `kept` is what `write` needs of what `read`
saw. A body is a sublayer, a sum of sublayers, or a chain of connections around further bodies: with the last, "the skip starts at the
block's input" (B2T, SpanNorm) or "one sub-stream goes through a whole block" (AltUp) are connections like any other.

Activations have shape (..., width), whatever the leading axes; the Transformer of `addnorm_exp.nn` uses (tokens, width).

The verbs see activations alone. Whatever else a pass knows reaches a scheme in one of three ways:

- what a body needs (masks, keys, what is measured) is in its `context`
- what is done to every branch (dropout, stochastic depth, fading in) stands around the verbs, in plan.py
- what a connection needs (a coefficient that a study ranges over, averages of a batch norm) is bound where its parameters are:
  residual/variables.py
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import nnx

from addnorm_exp.residual import norms
from addnorm_exp.residual.digest import ModuleRecord

State = Any  # one array, or a tuple whose parts are private to a scheme
Memo = dict[str, jax.Array]
Stats = dict[str, list[jax.Array]]  # one scalar a site and quantity, in the order of the sites
STATIC = {"static": True}


SUBLAYERS = ("attention", "feed_forward")  # of a block, but for a decoder's beside an encoder
ATTENDING = ("attention", "cross_attention")  # the kinds of sublayers that attend


@dataclass(frozen=True)
class Depths:
    """Blocks in each stack of the model; 0 where it has none."""

    encoder: int = 0
    decoder: int = 0


@dataclass(frozen=True)
class Site:
    """Where a connection stands: all that a scheme may know of its place, and static.

    `block` counts blocks of its stack from 0. `kind` is `attention`, `cross_attention` or `feed_forward`, `block` where a scheme is
    asked about a block as a whole, and `ends` where it is asked about embedding and head. `sublayers` are the kinds that a block of this
    stack holds, in order.
    """

    stack: str = "decoder"
    block: int = 0
    kind: str = "block"
    sublayers: tuple[str, ...] = SUBLAYERS
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

    `step` counts finished updates. `mask` is True at valid tokens, shape (batch, tokens), `None`
    where all are; padded ones do not count in diagnostics. `key` is this step's dropout key, folded
    with block and sublayer on the way down. `dropout` and `drop_path` are rates, `None` where off;
    `drop_path` is the last block's on the way in, and inside a block its own. `batch` is the number
    of sequences that the leading axis of (tokens, width) activations holds. `attention_statistics`
    asks attention for its logits and entropy, `variances` asks each site for those of stream and
    branch, which calibration needs.
    """

    step: jax.Array | None = None
    key: jax.Array | None = None
    mask: jax.Array | None = None
    dropout: jax.Array | float | None = None
    drop_path: jax.Array | float | None = None
    batch: int = field(default=1, metadata=STATIC)
    train: bool = field(default=False, metadata=STATIC)  # noise and penalties of training are on
    diagnostics: bool = field(default=False, metadata=STATIC)
    attention_statistics: bool = field(default=False, metadata=STATIC)
    variances: bool = field(default=False, metadata=STATIC)

    def fold(self, number: jax.Array | int) -> "Context":
        """The same context with a key of its own for sublayer or block `number`."""
        return self if self.key is None else replace(self, key=jax.random.fold_in(self.key, number))

    def into(self, block: jax.Array | int, depth: int) -> "Context":
        """The context of a block, counted from 0: a key of its own, and a rate of stochastic depth that rises linearly from 0."""
        inside = self.fold(block)
        if self.drop_path is None:
            return inside
        number = block if isinstance(block, int) else block.astype(jnp.float32)
        return replace(inside, drop_path=self.drop_path * number / max(depth - 1, 1))


class Body(Protocol):
    """What stands between `read` and `write`."""

    def __call__(self, h: jax.Array, memo: Memo, context: Context) -> tuple[jax.Array, Memo, Stats]: ...


class Connection(nnx.Module):
    """The verbs at one site. A scheme with a topology of its own derives from this; all others are a `Rule`.

    What is made by a `Topology` takes the width, the random streams, and the record's arguments by keyword. `reads` (up to the body) and
    `writes` say what it does, in the few words of a diagram's boxes: `h = N(Σ α_i x_i)`. `fractions` is what the width must be a multiple
    of. Each may be a static method of the record's arguments.
    """

    reads: Any = ""
    writes: Any = ""
    fractions: Any = 1

    def read(self, state: State) -> tuple[jax.Array, Any]:
        """→ what this site takes of the state, (..., width), and what `write` will need of it."""
        raise NotImplementedError

    def enter(self, stream: jax.Array) -> jax.Array:
        """What the body sees, (..., width), of what was read: after the norm before the body, where a scheme has one."""
        return stream

    def leave(self, branch: jax.Array) -> jax.Array:
        """What the body leaves behind, as it enters the sum: after the branch's norm and coefficient, where a scheme has them."""
        return branch

    def write(self, state: State, branch: jax.Array, kept: Any) -> State:
        """The state after this site. `branch`, (..., width), is what `leave` made of the body's output."""
        raise NotImplementedError


class PreNormed(Connection):
    """`h = N(x)`, and no more to the reading: what schemes that change the sum have in common with Pre-LN. `pre` is their norm."""

    pre: norms.Norm | None

    def read(self, state: State) -> tuple[jax.Array, Any]:
        return state, None

    def enter(self, stream: jax.Array) -> jax.Array:
        return norms.apply(self.pre, stream)


class ConnectionRecord(ABC):
    """Data that makes a connection: a `Rule`, or a `Topology`. Equal records say the same; a run's identity is made of them."""

    @abstractmethod
    def connect(self, width: int, rngs: nnx.Rngs, shared: dict[str, nnx.Param]) -> Connection:
        """The connection with its parameters. `shared`: those that sites of one block have in common, by name."""


class Topology(ModuleRecord, ConnectionRecord):
    """The record of a connection that no `Rule` describes: `Topology(HighwayGateConnection, norm=norm)`.

    The class and its arguments, and a factory of its connections.
    """

    def __init__(self, connection: type[Connection], **fields: Any):
        super().__init__(connection, **fields)
        for name in ("reads", "writes"):
            if not self.said(name):
                raise TypeError(f"{connection.__name__} does not say what it {name}, which its diagram shows")

    def said(self, name: str) -> Any:
        """What the class says of itself: `reads`, `writes` or `fractions`, for these arguments."""
        words = getattr(self.module, name)
        return words(**self.fields) if callable(words) else words

    def connect(self, width: int, rngs: nnx.Rngs, shared: dict[str, nnx.Param]) -> Connection:
        del shared
        return self.make(width, rngs)
