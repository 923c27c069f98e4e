"""Schemes that mix streams by learned weights: copies of the stream (hyper-connections), or parts of it;
free ones, and ones that keep to doubly stochastic matrices (mHC).

Weights that start as a pattern (a unit vector, the identity) are kept as their distance from it, which starts at 0.
"""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from addnorm_exp.residual import norms
from addnorm_exp.residual.broadcast import across
from addnorm_exp.residual.catalogue import theory
from addnorm_exp.residual.catalogue.manifold import EPS, ManifoldConnection
from addnorm_exp.residual.catalogue.mixing import ZERO, Streams, copies, weighted
from addnorm_exp.residual.catalogue.parts import before, final
from addnorm_exp.residual.contract import PreNormed, Site, Topology
from addnorm_exp.residual.init import Init, parameter
from addnorm_exp.residual.norms import NormSpec
from addnorm_exp.residual.plan import At
from addnorm_exp.residual.scheme import Scheme
from addnorm_exp.residual.variables import Constant

STREAMS = 4  # of the papers' main results


class Mixing(nnx.Module):
    """The matrix of a hyper-connection: what is read of n streams, how they mix, and how they take the branch up.

    `A_m` (n, reads) and `A_r` (n, n) are the columns of `alpha`, `B` (n,) is `beta`. `A_m` starts as `first_read`, `A_r` as the identity,
    `B` as 1. With `dynamic`, `s tanh(N(x_i) W)` is added for each token and stream i, W = 0 and s = 0.01 at first.
    """

    def __init__(self, streams: int, reads: int, width: int, dynamic: NormSpec | None, rngs: nnx.Rngs):
        self.reads = reads
        self.alpha = parameter((streams, reads + streams), ZERO, "coefficient", rngs)
        self.beta = parameter((streams,), Init.constant(1.0), "coefficient", rngs)
        self.dynamic = dynamic is not None
        if self.dynamic:
            self.norm = norms.make(dynamic, width, rngs)
            self.dynamic_alpha = parameter((width, reads + streams), ZERO, "matrix", rngs)
            self.dynamic_beta = parameter((width, 1), ZERO, "matrix", rngs)
            self.scale_alpha = parameter((), Init.constant(0.01), "coefficient", rngs)
            self.scale_beta = parameter((), Init.constant(0.01), "coefficient", rngs)

    def __call__(self, streams: Streams, first_read: jax.Array) -> tuple[Streams, Streams, list[jax.Array]]:
        """→ what is read, the streams mixed, and the weight of the branch in each of them."""
        count = len(streams)
        alpha = self.alpha[...] + jnp.concatenate([first_read, jnp.eye(count, dtype=jnp.float32)], axis=1)
        rows, betas = list(alpha), list(self.beta[...])  # each stream's weights in all that is made of it
        if self.dynamic:
            for i, stream in enumerate(streams):
                seen = norms.apply(self.norm, stream).astype(jnp.float32)
                moved = jnp.tanh(seen @ self.dynamic_alpha[...]) * self.scale_alpha[...]
                rows[i] = jnp.moveaxis(across(alpha[i], moved) + moved, -1, 0)[..., None]
                betas[i] = betas[i] + jnp.tanh(seen @ self.dynamic_beta[...]) * self.scale_beta[...]
        sums = [weighted([row[c] for row in rows], streams) for c in range(self.reads + count)]
        return tuple(sums[: self.reads]), tuple(sums[self.reads :]), betas


class HyperConnection(PreNormed):
    """A hyper-connection around one sublayer; `active` is the stream that it reads at first. The state is n arrays."""

    writes = "x_i ← Σ_j A_r[j, i] x_j + B_i F"

    @staticmethod
    def reads(dynamic: bool, **_: Any) -> str:
        return "h = N(Σ_i A_m[i] x_i)" + (",  weights by token" if dynamic else "")

    def __init__(self, width: int, rngs: nnx.Rngs, *, norm: NormSpec, streams: int, active: int, dynamic: bool):
        self.first_read = Constant(np.eye(streams, dtype=np.float32)[:, active : active + 1])
        self.mixing = Mixing(streams, 1, width, norm if dynamic else None, rngs)
        self.pre = norms.make(norm, width, rngs)

    def read(self, state: Streams) -> tuple[jax.Array, tuple]:
        (stream,), *kept = self.mixing(state, self.first_read.fixed)
        return stream, tuple(kept)

    def write(self, state: Streams, branch: jax.Array, kept: tuple) -> Streams:
        mixed, betas = kept
        return tuple(
            stream + (beta * branch.astype(jnp.float32)).astype(branch.dtype)
            for stream, beta in zip(mixed, betas, strict=True)
        )


