"""Pre-LN with learned weights on the branch or on the skip."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from addnorm_exp.residual import norms
from addnorm_exp.residual.catalogue import theory
from addnorm_exp.residual.catalogue.mixing import ZERO, weighted
from addnorm_exp.residual.catalogue.parts import final
from addnorm_exp.residual.contract import PreNormed, Topology
from addnorm_exp.residual.init import parameter
from addnorm_exp.residual.norms import NormSpec
from addnorm_exp.residual.plan import At
from addnorm_exp.residual.rule import Learned, Rule
from addnorm_exp.residual.scheme import Scheme


def layerscale_init(depth: int) -> float:
    """ε of LayerScale (2103.17239): 0.1 until depth 18, 1e-5 for depth 24, 1e-6 for deeper networks.

    The paper leaves 19 to 23 open; they count as 24.
    """
    return 0.1 if depth <= 18 else 1e-5 if depth <= 24 else 1e-6


layerscale = Scheme(
    name="layerscale",
    title="LayerScale",
    family="learned residual",
    equation="x ← x + λ ⊙ F(N(x)),  y = N(x);  λ = ε at init: 0.1 to 18 blocks, 1e-5 to 24, 1e-6 beyond",
    citation="Touvron et al., Going deeper with Image Transformers (2103.17239)",
    year=2021,
    evidence="secondary",
    block=lambda site, norm: tuple(
        At(kind, Rule(pre=norm, scale=Learned(layerscale_init(site.depth), "vector"))) for kind in site.sublayers
    ),
    ends=final,
    law="normal",
    traps=(
        "ε of the released code differs from the paper's: 1e-4 by default, 1e-5 and 1e-6 in its larger models.",
        "λ is not decayed.",
        "Worse than Pre-LN in language models, in table 4 of 2502.05795 (27.93 against 26.73 perplexity at 130M).",
    ),
)


class LaurelConnection(PreNormed):
    """LAuReL-RW+LR: weights on branch and skip, and a low-rank map beside the skip. The state is the stream, one array. A is kept as
    its distance from the matrix that it starts as."""

    reads, writes = "h = N(x)", "x ← a F + b (x + x A B)"

    def __init__(self, width: int, rngs: nnx.Rngs, *, norm: NormSpec, rank: int):
        self.rank = rank
        self.down = parameter((width, rank), ZERO, "coefficient", rngs)
        self.up = parameter((rank, width), ZERO, "coefficient", rngs)
        self.weights = parameter((2,), ZERO, "coefficient", rngs)
        self.pre = norms.make(norm, width, rngs)

    def write(self, state: jax.Array, branch: jax.Array, kept: None) -> jax.Array:
        width = state.shape[-1]
        columns = np.arange(width)[:, None] % self.rank == np.arange(self.rank)
        start = jnp.asarray(columns, jnp.float32) / math.sqrt(self.rank * width)
        down, up = (start + self.down[...]).astype(state.dtype), self.up[...].astype(state.dtype)
        of_branch, of_skip = 2.0 * jax.nn.softmax(self.weights[...])
        return weighted((of_branch, of_skip), (branch, state + (state @ down) @ up))


RANK = 16


laurel = Scheme(
    name="laurel",
    title="LAuReL",
    family="learned residual",
    equation="x ← a F(N(x)) + b (x + x A B),  (a, b) = 2 softmax(w),  rank 16;  w = 0, B = 0, A of orthogonal columns at init",
    citation="Menghani et al., LAuReL: Learned Augmented Residual Layer (2411.07501), eq. 5 and §3.3, RW and LR together",
    year=2024,
    evidence="paper",
    block=lambda site, norm: tuple(
        At(kind, Topology(LaurelConnection, norm=norm, rank=RANK)) for kind in site.sublayers
    ),
    ends=final,
    traps=(
        "Pre-LN's function at init, B being 0. A has no gradient in the first step.",
        "The paper bounds a and b by a softmax or a sigmoid and gives no scale; twice a softmax, which starts both at 1, is ours.",
        "A, B and w are not decayed, A and B being matrices too; the paper does not say.",
        "Rank 16 is that of the paper's ResNet-50; its language models have 4 and 64.",
        "Gemma 3n's LAuReL is another: a normed low-rank branch on the normed input of attention, and a division by √2.",
    ),
    predictions=theory.LAUREL,
)

SCHEMES = (
    layerscale,
    laurel,
)
