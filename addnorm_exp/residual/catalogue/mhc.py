"""Manifold-constrained hyper-connections: streams that mix by doubly stochastic matrices."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx

from addnorm_exp.residual import norms
from addnorm_exp.residual.catalogue import theory
from addnorm_exp.residual.catalogue.hyper import STREAMS, ZERO, Copies, Streams, weighted
from addnorm_exp.residual.contract import Connection, Context, Site
from addnorm_exp.residual.init import Init, parameter
from addnorm_exp.residual.norms import NormSpec
from addnorm_exp.residual.plan import At
from addnorm_exp.residual.scheme import Scheme

ITERATIONS = 20  # of Sinkhorn and Knopp, the paper's t_max
EPS = 1e-6  # of the norm over all streams


@dataclass(frozen=True)
class Manifold:
    """An mHC connection around one sublayer."""

    norm: NormSpec
    streams: int
    reads = "h = N(Σ_i H_pre[i] x_i),  H by token"
    writes = "x_i ← Σ_j H_res[i, j] x_j + H_post[i] F"

    def connect(self, site: Site, width: int, rngs: nnx.Rngs, shared: dict[str, nnx.Param]) -> "ManifoldConnection":
        del site, shared
        return ManifoldConnection(self, width, rngs)


class ManifoldConnection(Connection):
    """The state is n arrays. φ (n·width, n + n + n²), b and α hold the parts of H_pre, H_post and H_res side by side."""

    def __init__(self, record: Manifold, width: int, rngs: nnx.Rngs):
        n = record.streams
        self.phi = parameter((n * width, n * (n + 2)), Init("normal", 0.02), "coefficient", rngs)
        self.bias = parameter((n * (n + 2),), ZERO, "coefficient", rngs)
        self.scale = parameter((3,), Init.constant(0.01), "coefficient", rngs)
        self.pre = norms.make(record.norm, width, rngs)

    def read(self, state: Streams, context: Context) -> tuple[jax.Array, tuple]:
        del context
        pre, post, res = self._maps(state)
        return weighted(list(pre), state), (post, res)

    def enter(self, stream: jax.Array) -> jax.Array:
        return norms.apply(self.pre, stream)

    def write(self, state: Streams, branch: jax.Array, kept: tuple, context: Context) -> Streams:
        del context
        post, res = kept
        return tuple(weighted([*row, gain], [*state, branch]) for row, gain in zip(res, post, strict=True))

    def _maps(self, state: Streams) -> tuple[jax.Array, jax.Array, jax.Array]:
        """H_pre (n, tokens, 1), H_post likewise, H_res (n, n, tokens, 1), float32."""
        n = len(state)
        # The norm of the joined streams has no gain: it commutes with φ, and the streams need not be joined.
        joined = [stream.astype(jnp.float32) for stream in state]
        square = sum(jnp.mean(jnp.square(stream), -1, keepdims=True) for stream in joined) / n
        rows = jnp.split(self.phi[...], n)
        seen = sum(stream @ row for stream, row in zip(joined, rows, strict=True)) * jax.lax.rsqrt(square + EPS)
        scale = jnp.repeat(self.scale[...], jnp.array([n, n, n * n]), total_repeat_length=n * (n + 2))
        logits = jnp.moveaxis(scale * seen + self.bias[...], -1, 0)[..., None]
        pre, post, res = jnp.split(logits, [n, 2 * n])
        return jax.nn.sigmoid(pre), 2.0 * jax.nn.sigmoid(post), sinkhorn(res.reshape(n, n, *res.shape[1:]))


def sinkhorn(logits: jax.Array) -> jax.Array:
    """The matrices of the first two axes, exponentiated, their columns and then their rows divided by their sums, 20 times."""
    # A factor on the whole matrix is gone with the first division; without it nothing overflows.
    start = jnp.exp(logits - jax.lax.stop_gradient(jnp.max(logits, axis=(0, 1), keepdims=True)))

    def once(matrix: jax.Array, _: None) -> tuple[jax.Array, None]:
        matrix = matrix / jnp.sum(matrix, axis=0, keepdims=True)
        return matrix / jnp.sum(matrix, axis=1, keepdims=True), None

    return jax.lax.scan(once, start, None, length=ITERATIONS)[0]


mhc = Scheme(
    name="mhc",
    title="Manifold-constrained hyper-connections",
    family="streams",
    equation="z = RMSNorm(vec X),  H = α z φ + b:  X ← SK(H_res) X + 2σ(H_post)ᵀ F(N(σ(H_pre) X)),  y = N(Σ_i X_i);  n = 4",
    citation="Xie et al., mHC: Manifold-Constrained Hyper-Connections (2512.24880), eqs. 5–9",
    year=2025,
    evidence="paper",
    block=lambda site, norm: tuple(At(kind, Manifold(norm, STREAMS)) for kind in site.sublayers),
    ends=lambda norm: Copies(STREAMS, norm),
    traps=(
        "Init of φ and b is not published: φ ~ N(0, 0.02²), b = 0 here, α = 0.01. With φ = 0 it is Pre-LN's function, and the streams "
        "would stay equal for ever: random φ parts them.",
        "SK ends on rows: they sum to 1 exactly, columns nearly after 20 rounds. DeepSeek-V4's code starts from a softmax and ends on "
        "columns, mixes by the transpose, and reads the streams out by learned weights; ports differ by 0.7 in the output at init.",
        "φ, b and α are not decayed.",
    ),
    predictions=theory.MHC,
)

SCHEMES = (mhc,)
