"""Parameters that a scheme sets from data before step 0 (`Scheme.calibrate`): a pure function of the initial values and one batch."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from addnorm_exp.nn.functional import Parameters
from addnorm_exp.residual import Context, Scheme
from addnorm_exp.residual.init import Spec
from addnorm_exp.residual.versioned import Values
from addnorm_exp.tasks.task import Task

Branches = dict[str, dict[str, jax.Array]]  # label of a site → quantity → scalar


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
    context = Context(step=jnp.zeros((), jnp.int32), variances=True)
    for each, own in scheme.shares(specs) if scheme.calibrates else ():
        stacks = {spec.site.stack for spec in own.values() if spec.site and spec.in_block}
        rows = {label: number for number, label in enumerate(labels) if label.partition(".")[0] in stacks}

        def measure(values: Values, others: Parameters = parameters, rows: Mapping[str, int] = rows) -> Branches:
            stats = statistics({**others, **values}, context)
            return {label: {name: row[number] for name, row in stats.items()} for label, number in rows.items()}

        if each.calibrate is not None:
            parameters = {**parameters, **each.calibrate(own, {path: parameters[path] for path in own}, measure)}
    return parameters


def means_of_changed(before: Parameters, after: Parameters) -> dict[str, float]:
    """Path → mean of each tensor that calibration changed, for the record."""
    first, last = jax.device_get((before, after))
    changed = [path for path in last if not np.array_equal(first[path], last[path])]
    return {path: float(jax.device_get(jnp.mean(after[path]))) for path in changed}
