"""The connection of mHC: streams mixed by matrices that are doubly stochastic, by Sinkhorn and Knopp."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from addnorm_exp.residual import norms
from addnorm_exp.residual.broadcast import across
from addnorm_exp.residual.catalogue.mixing import ZERO, Streams, weighted
from addnorm_exp.residual.contract import PreNormed
from addnorm_exp.residual.init import Init, parameter
from addnorm_exp.residual.norms import NormSpec
from addnorm_exp.residual.variables import Constant

ITERATIONS = 20  # of Sinkhorn and Knopp, the paper's t_max


EPS = 1e-20  # of every norm (table 5)


def paper_bias(streams: int, home: int) -> np.ndarray:
    """b at init by the paper's v2, appendix A.6: of H_pre 3 for the stream `home` and -3 for the others, of H_post 0, of H_res
    6I - 3. (n + n + n²,), float32."""
    own = np.eye(streams, dtype=np.float32)
    return np.concatenate([6 * own[home] - 3, 0 * own[home], (6 * own - 3).ravel()])


class ManifoldConnection(PreNormed):
    """An mHC connection around one sublayer. `home` is the stream that it reads at first; `None` reads all alike (b = 0).

    The state is n arrays. φ (n·width, n + n + n²), b and α hold the parts of H_pre, H_post and H_res side by side. b is kept as its
    distance from `paper_bias`, where there is a home stream.
    """

    reads, writes = "h = N(Σ_i H_pre[i] x_i),  H by token", "x_i ← Σ_j H_res[i, j] x_j + H_post[i] F"

    def __init__(self, width: int, rngs: nnx.Rngs, *, norm: NormSpec, streams: int, home: int | None = None):
        n = streams
        self.phi = parameter((n * width, n * (n + 2)), Init("normal", 0.02), "coefficient", rngs)
        self.bias = parameter((n * (n + 2),), ZERO, "coefficient", rngs)
        self.first = None if home is None else Constant(paper_bias(n, home))
        self.scale = parameter((3,), Init.constant(0.01), "coefficient", rngs)
        self.pre = norms.make(norm, width, rngs)

    def read(self, state: Streams) -> tuple[jax.Array, tuple]:
        pre, post, res = self._maps(state)
        return weighted(list(pre), state), (post, res)

    def write(self, state: Streams, branch: jax.Array, kept: tuple) -> Streams:
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
        scale = jnp.repeat(self.scale[...], jnp.array([n, n, n * n], jnp.int32), total_repeat_length=n * (n + 2))
        bias = self.bias[...] if self.first is None else self.bias[...] + self.first.fixed
        logits = jnp.moveaxis(across(scale, seen) * seen + across(bias, seen), -1, 0)[..., None]
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
