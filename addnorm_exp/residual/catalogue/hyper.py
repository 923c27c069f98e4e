"""Schemes that mix streams by learned weights: copies of the stream (hyper-connections), or parts of it.

Weights that start as a pattern (a unit vector, the identity) are kept as their distance from it, which starts at 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx

from addnorm_exp.residual import norms
from addnorm_exp.residual.catalogue import theory
from addnorm_exp.residual.catalogue.placement import final
from addnorm_exp.residual.contract import Connection, Context, Site
from addnorm_exp.residual.init import Init, parameter
from addnorm_exp.residual.norms import NormSpec
from addnorm_exp.residual.plan import At
from addnorm_exp.residual.scheme import Scheme

Streams = tuple[jax.Array, ...]
ZERO = Init.constant(0.0)


def weighted(weights: Sequence[jax.Array], streams: Sequence[jax.Array]) -> jax.Array:
    """`Σ w_i x_i`, each weight one number or one a token, (tokens, 1); the sum in float32."""
    total = sum(weight * stream.astype(jnp.float32) for weight, stream in zip(weights, streams, strict=True))
    return jnp.asarray(total).astype(streams[0].dtype)


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
            self.dynamic_alpha = parameter((width, reads + streams), ZERO, "coefficient", rngs)
            self.dynamic_beta = parameter((width, 1), ZERO, "coefficient", rngs)
            self.scale_alpha = parameter((), Init.constant(0.01), "coefficient", rngs)
            self.scale_beta = parameter((), Init.constant(0.01), "coefficient", rngs)

    def __call__(self, streams: Streams, first_read: jax.Array) -> tuple[Streams, Streams, list[jax.Array]]:
        """→ what is read, the streams mixed, and the weight of the branch in each of them."""
        count = len(streams)
        alpha = self.alpha[...] + jnp.concatenate([first_read, jnp.eye(count)], axis=1)
        rows, betas = list(alpha), list(self.beta[...])  # each stream's weights in all that is made of it
        if self.dynamic:
            for i, stream in enumerate(streams):
                seen = norms.apply(self.norm, stream).astype(jnp.float32)
                moved = jnp.tanh(seen @ self.dynamic_alpha[...]) * self.scale_alpha[...]
                rows[i] = jnp.moveaxis(alpha[i] + moved, -1, 0)[..., None]
                betas[i] = betas[i] + jnp.tanh(seen @ self.dynamic_beta[...]) * self.scale_beta[...]
        made = [weighted([row[c] for row in rows], streams) for c in range(self.reads + count)]
        return tuple(made[: self.reads]), tuple(made[self.reads :]), betas


@dataclass(frozen=True)
class Hyper:
    """A hyper-connection around one sublayer; `active` is the stream that it reads at first."""

    norm: NormSpec
    streams: int
    active: int
    dynamic: bool
    writes = "x_i ← Σ_j A_r[j, i] x_j + B_i F"

    @property
    def reads(self) -> str:
        return "h = N(Σ_i A_m[i] x_i)" + (",  weights by token" if self.dynamic else "")

    def connect(self, site: Site, width: int, rngs: nnx.Rngs, shared: dict[str, nnx.Param]) -> "HyperConnection":
        del site, shared
        return HyperConnection(self, width, rngs)


class HyperConnection(Connection):
    """The state is n arrays."""

    def __init__(self, record: Hyper, width: int, rngs: nnx.Rngs):
        self.active = record.active
        self.mixing = Mixing(record.streams, 1, width, record.norm if record.dynamic else None, rngs)
        self.pre = norms.make(record.norm, width, rngs)

    def read(self, state: Streams, context: Context) -> tuple[jax.Array, tuple]:
        del context
        (stream,), *kept = self.mixing(state, jnp.eye(len(state))[:, self.active : self.active + 1])
        return stream, tuple(kept)

    def enter(self, stream: jax.Array) -> jax.Array:
        return norms.apply(self.pre, stream)

    def write(self, state: Streams, branch: jax.Array, kept: tuple, context: Context) -> Streams:
        del state, context
        mixed, betas = kept
        return tuple(stream + (beta * branch).astype(branch.dtype) for stream, beta in zip(mixed, betas, strict=True))


@dataclass(frozen=True)
class Copies:
    """`n` copies of the embedding; `y = N(Σ x_i)`."""

    streams: int
    closing: NormSpec

    def connect(self, width: int, rngs: nnx.Rngs) -> "CopiesModule":
        return CopiesModule(self, width, rngs)


class CopiesModule(nnx.Module):
    def __init__(self, ends: Copies, width: int, rngs: nnx.Rngs):
        self.streams, self.closing = ends.streams, norms.make(ends.closing, width, rngs)

    def open(self, x0: jax.Array, context: Context) -> Streams:
        del context
        return (x0,) * self.streams

    def close(self, state: Streams, context: Context) -> jax.Array:
        del context
        return norms.apply(self.closing, weighted([jnp.ones(())] * len(state), state))


def number(site: Site, kind: str) -> int:
    """Sublayers that come before this one in its stack."""
    return site.block * len(site.sublayers) + site.sublayers.index(kind)


def hyper_block(streams: int, dynamic: bool):
    def block(site: Site, norm: NormSpec) -> tuple[At, ...]:
        return tuple(At(kind, Hyper(norm, streams, number(site, kind) % streams, dynamic)) for kind in site.sublayers)

    return block


STREAMS = 4  # of the papers' main results

hyper_static = Scheme(
    name="hyper_static",
    title="Static hyper-connections",
    family="streams",
    equation="u = A_mᵀ X,  X ← A_rᵀ X + B F(N(u)),  y = N(Σ_i X_i);  n = 4 streams;  A_m = e_(k mod n), A_r = I, B = 1 at init",
    citation="Zhu et al., Hyper-Connections (2409.19606), eqs. 2–5 and 14",
    year=2024,
    evidence="secondary",
    block=hyper_block(STREAMS, dynamic=False),
    ends=lambda norm: Copies(STREAMS, norm),
    traps=(
        "Pre-LN's function at init. Nothing bounds a product of A_r over depth; it was seen to reach 3000 in a 27B model (2512.24880).",
        "The paper is said to scale the init of output projections by √n (not verified); here they keep their law.",
        "The connection's weights are not decayed.",
    ),
    predictions=theory.HYPER,
)

hyper = Scheme(
    name="hyper",
    title="Hyper-connections",
    family="streams",
    equation="as hyper_static, and s tanh(N(X) W) added to A_m, A_r and B at every token;  W = 0, s = 0.01 at init",
    citation="Zhu et al., Hyper-Connections (2409.19606), eqs. 10–13",
    year=2024,
    evidence="secondary",
    block=hyper_block(STREAMS, dynamic=True),
    ends=lambda norm: Copies(STREAMS, norm),
    traps=(
        "The norm under tanh has a gain (and bias) of its own; re-implementations take RMSNorm for it where the paper has LayerNorm.",
        "Pre-LN's function at init. Nothing bounds a product of A_r over depth; it was seen to reach 3000 in a 27B model (2512.24880).",
        "s has no gradient in the first step, for W is 0.",
    ),
    predictions=theory.HYPER,
)


@dataclass(frozen=True)
class Frac:
    """A hyper-connection between the fractions of one stream: each reads all, and takes up its own part of the branch."""

    norm: NormSpec
    fractions: int
    reads = "h = N(concat_c Σ_i Y[i, c] x_i),  x_i the fractions of x"
    writes = "x_i ← Σ_j A_r[j, i] x_j + B_i F_i"

    def connect(self, site: Site, width: int, rngs: nnx.Rngs, shared: dict[str, nnx.Param]) -> "FracConnection":
        del site, shared
        return FracConnection(self, width, rngs)


class FracConnection(Connection):
    """The state is the stream, one array."""

    def __init__(self, record: Frac, width: int, rngs: nnx.Rngs):
        self.fractions = record.fractions
        self.mixing = Mixing(record.fractions, record.fractions, width // record.fractions, record.norm, rngs)
        self.pre = norms.make(record.norm, width, rngs)

    def read(self, state: jax.Array, context: Context) -> tuple[jax.Array, tuple]:
        del context
        read, *kept = self.mixing(self._split(state), jnp.eye(self.fractions))
        return jnp.concatenate(read, axis=-1), tuple(kept)

    def enter(self, stream: jax.Array) -> jax.Array:
        return norms.apply(self.pre, stream)

    def write(self, state: jax.Array, branch: jax.Array, kept: tuple, context: Context) -> jax.Array:
        del state, context
        parts = zip(*kept, self._split(branch), strict=True)
        return jnp.concatenate([mixed + (beta * part).astype(part.dtype) for mixed, beta, part in parts], axis=-1)

    def _split(self, x: jax.Array) -> Streams:
        return tuple(jnp.split(x, self.fractions, axis=-1))


FRACTIONS = 2

frac = Scheme(
    name="frac",
    title="Frac-connections",
    family="streams",
    equation="x = (x_1 … x_m):  u = Yᵀ x,  x ← A_rᵀ x + B ⊙ F(N(u)),  y = N(x);  m = 2;  Y = A_r = I, B = 1 at init;  dynamic as hyper",
    citation="Zhu et al., Frac-Connections (2503.14125); form and init as in a re-implementation of 2026",
    year=2025,
    evidence="secondary",
    block=lambda site, norm: tuple(At(kind, Frac(norm, FRACTIONS)) for kind in site.sublayers),
    ends=final,
    traps=(
        "The stream is not widened; width must be a multiple of m.",
        "The paper's large models have m = 4; the controlled comparison that the literature has (38M to 304M) has m = 2, taken here.",
        "Pre-LN's function at init.",
    ),
    predictions=theory.FRAC,
)


SCHEMES = (hyper_static, hyper, frac)
