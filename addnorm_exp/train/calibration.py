"""What a scheme sets from data before step 0 (`Scheme.calibrate`): a pure function of the initial values and one batch."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from addnorm_exp.nn.functional import Parameters
from addnorm_exp.residual import Context
from addnorm_exp.tasks.task import Task


def calibrated(task: Task, parameters: Parameters, batch: Any) -> Parameters:
    """The parameters as the task's scheme sets them, itself given where it sets none. No dropout."""
    if task.scheme.calibrate is None:
        return parameters
    probes = jnp.zeros(len(task.labels), jnp.float32)
    context = Context(step=jnp.zeros((), jnp.int32), variances=True)

    def measure(parameters: Mapping[str, jax.Array]) -> dict[str, dict[str, jax.Array]]:
        _, stats = task.loss(dict(parameters), probes, batch, context)
        return {label: {name: row[number] for name, row in stats.items()} for number, label in enumerate(task.labels)}

    return dict(task.scheme.calibrate(parameters, measure))


def means_of_changed(before: Parameters, after: Parameters) -> dict[str, float]:
    """Path → mean, of the tensors that calibration changed: what the record says of it."""
    return {path: float(jnp.mean(after[path])) for path in after if not np.array_equal(before[path], after[path])}
