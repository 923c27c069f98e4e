"""Schemes that put a gate where the sum stands: a learned mixture of the stream and of what the sublayer says, for each coordinate."""

import jax
import jax.numpy as jnp
from flax import nnx

from addnorm_exp.residual import norms
from addnorm_exp.residual.broadcast import across
from addnorm_exp.residual.catalogue.parts import final, no_ends
from addnorm_exp.residual.contract import PreNormed, Topology
from addnorm_exp.residual.init import Init, linear, parameter
from addnorm_exp.residual.norms import NormSpec
from addnorm_exp.residual.plan import At
from addnorm_exp.residual.scheme import Scheme


def _square(width: int, rngs: nnx.Rngs) -> nnx.Param:
    """A gate's matrix; the law is Xavier's whatever that of the sublayers."""
    return parameter((width, width), linear("xavier", width, width), "matrix", rngs)


def _times(x: jax.Array, kernel: nnx.Param) -> jax.Array:
    return x @ kernel[...].astype(x.dtype)


class _Gated(PreNormed):
    norm: norms.Norm | None

    def enter(self, stream: jax.Array) -> jax.Array:
        return norms.apply(self.norm, stream)


class GRUGateConnection(_Gated):
    """The gate of a GRU (Cho 2014), the stream x in the place of the state and y = ReLU(F(N(x))) in that of the input:

    r = σ(W_r y + U_r x),  z = σ(W_z y + U_z x - b),  ĥ = tanh(W_g y + U_g (r ⊙ x)),  x ← (1 - z) ⊙ x + z ⊙ ĥ.
    """

    reads, writes = "N(x)", "x ← GRU(x, ReLU(F))"

    def __init__(self, width: int, rngs: nnx.Rngs, *, norm: NormSpec, bias: float = 2.0):
        self.norm = norms.make(norm, width, rngs)
        self.branch = nnx.Dict({name: _square(width, rngs) for name in ("reset", "update", "candidate")})
        self.stream = nnx.Dict({name: _square(width, rngs) for name in ("reset", "update", "candidate")})
        self.bias = parameter((width,), Init.constant(bias), "bias", rngs)

    def leave(self, branch: jax.Array) -> jax.Array:
        return jax.nn.relu(branch)

    def write(self, state: jax.Array, branch: jax.Array, kept: None) -> jax.Array:
        x, y, w, u = state, branch, self.branch, self.stream
        reset = jax.nn.sigmoid(_times(y, w["reset"]) + _times(x, u["reset"]))
        update = jax.nn.sigmoid(
            _times(y, w["update"]) + _times(x, u["update"]) - across(self.bias[...].astype(x.dtype), x)
        )
        candidate = jnp.tanh(_times(y, w["candidate"]) + _times(reset * x, u["candidate"]))
        return (1.0 - update) * x + update * candidate


gtrxl = Scheme(
    name="gtrxl",
    title="GTrXL",
    family="gated",
    equation="y = ReLU(F(N(x))),  x ← (1 - z) ⊙ x + z ⊙ ĥ;  r = σ(W_r y + U_r x),  z = σ(W_z y + U_z x - b),  "
    "ĥ = tanh(W_g y + U_g (r ⊙ x)),  b = 2 at init",
    citation="Parisotto et al., Stabilizing Transformers for Reinforcement Learning (1910.06764), §3.2; b and the ends as in DI-engine",
    year=2019,
    evidence="secondary",
    block=lambda site, norm: tuple(At(kind, Topology(GRUGateConnection, norm=norm)) for kind in site.sublayers),
    ends=no_ends,
    traps=(
        "A gate has 6 d² parameters, so the two gates of a block have as many as the block (12 d²): compare at equal parameters too.",
        "b > 0 starts near the identity: z = σ(-2) = 0.12 of the candidate is added.",
        "No final norm; the stream stays bounded because the candidate is bounded.",
        "The gates' matrices follow Xavier's law here, whatever the law of the sublayers; no source gives one.",
        "The paper sits in Transformer-XL with memory; this record is its residual part.",
    ),
)


class HighwayGateConnection(_Gated):
    """t = σ(W x + b),  x ← t ⊙ F(N(x)) + (1 - t) ⊙ x (Srivastava 2015)."""

    reads, writes = "N(x)", "x ← t ⊙ F + (1 - t) ⊙ x"

    def __init__(self, width: int, rngs: nnx.Rngs, *, norm: NormSpec, bias: float = -2.0):
        self.norm = norms.make(norm, width, rngs)
        self.kernel = _square(width, rngs)
        self.bias = parameter((width,), Init.constant(bias), "bias", rngs)

    def write(self, state: jax.Array, branch: jax.Array, kept: None) -> jax.Array:
        transform = jax.nn.sigmoid(_times(state, self.kernel) + across(self.bias[...].astype(state.dtype), state))
        return transform * branch + (1.0 - transform) * state


highway = Scheme(
    name="highway",
    title="Highway",
    family="gated",
    equation="t = σ(W x + b),  x ← t ⊙ F(N(x)) + (1 - t) ⊙ x,  y = N(x);  b = -2 at init",
    citation="Srivastava et al., Highway Networks (1505.00387), eq. 3; as a gate of Transformers Parisotto et al. (1910.06764)",
    year=2015,
    evidence="secondary",
    block=lambda site, norm: tuple(At(kind, Topology(HighwayGateConnection, norm=norm)) for kind in site.sublayers),
    ends=final,
    traps=(
        "The norms before F and at the end are Pre-LN's; the paper of 2015 has none.",
        "The paper starts b at -1 to -3 by depth; here -2, whose gate is GTrXL's at init.",
        "1 - t scales the stream, so old content fades with depth.",
    ),
)

SCHEMES = (
    gtrxl,
    highway,
)
