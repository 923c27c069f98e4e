"""Adafactor."""

from dataclasses import dataclass
from typing import Any

import optax

from addnorm_exp.experiment import Hypers, Shape
from addnorm_exp.nn.functional import Parameters
from addnorm_exp.train.optimisers.optimiser import Specs, transformed

SMALLEST_SCALE = 1e-3  # ε₂: the RMS that a tensor counts as at least, so that one that starts at 0 moves


@dataclass(frozen=True)
class Adafactor:
    """g / √v with v of a matrix from its mean per row and per column, clipped to an RMS of `optim.update_clip`, times the tensor's own RMS
    (Shazeer & Stern 2018, 1804.04235, alg. 4 and 5). The decay of v at step t is 1 - t^-c (§7.2), so that it needs no correction."""

    factored_size: int
    parameter_scale: bool

    @classmethod
    def of(cls, shape: Shape) -> "Adafactor":
        return cls(shape["optim.factored_size"], shape["optim.parameter_scale"])

    def init(self, specs: Specs, parameters: Parameters) -> Any:
        del specs
        return optax.scale_by_factored_rms(min_dim_size_to_factor=self.factored_size).init(parameters)

    def directions(
        self, specs: Specs, parameters: Parameters, grads: Parameters, state: Any, hypers: Hypers
    ) -> tuple[Parameters, Any]:
        del specs
        by_rms = optax.scale_by_factored_rms(
            decay_rate=hypers["optim.decay_exponent"],
            min_dim_size_to_factor=self.factored_size,
            epsilon=hypers["optim.eps"],
        )
        updates, state = transformed(by_rms, grads, state, parameters)
        updates, _ = transformed(optax.clip_by_block_rms(hypers["optim.update_clip"]), updates)
        if self.parameter_scale:
            updates, _ = transformed(optax.scale_by_param_block_rms(SMALLEST_SCALE), updates, None, parameters)
        return updates, state
