"""What metrics are made of: sums that add over micro-batches, devices and examples."""

from dataclasses import dataclass
from typing import Any

import jax

from addnorm_exp.runs.metrics import Metric

__all__ = ["Metric", "WeightedSum"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class WeightedSum:
    """A sum of values and the sum of their weights: arrays of one shape.

    A training step has one of scalars; an evaluation has one an example, (batch, …). A last axis
    may hold several sums at once (matches and totals of four orders, a confusion matrix).
    """

    value: Any
    weight: Any

    @property
    def mean(self) -> Any:
        return self.value / self.weight
