"""AdamW."""

from dataclasses import dataclass

import optax

from addnorm_exp.experiment import Hypers, Shape
from addnorm_exp.nn.functional import Parameters
from addnorm_exp.train.optimisers.optimiser import Specs, transformed


@dataclass(frozen=True)
class AdamW:
    """m̂ / (√v̂ + ε), of running means m of gradients and v of their squares, both corrected for their start at 0 (Loshchilov & Hutter
    2019, 1711.05101, alg. 2)."""

    @classmethod
    def of(cls, shape: Shape) -> "AdamW":
        del shape
        return cls()

    def init(self, specs: Specs, parameters: Parameters) -> optax.ScaleByAdamState:
        del specs
        return optax.scale_by_adam().init(parameters)

    def directions(
        self,
        specs: Specs,
        parameters: Parameters,
        grads: Parameters,
        state: optax.ScaleByAdamState,
        hypers: Hypers,
    ) -> tuple[Parameters, optax.ScaleByAdamState]:
        del parameters
        # The ε of a single tensor: m / (√v + fε) = (m/f) / (√v/f + ε), where m/f and √v/f are the moments of gradient/f.
        grads = {path: grad / specs[path].factors.eps for path, grad in grads.items()}
        adam = optax.scale_by_adam(hypers["optim.beta1"], hypers["optim.beta2"], hypers["optim.eps"])
        return transformed(adam, grads, state)