def hyper_block(streams: int, dynamic: bool):
    def block(site: Site, norm: NormSpec) -> tuple[At, ...]:
        def at(kind: str) -> At:
            active = before(site, kind) % streams
            return At(kind, Topology(HyperConnection, norm=norm, streams=streams, active=active, dynamic=dynamic))

        return tuple(map(at, site.sublayers))

    return block


_TRAPS = (
    "Pre-LN's function at init. Nothing bounds a product of A_r over depth; it was seen to reach 3000 in a 27B model (2512.24880).",
    "At init the paper scales the deviation of W_o and W_2 'by a factor of √n' (§4), to keep that of the summed streams. Times or over "
    "it does not say; re-implementations divide. Here both keep their law, so that it starts as Pre-LN's function of Pre-LN's weights.",
)

hyper_static = Scheme(
    name="hyper_static",
    title="Static hyper-connections",
    family="hyper-connections",
    equation="u = A_mᵀ X,  X ← A_rᵀ X + B F(N(u)),  y = N(Σ_i X_i);  n = 4 streams;  A_m = e_(k mod n), A_r = I, B = 1 at init",
    citation="Zhu et al., Hyper-Connections (2409.19606), eqs. 2–5 and 14",
    year=2024,
    evidence="paper",
    block=hyper_block(STREAMS, dynamic=False),
    ends=lambda norm: copies(norm, STREAMS),
    traps=(
        *_TRAPS,
        "The connection's weights are not decayed (§4).",
    ),
    predictions=theory.HYPER,
)


hyper = Scheme(
    name="hyper",
    title="Hyper-connections",
    family="hyper-connections",
    equation="as hyper_static, and s tanh(N(X) W) added to A_m, A_r and B at every token;  W = 0, s = 0.01 at init",
    citation="Zhu et al., Hyper-Connections (2409.19606), eqs. 10–13",
    year=2024,
    evidence="paper",
    block=hyper_block(STREAMS, dynamic=True),
    ends=lambda norm: copies(norm, STREAMS),
    traps=(
        "The norm under tanh has a gain (and bias) of its own; re-implementations take RMSNorm for it where the paper has LayerNorm.",
        *_TRAPS,
        "W, which makes the weights by token, is decayed; A_m, A_r, B and s are not (§4).",
        "s has no gradient in the first step, because W is 0.",
    ),
    predictions=theory.HYPER,
)


