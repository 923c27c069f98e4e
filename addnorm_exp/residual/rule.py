"""Rule: the record that most schemes are. Four places for a norm, a coefficient on the skip and one on the branch."""

from dataclasses import dataclass

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from addnorm_exp.residual import norms
from addnorm_exp.residual.broadcast import across
from addnorm_exp.residual.contract import Connection, ConnectionRecord
from addnorm_exp.residual.init import Init, parameter
from addnorm_exp.residual.norms import NormSpec
from addnorm_exp.residual.variables import Coefficient, Constant, bound

Stream = Float[Array, "*tokens width"]


@dataclass(frozen=True)
class Learned:
    """A learned coefficient: one scalar, or a vector of the stream's width. It is never decayed.

    Sites of one block that name the same `shared` use one parameter (ReZero has one a block).
    """

    init: float
    shape: str = "scalar"  # scalar | vector
    shared: str = ""


def constant(value: float) -> float | Constant:
    """Not of 0 and 1, which say that something is left out."""
    return float(value) if value in (0.0, 1.0) else Constant(np.asarray(value, np.float32))


@dataclass(frozen=True)
class Rule(ConnectionRecord):
    """`s = N_stream(x)`, `h = pre_scale · N_pre(s) + shift`, `b = N_branch(F(h))`, `x ← N_post(skip · s + scale · b)`.

    Each norm may be absent, and so may the shift. `stream` differs from `pre` in that the skip sees it too (HybridNorm's feed-forward).
    """

    stream: NormSpec | None = None
    pre: NormSpec | None = None
    branch: NormSpec | None = None
    post: NormSpec | None = None
    pre_scale: float | Coefficient = 1.0
    skip: float | Learned | Coefficient = 1.0
    scale: float | Learned | Coefficient = 1.0
    shift: Learned | None = None

    def connect(self, width: int, rngs: nnx.Rngs, shared: dict[str, nnx.Param]) -> "RuleConnection":
        return RuleConnection(self, width, rngs, shared)

    @property
    def norms(self) -> dict[str, NormSpec]:
        """Place → norm, of the norms that do something."""
        places = {"stream": self.stream, "pre": self.pre, "branch": self.branch, "post": self.post}
        return {place: spec for place, spec in places.items() if spec is not None and spec.kind != "none"}


class RuleConnection(Connection):
    """The verbs of a Rule; the state is the stream itself, one array."""

    def __init__(self, rule: Rule, width: int, rngs: nnx.Rngs, shared: dict[str, nnx.Param]):
        self.pre_scale = _coefficient(rule.pre_scale, width, rngs, shared)
        self.stream = norms.make(rule.stream, width, rngs)
        self.pre = norms.make(rule.pre, width, rngs)
        self.branch = norms.make(rule.branch, width, rngs)
        self.post = norms.make(rule.post, width, rngs)
        self.skip = _coefficient(rule.skip, width, rngs, shared)
        self.scale = _coefficient(rule.scale, width, rngs, shared)
        self.shift = None if rule.shift is None else learned(rule.shift, width, rngs, shared)

    def read(self, state: Stream) -> tuple[Stream, Stream]:
        stream = norms.apply(self.stream, state)
        return stream, stream

    def enter(self, stream: Stream) -> Stream:
        h = times(self.pre_scale, norms.apply(self.pre, stream))
        return h if self.shift is None else h + across(self.shift[...].astype(h.dtype), h)

    def leave(self, branch: Stream) -> Stream:
        return times(self.scale, norms.apply(self.branch, branch))

    def write(self, state: Stream, branch: Stream, kept: Stream) -> Stream:
        # `kept` is the stream, after its norm where it has one.
        if isinstance(self.skip, float) and self.skip == 0.0:
            return norms.apply(self.post, branch)
        return norms.apply(self.post, times(self.skip, kept) + branch)


def _coefficient(
    value: float | Learned | Coefficient, width: int, rngs: nnx.Rngs, shared: dict[str, nnx.Param]
) -> float | nnx.Variable:
    if isinstance(value, Coefficient):
        return bound(value.name, float(value.default))
    return learned(value, width, rngs, shared) if isinstance(value, Learned) else constant(value)


def learned(value: Learned, width: int, rngs: nnx.Rngs, shared: dict[str, nnx.Param]) -> nnx.Param:
    if value.shared and value.shared in shared:
        return shared[value.shared]
    coefficient = parameter((width,) if value.shape == "vector" else (), Init.constant(value.init), "coefficient", rngs)
    if value.shared:
        shared[value.shared] = coefficient
    return coefficient


def times(coefficient: float | jax.Array | nnx.Variable, x: Stream) -> Stream:
    if isinstance(coefficient, float):
        return x if coefficient == 1.0 else coefficient * x
    number = coefficient.fixed if isinstance(coefficient, Constant) else coefficient[...]
    return across(number.astype(x.dtype), x) * x
