"""Parameters that a scheme sets from data before step 0 (`Scheme.calibrate`): a pure function of the initial values and one batch."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from addnorm_exp.nn.functional import Parameters
from addnorm_exp.residual import Context, Scheme
from addnorm_exp.residual.init import Spec
from addnorm_exp.tasks.task import Task


def calibrated(task: Task, parameters: Parameters, batch: Any) -> Parameters:
    """The parameters after the task's scheme has set some from this batch; unchanged if it sets none. No dropout."""
    carried = task.carried()
    return calibrated_by(
        task.scheme,
        task.model.specs,
        task.labels,
        lambda values, context: task.diagnostics(values, carried, batch, context),
        parameters,
    )


def calibrated_by(
    scheme: Scheme,
    specs: Mapping[str, Spec],
    labels: Sequence[str],
    statistics: Callable[[Parameters, Context], Mapping[str, jax.Array]],
    parameters: Parameters,
) -> Parameters:
    """The same for any function that runs blocks of the scheme: `statistics(parameters, context)` returns quantity → (sites,), in the
    order of `labels`."""
    if scheme.calibrate is None:
        return parameters
    context = Context(step=jnp.zeros((), jnp.int32), variances=True)

    def measure(values: Mapping[str, jax.Array]) -> dict[str, dict[str, jax.Array]]:
        stats = statistics(dict(values), context)
        return {label: {name: row[number] for name, row in stats.items()} for number, label in enumerate(labels)}

    return dict(scheme.calibrate(specs, parameters, measure))


def means_of_changed(before: Parameters, after: Parameters) -> dict[str, float]:
    """Path → mean of each tensor that calibration changed, for the record."""
    first, last = jax.device_get((before, after))
    changed = [path for path in last if not np.array_equal(first[path], last[path])]
    return {path: float(jax.device_get(jnp.mean(after[path]))) for path in changed}