class FracConnection(PreNormed):
    """A hyper-connection between the fractions of one stream: each reads all, and takes up its own part of the branch. The state is the
    stream, one array."""

    reads, writes = "h = N(concat_c Σ_i Y[i, c] x_i),  x_i the fractions of x", "x_i ← Σ_j A_r[j, i] x_j + B_i F_i"

    @staticmethod
    def fractions(parts: int, **_: Any) -> int:
        return parts

    def __init__(self, width: int, rngs: nnx.Rngs, *, norm: NormSpec, parts: int):
        self.parts = parts
        self.mixing = Mixing(parts, parts, width // parts, norm, rngs)
        self.pre = norms.make(norm, width, rngs)

    def read(self, state: jax.Array) -> tuple[jax.Array, tuple]:
        read, *kept = self.mixing(self._split(state), jnp.eye(self.parts, dtype=jnp.float32))
        return jnp.concatenate(read, axis=-1), tuple(kept)

    def write(self, state: jax.Array, branch: jax.Array, kept: tuple) -> jax.Array:
        parts = zip(*kept, self._split(branch), strict=True)
        return jnp.concatenate(
            [mixed + (beta * part.astype(jnp.float32)).astype(part.dtype) for mixed, beta, part in parts], axis=-1
        )

    def _split(self, x: jax.Array) -> Streams:
        return tuple(jnp.split(x, self.parts, axis=-1))


PARTS = 2


frac = Scheme(
    name="frac",
    title="Frac-connections",
    family="hyper-connections",
    equation="x = (x_1 … x_m):  u = Yᵀ x,  x ← A_rᵀ x + B ⊙ F(N(u)),  y = N(x);  m = 2;  Y = A_r = I, B = 1 at init;  dynamic as hyper",
    citation="Zhu et al., Frac-Connections (2503.14125), eqs. 8 and 12–15",
    year=2025,
    evidence="paper",
    block=lambda site, norm: tuple(
        At(kind, Topology(FracConnection, norm=norm, parts=PARTS)) for kind in site.sublayers
    ),
    ends=final,
    traps=(
        "The stream is not widened; width must be a multiple of m.",
        "The paper's large models have m = 4; the controlled comparison that the literature has (38M to 304M) has m = 2, taken here.",
        "Pre-LN's function at init. W is decayed, Y, A_r and B are not (§4.3).",
    ),
    predictions=theory.FRAC,
)


_MHC_TRAPS = (
    "SK ends on rows: they sum to 1 exactly, columns nearly after 20 rounds. Ports disagree on the order.",
    "DeepSeek-V4's code starts SK from a softmax, ends on columns and mixes by the transpose: with the logits of H_res transposed and "
    "no ε this is the same function. What differs there is ε = 1e-6, added to H_pre and inside SK, α = 1 at init, and a learned "
    "readout in place of the sum.",
    "φ, b and α are not decayed here, φ being a matrix too; the paper trains with weight decay 0.1 and does not say of what.",
)


def manifold_block(site: Site, norm: NormSpec) -> tuple[At, ...]:
    def at(kind: str) -> At:
        home = before(site, kind) % STREAMS
        return At(kind, Topology(ManifoldConnection, norm=norm, streams=STREAMS, home=home))

    return tuple(map(at, site.sublayers))


mhc = Scheme(
    name="mhc",
    title="Manifold-constrained hyper-connections",
    family="hyper-connections",
    equation="z = RMSNorm(vec X),  H = α z φ + b:  X ← SK(H_res) X + 2σ(H_post)ᵀ F(N(σ(H_pre) X)),  y = N(Σ_i X_i);  n = 4;  "
    "b_pre = 3 for stream k mod n and -3 for the others, b_post = 0, b_res = 6I - 3 at init",
    citation="Xie et al., mHC: Manifold-Constrained Hyper-Connections (2512.24880), eqs. 5–9, table 5 and, of its v2, appendix A.6",
    year=2025,
    evidence="paper",
    block=manifold_block,
    ends=lambda norm: copies(norm, STREAMS),
    norm=replace(norms.RMS, eps=EPS),
    traps=(
        "α = 0.01 at init is table 5's. b at init is that of v2, A.6, known here from a port that carries it over. The home stream of "
        "sublayer k is read as k mod n, as in hyper-connections. φ ~ N(0, 0.02²) is ours.",
        "With φ = 0 it is Pre-RMSNorm's function at init: equal streams are mixed and written alike.",
        "Ports start otherwise: b_pre = logit(1/n) and b_res = 10 I, or biases of 0 and -8. `mhc_zero` starts at b = 0.",
        *_MHC_TRAPS,
    ),
    predictions=theory.MHC,
)


mhc_zero = replace(
    mhc,
    name="mhc_zero",
    title="mHC, biases of 0",
    equation="as mhc, but b = 0 at init",
    citation="Xie et al., mHC: Manifold-Constrained Hyper-Connections (2512.24880), eqs. 5–9 and table 5; b = 0 is ours",
    block=lambda site, norm: tuple(
        At(kind, Topology(ManifoldConnection, norm=norm, streams=STREAMS)) for kind in site.sublayers
    ),
    traps=(
        "α = 0.01 at init is table 5's; φ ~ N(0, 0.02²) and b = 0 are ours. The init of the paper's v2 is that of `mhc`.",
        "With φ = 0 it is Pre-RMSNorm's function, and the streams would stay equal forever: a random φ separates them.",
        *_MHC_TRAPS,
    ),
    predictions=theory.MHC_ZERO,
)

SCHEMES = (
    hyper_static,
    hyper,
    frac,
    mhc,
    mhc_zero,
)
