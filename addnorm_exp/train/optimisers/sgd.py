"""Stochastic gradient descent with momentum."""

from dataclasses import dataclass
from typing import Any

import optax

from addnorm_exp.experiment import Hypers, Shape
from addnorm_exp.nn.functional import Parameters
from addnorm_exp.train.optimisers.optimiser import Specs, transformed


@dataclass(frozen=True)
class Sgd:
    """The gradient, or with momentum the sum s ← μ s + g, and μ s + g of the new s for Nesterov's (as in PyTorch, without dampening)."""

    momentum: bool
    nesterov: bool

    @classmethod
    def of(cls, shape: Shape) -> "Sgd":
        return cls(shape["optim.momentum"], shape["optim.nesterov"])

    def init(self, specs: Specs, parameters: Parameters) -> Any:
        del specs
        return optax.trace(0.0).init(parameters) if self.momentum else optax.EmptyState()

    def directions(
        self, specs: Specs, parameters: Parameters, grads: Parameters, state: Any, hypers: Hypers
    ) -> tuple[Parameters, Any]:
        del specs, parameters
        if not self.momentum:
            return grads, state
        return transformed(optax.trace(hypers["optim.momentum"], self.nesterov), grads, state)
