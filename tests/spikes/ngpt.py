"""nGPT (Loshchilov 2024, 2410.01131): `x ← Norm(x + |a| ⊙ (Norm(F(x)) - x))`, Norm = L2, weights projected to the sphere.

The residual rule is a connection of its own; the scales inside the bodies are options; the projection of weights is a function on
the flat dict of parameters by role. Out of the contract's reach: the scale on the logits, which belongs to the head.
"""

import math
from dataclasses import dataclass

import jax.numpy as jnp

from addnorm_exp.residual import At, Connection, NormEnds, Scheme, norms
from addnorm_exp.residual.init import Init, parameter


@dataclass(frozen=True)
class Sphere:
    """Stored rates start at 1/√width and act as `stored · init · √width`, so that Adam's step is small against them."""

    init: float = 0.05

    def connect(self, site, width, rngs, shared):
        del site, shared
        return SphereConnection(self, width, rngs)


class SphereConnection(Connection):
    def __init__(self, record: Sphere, width: int, rngs):
        self.factor = record.init * math.sqrt(width)
        self.rate = parameter((width,), Init.constant(width**-0.5), "coefficient", rngs)
        self.norm = norms.make(norms.L2, width, rngs)

    def read(self, state, context):
        return state, None

    def write(self, state, branch, kept, context):
        rate = jnp.abs(self.factor * self.rate[...])
        return self.norm(state + rate * (self.norm(branch) - state))


# The axis of length d of each kernel: its input, unless it writes to the stream.
AXIS = {"query": 0, "key": 0, "value": 0, "up": 0, "gate": 0, "out": 1, "down": 1, "head": 0}


def project(parameters):
    """All embeddings and weight vectors along d to length 1: before the first step and after each."""

    def one(path, value):
        folders = path.split("/")
        if path.startswith("embedding/"):
            axis = 1
        elif folders[-1] == "kernel":
            axis = AXIS[folders[-2]]
        else:
            return value
        return value / jnp.sqrt(jnp.sum(jnp.square(value), axis, keepdims=True))

    return {path: one(path, value) for path, value in parameters.items()}


scheme = Scheme(
    "ngpt", "nGPT", "sphere", "x ← Norm(x + |a| ⊙ (Norm(F(x)) - x))", "2410.01131", 2024, "code",
    lambda site, norm: tuple(At(kind, Sphere()) for kind in site.sublayers), lambda norm: NormEnds(), norm=norms.L2,
    options=lambda site: {"attention": {"qk_scale": True}, "feed_forward": {"hidden_scale": True}}[site.kind],
)  # fmt: skip
