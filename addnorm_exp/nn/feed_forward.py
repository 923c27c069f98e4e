"""The feed-forward sublayer as a body of the residual contract."""

import math

import jax
from flax import nnx
from jaxtyping import Array, Float

from addnorm_exp.nn.layers import Inits, Linear, fused
from addnorm_exp.residual import norms
from addnorm_exp.residual.broadcast import across
from addnorm_exp.residual.contract import Context, Memo, Stats
from addnorm_exp.residual.init import Init, parameter
from addnorm_exp.residual.norms import NormSpec

ACTIVATIONS = ("gelu", "swiglu", "relu")


class FeedForward(nnx.Module):
    """`W_2 act(W_1 x)`: gelu (Hendrycks & Gimpel 2016, tanh form, as in GPT-2), relu (Vaswani 2017), or
    `W_2 (silu(W_g x) ⊙ W_1 x)`: swiglu (Shazeer 2020, 2002.05202, eq. 6). `W_1`, `W_g`, `W_2` are `up`, `gate`, `down`.

    `hidden_norm` stands before `W_2`, over all hidden units (NormFormer, 2110.09456; Sub-LN, 2210.06423).
    `hidden_scale`: what enters the activation and what it gates times √width and a learned number a unit, 1 at first (nGPT's s_u and s_v,
    2410.01131, eqs. 20 and 21; √width on both as in its code).
    `shifts`: a learned scalar, 0 at first, added before the activation and one before `W_2` (Fixup, 1901.09321).
    """

    def __init__(
        self,
        width: int,
        hidden: int,
        activation: str,
        inits: Inits,
        *,
        bias: bool,
        rngs: nnx.Rngs,
        hidden_norm: NormSpec | None = None,
        hidden_scale: bool = False,
        shifts: bool = False,
    ):
        self.activation = activation
        self.up = Linear(width, hidden, inits("up", width, hidden), bias=bias, rngs=rngs)
        gated = activation == "swiglu"
        self.gate = Linear(width, hidden, inits("gate", width, hidden), bias=bias, rngs=rngs) if gated else None
        self.hidden_norm = norms.make(hidden_norm, hidden, rngs)
        one = Init.constant(1.0)
        self.up_scale = parameter((hidden,), one, "coefficient", rngs) if hidden_scale else None
        self.gate_scale = parameter((hidden,), one, "coefficient", rngs) if hidden_scale and gated else None
        self.inner_shift = parameter((), Init.constant(0.0), "coefficient", rngs) if shifts else None
        self.hidden_shift = parameter((), Init.constant(0.0), "coefficient", rngs) if shifts else None
        self.down = Linear(hidden, width, inits("down", hidden, width), bias=bias, rngs=rngs)

    def __call__(
        self, x: Float[Array, "tokens width"], memo: Memo, context: Context
    ) -> tuple[Float[Array, "tokens width"], Memo, Stats]:
        del context
        if self.gate is not None:
            gate, up = fused(x, (self.gate, self.up))
            gate, up = _scaled(gate, self.gate_scale, x.shape[-1]), _scaled(up, self.up_scale, x.shape[-1])
            hidden = jax.nn.silu(_plus(gate, self.inner_shift)) * up
        else:
            up = _plus(_scaled(self.up(x), self.up_scale, x.shape[-1]), self.inner_shift)
            hidden = jax.nn.gelu(up) if self.activation == "gelu" else jax.nn.relu(up)
        return self.down(_plus(norms.apply(self.hidden_norm, hidden), self.hidden_shift)), memo, {}


def _scaled(x: jax.Array, scale: nnx.Param | None, width: int) -> jax.Array:
    return x if scale is None else x * across((scale[...] * math.sqrt(width)).astype(x.dtype), x)


def _plus(x: jax.Array, shift: nnx.Param | None) -> jax.Array:
    return x if shift is None else x + across(shift[...].astype(x.dtype), x)
