"""Muon for the weight matrices of the blocks, AdamW for the rest."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from optax import contrib

from addnorm_exp.experiment import Hypers, Shape
from addnorm_exp.nn.functional import Parameters
from addnorm_exp.residual.init import Spec
from addnorm_exp.train.optimisers.adamw import AdamW
from addnorm_exp.train.optimisers.optimiser import Specs, transformed

# Of the quintic of the Newton-Schulz iteration, of which there are five: 5 X ← a X + (b A + c A²) X with A = X Xᵀ (Jordan et al. 2024).
COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def is_orthogonalised(spec: Spec) -> bool:
    """Whether Muon updates a parameter: a weight matrix of a block.

    AdamW updates the rest: embeddings and the head, as Jordan et al. have it; gains and biases; a scheme's coefficients, whatever their
    shape (mixing weights of streams, of layers or of low rank); and a matrix of one row or column, of which orthogonalisation would leave
    the direction only.
    """
    return spec.group == "matrix" and spec.in_block and min(spec.shape) > 1


class MuonState(NamedTuple):
    """`mu`: running means of gradients, (matrices, in, out), by shape such as "128x512"; `rest`: AdamW's state."""

    steps: jax.Array
    mu: dict[str, jax.Array]
    rest: optax.ScaleByAdamState


@dataclass(frozen=True)
class Muon:
    """The nearest matrix with orthonormal rows or columns to the momentum (approximately: five iterations of Newton-Schulz), times
    0.2 √max(in, out): so its RMS is near that of AdamW's updates, and one learning rate and weight decay serve both (Liu et al. 2025,
    2502.16982, eq. 4; 0.2 is `optim.update_rms`).

    Matrices of one shape are computed together, which keeps compilation short.
    """

    nesterov: bool

    @classmethod
    def of(cls, shape: Shape) -> "Muon":
        return cls(shape["optim.nesterov"])

    def init(self, specs: Specs, parameters: Parameters) -> MuonState:
        stacks = _stacks(specs)
        mu = {
            name: jnp.zeros((len(paths), *specs[paths[0]].shape), parameters[paths[0]].dtype)
            for name, paths in stacks.items()
        }
        return MuonState(jnp.zeros((), jnp.int32), mu, AdamW().init(specs, _rest(specs, parameters)))

    def directions(
        self, specs: Specs, parameters: Parameters, grads: Parameters, state: MuonState, hypers: Hypers
    ) -> tuple[Parameters, MuonState]:
        stacks = _stacks(specs)
        stacked = {name: jnp.stack([grads[path] for path in paths]) for name, paths in stacks.items()}
        muon = contrib.scale_by_muon(
            beta=hypers["optim.momentum"],
            nesterov=self.nesterov,
            weight_dimension_numbers=dict.fromkeys(stacks, contrib.MuonDimensionNumbers(1, 2)),
        )
        # Optax has the coefficients in its state. They are constants, so ours does not.
        dtype = next(iter(grads.values())).dtype
        whole = contrib.MuonState(state.steps, state.mu, jnp.asarray(COEFFICIENTS, dtype))
        orthogonal, after = transformed(muon, stacked, whole)
        directions, rest = AdamW().directions(specs, parameters, _rest(specs, grads), state.rest, hypers)
        for name, paths in stacks.items():
            scale = hypers["optim.update_rms"] * math.sqrt(max(specs[paths[0]].shape))
            directions |= {path: scale * orthogonal[name][number] for number, path in enumerate(paths)}
        return directions, MuonState(after.count, after.mu, rest)


def _stacks(specs: Specs) -> dict[str, list[str]]:
    """Shape such as "128x512" → the paths of the matrices that have it."""
    stacks: dict[str, list[str]] = {}
    for path, spec in specs.items():
        if is_orthogonalised(spec):
            stacks.setdefault("x".join(map(str, spec.shape)), []).append(path)
    return stacks


def _rest(specs: Specs, tree: Parameters) -> Parameters:
    return {path: value for path, value in tree.items() if not is_orthogonalised(specs[path])}
