"""Whole recipes, which change more than the residual connection."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from addnorm_exp.residual import norms
from addnorm_exp.residual.around import Around
from addnorm_exp.residual.broadcast import across
from addnorm_exp.residual.catalogue.parts import final, no_ends, pre
from addnorm_exp.residual.contract import Connection, Site, Topology
from addnorm_exp.residual.init import Factors, Init, Spec, parameter
from addnorm_exp.residual.norms import NormSpec
from addnorm_exp.residual.plan import At
from addnorm_exp.residual.scheme import Scheme
from addnorm_exp.residual.versioned import Values, Versioned
from addnorm_exp.residual.vocabulary import OUTPUT_ROLES


class SphereConnection(Connection):
    """nGPT's connection: a step on the unit sphere towards what the sublayer says, by a learned rate for each coordinate. The state is
    the stream, one array of unit vectors.

    The rates start at `rate`. They are stored as rate / (√width · `rate`), so that Adam's first steps are as large against them as the
    paper's are.
    """

    reads, writes = "x", "x ← Norm(x + |a| ⊙ (Norm(F) − x))"

    def __init__(self, width: int, rngs: nnx.Rngs, *, rate: float = 0.05):
        self.factor = rate * math.sqrt(width)
        self.rate = parameter((width,), Init.constant(width**-0.5), "coefficient", rngs)
        self.norm = norms.Norm(norms.L2, width, rngs=rngs)

    def read(self, state: jax.Array) -> tuple[jax.Array, jax.Array]:
        return state, state

    def leave(self, branch: jax.Array) -> jax.Array:
        return self.norm(branch)

    def write(self, state: jax.Array, branch: jax.Array, kept: jax.Array) -> jax.Array:
        rate = across(jnp.abs(self.factor * self.rate[...]), branch)
        return self.norm(kept.astype(jnp.float32) + rate * (branch - kept).astype(jnp.float32)).astype(branch.dtype)


WRITE = tuple(f"{role}/kernel" for role in OUTPUT_ROLES)  # names of the matrices that write to the stream


def project_to_the_sphere(specs: Mapping[str, Spec], parameters: Values) -> dict[str, jax.Array]:
    """Every token's embedding and every weight vector of the stream's width divided by its length.

    A weight matrix, (in, out), has the stream's width along its input, but for those that write to the stream.
    """

    def projected(path: str, value: jax.Array) -> jax.Array:
        spec = specs[path]
        if spec.group not in ("embedding", "matrix"):
            return value
        axis = 1 if spec.group == "embedding" or spec.name in WRITE else 0
        return value * jax.lax.rsqrt(jnp.sum(jnp.square(value), axis, keepdims=True))

    return {path: projected(path, value) for path, value in parameters.items()}


def sphere_options(site: Site, norm: NormSpec) -> dict[str, Any]:
    del norm
    return {"hidden_scale": True} if site.kind == "feed_forward" else {"qk_norm": "l2"}


def no_decay(site: Site, group: str) -> Factors:
    del site, group
    return Factors(decay=0.0)


ngpt = Scheme(
    name="ngpt",
    title="nGPT, the normalised Transformer",
    family="recipes",
    equation="x ← Norm(x + |a| ⊙ (Norm(F(x)) − x)), Norm = L2;  scales on q, k, hidden units and logits;  weight vectors of unit length",
    citation="Loshchilov et al., nGPT (2410.01131), §2.6, and the released code",
    year=2024,
    evidence="code",
    block=lambda site, norm: tuple(At(kind, Topology(SphereConnection)) for kind in site.sublayers),
    ends=no_ends,
    norm=norms.L2,
    law="normal",
    options=sphere_options,
    around=Around(positions_norm=norms.L2, embedding_scale="one", logit_scale=True),
    factors=no_decay,
    project=Versioned(project_to_the_sphere, version=1),
    traps=(
        "Intended with rotary positions, swiglu, no biases, a head of its own, and no warmup; set these in the config. Under rotary "
        "positions the embedding enters as it is, as in the released code: its rows have length 1 after every update, and its gradient "
        "keeps the part along the row. Learned positions are put on the sphere too, and the sum of both is normalised, before its "
        "dropout where there is one.",
        "Rotary positions here are rotations. Those of the public code are not: its logits differ by 26 % from those of any rotation.",
        "Embedding and weight matrices are divided by their lengths after each update, outside the gradient; nothing is decayed.",
        "√width stands on both halves of the hidden units as in the code; the paper is said to have it only on the gate.",
        "In a feed-forward without a gate, which nGPT does not use, the single scale stands before the activation.",
        "The public code warns that its bfloat16 weights exaggerate the gain over its baseline.",
    ),
)


def small_init(site: Site, role: str) -> float:
    """SmallInit (1910.05895, §2.2): attention's matrices of variance 2/(5 width) in place of Xavier's 1/width; the others Xavier's."""
    del site
    return math.sqrt(2 / 5) if role in ("query", "key", "value", "out") else 1.0


scale_norm = Scheme(
    name="scale_norm",
    title="ScaleNorm with FixNorm and SmallInit",
    family="recipes",
    equation="x ← x + F(N(x)),  y = N(x),  N = g x/‖x‖, g = √d at init;  embeddings √d e/‖e‖, e/‖e‖ in a tied head too",
    citation="Nguyen & Salazar, Transformers without Tears (1910.05895), and the released code",
    year=2019,
    evidence="code",
    block=pre,
    ends=final,
    norm=norms.SCALE,
    init=small_init,
    multipliers="recipe",
    around=Around(fixed_norm=True),
    traps=(
        "The factor √d on the embeddings belongs to init.law=xavier, the default here.",
        "Intended with a tied head; a separate head is not normalised.",
        "The code draws embeddings from U(±0.01), here N(0, 1/d): FixNorm removes the scale from the forward pass, and leaves of it "
        "a smaller relative step of the embedding.",
    ),
)

SCHEMES = (
    scale_norm,
    ngpt,
)
