"""Full attention residuals (Kimi 2026, 2603.15031): each sublayer reads `Σ_i a_i v_i` over x0 and all earlier outputs, with
`a = softmax_i(wᵀ RMSNorm(v_i))`. The state is the history, a tuple that grows by one a sublayer; writing is appending."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from addnorm_exp.residual import At, Connection, NormSpec, Scheme, norms
from addnorm_exp.residual.init import Init, parameter


class DepthAttention(Connection):
    """A connection, and with `close` the end that reads the history once more."""

    def __init__(self, norm: NormSpec, width: int, rngs):
        self.query = parameter((width,), Init.constant(0.0), "coefficient", rngs)
        self.key_norm = norms.make(norms.RMS, width, rngs)
        self.norm = norms.make(norm, width, rngs)

    def read(self, state, context):
        values = jnp.stack(state)
        weights = jax.nn.softmax(self.key_norm(values) @ self.query[...], axis=0)
        return norms.apply(self.norm, jnp.einsum("i...,i...d->...d", weights, values)), None

    def write(self, state, branch, kept, context):
        return (*state, branch)

    def open(self, x0, context):
        return (x0,)

    def close(self, state, context):
        return self.read(state, context)[0]


@dataclass(frozen=True)
class ReadHistory:
    norm: NormSpec

    def connect(self, *where):
        """As a rule of a site (site, width, rngs, shared), and as the ends (width, rngs)."""
        width, rngs = where[-3:-1] if len(where) == 4 else where
        return DepthAttention(self.norm, width, rngs)


scheme = Scheme(
    "attention_residuals", "Attention residuals", "history", "h_s = Σ a_i v_i, v_s = F_s(N(h_s))", "2603.15031", 2026, "paper",
    lambda site, norm: tuple(At(kind, ReadHistory(norm)) for kind in site.sublayers), ReadHistory, norm=norms.RMS,
)  # fmt: skip
