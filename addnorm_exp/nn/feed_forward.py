"""The feed-forward sublayer as a body of the residual contract."""

import jax
from flax import nnx

from addnorm_exp.nn.layers import Inits, Linear, fused
from addnorm_exp.residual.contract import Context, Memo, Stats

ACTIVATIONS = ("gelu", "swiglu", "relu")


class FeedForward(nnx.Module):
    """`W_2 act(W_1 x)`: gelu (Hendrycks & Gimpel 2016, tanh form, as in GPT-2), relu (Vaswani 2017), or
    `W_2 (silu(W_g x) ⊙ W_1 x)`: swiglu (Shazeer 2020, 2002.05202, eq. 6). `W_1`, `W_g`, `W_2` are `up`, `gate`, `down`.
    """

    def __init__(self, width: int, hidden: int, activation: str, inits: Inits, *, bias: bool, rngs: nnx.Rngs):
        self.activation = activation
        self.up = Linear(width, hidden, inits("up", width, hidden), bias=bias, rngs=rngs)
        gated = activation == "swiglu"
        self.gate = Linear(width, hidden, inits("gate", width, hidden), bias=bias, rngs=rngs) if gated else None
        self.down = Linear(hidden, width, inits("down", hidden, width), bias=bias, rngs=rngs)

    def __call__(self, x: jax.Array, memo: Memo, context: Context) -> tuple[jax.Array, Memo, Stats]:
        del context
        if self.gate is not None:
            gate, up = fused(x, (self.gate, self.up))
            hidden = jax.nn.silu(gate) * up
        else:
            up = self.up(x)
            hidden = jax.nn.gelu(up) if self.activation == "gelu" else jax.nn.relu(up)
        return self.down(hidden), memo, {}
