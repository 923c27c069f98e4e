"""LAuReL: learned weights on branch and skip, and a low-rank map beside the skip."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx

from addnorm_exp.residual import norms
from addnorm_exp.residual.catalogue import theory
from addnorm_exp.residual.catalogue.hyper import ZERO, weighted
from addnorm_exp.residual.catalogue.placement import final
from addnorm_exp.residual.contract import Connection, Context, Site
from addnorm_exp.residual.init import parameter
from addnorm_exp.residual.norms import NormSpec
from addnorm_exp.residual.plan import At
from addnorm_exp.residual.scheme import Scheme


@dataclass(frozen=True)
class Laurel:
    """LAuReL-RW+LR: weights on branch and skip, and a low-rank map beside the skip."""

    norm: NormSpec
    rank: int
    reads = "h = N(x)"
    writes = "x ← a F + b (x + x A B)"

    def connect(self, site: Site, width: int, rngs: nnx.Rngs, shared: dict[str, nnx.Param]) -> "LaurelConnection":
        del site, shared
        return LaurelConnection(self, width, rngs)


class LaurelConnection(Connection):
    """The state is the stream, one array. A is kept as its distance from the matrix that it starts as."""

    def __init__(self, record: Laurel, width: int, rngs: nnx.Rngs):
        self.rank = record.rank
        self.down = parameter((width, record.rank), ZERO, "coefficient", rngs)
        self.up = parameter((record.rank, width), ZERO, "coefficient", rngs)
        self.weights = parameter((2,), ZERO, "coefficient", rngs)
        self.pre = norms.make(record.norm, width, rngs)

    def read(self, state: jax.Array, context: Context) -> tuple[jax.Array, None]:
        del context
        return state, None

    def enter(self, stream: jax.Array) -> jax.Array:
        return norms.apply(self.pre, stream)

    def write(self, state: jax.Array, branch: jax.Array, kept: None, context: Context) -> jax.Array:
        del kept, context
        width = state.shape[-1]
        start = (jnp.arange(width)[:, None] % self.rank == jnp.arange(self.rank)) / math.sqrt(self.rank * width)
        down, up = (start + self.down[...]).astype(state.dtype), self.up[...].astype(state.dtype)
        of_branch, of_skip = 2.0 * jax.nn.softmax(self.weights[...])
        return weighted((of_branch, of_skip), (branch, state + (state @ down) @ up))


RANK = 16

laurel = Scheme(
    name="laurel",
    title="LAuReL",
    family="learned residual",
    equation="x ← a F(N(x)) + b (x + x A B),  (a, b) = 2 softmax(w),  rank 16;  w = 0, B = 0, A of orthogonal columns at init",
    citation="Menghani et al., LAuReL: Learned Augmented Residual Layer (2411.07501), RW and LR together; init as in a re-implementation",
    year=2024,
    evidence="secondary",
    block=lambda site, norm: tuple(At(kind, Laurel(norm, RANK)) for kind in site.sublayers),
    ends=final,
    traps=(
        "Pre-LN's function at init, B being 0. A has no gradient in the first step.",
        "The paper asks that a and b be bounded and does not say how; twice a softmax starts both at 1.",
        "Gemma 3n's LAuReL is another: a normed low-rank branch on the normed input of attention, and a division by √2.",
    ),
    predictions=theory.LAUREL,
)

SCHEMES = (laurel,)
