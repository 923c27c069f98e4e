"""Lion."""

from dataclasses import dataclass

import optax

from addnorm_exp.experiment import Hypers, Shape
from addnorm_exp.nn.functional import Parameters
from addnorm_exp.train.optimisers.optimiser import Specs, transformed


@dataclass(frozen=True)
class Lion:
    """sign(β₁ m + (1 - β₁) g), then m ← β₂ m + (1 - β₂) g (Chen et al. 2023, 2302.06675, alg. 2)."""

    @classmethod
    def of(cls, shape: Shape) -> "Lion":
        del shape
        return cls()

    def init(self, specs: Specs, parameters: Parameters) -> optax.ScaleByLionState:
        del specs
        return optax.scale_by_lion().init(parameters)

    def directions(
        self,
        specs: Specs,
        parameters: Parameters,
        grads: Parameters,
        state: optax.ScaleByLionState,
        hypers: Hypers,
    ) -> tuple[Parameters, optax.ScaleByLionState]:
        del specs, parameters
        return transformed(optax.scale_by_lion(hypers["optim.beta1"], hypers["optim.beta2"]), grads, state)
