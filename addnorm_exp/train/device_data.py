"""Data on the devices. The training arrays stay there for the next run on the same data."""

from dataclasses import dataclass, replace
from typing import Any

import jax

from addnorm_exp.data.spec import Data
from addnorm_exp.tasks.task import Task
from addnorm_exp.train.evaluation import Split, split_of

_TRAINING: dict[Any, Any] = {}  # training arrays on the devices, by checksum, task and encoding


@dataclass(frozen=True)
class DeviceData:
    """What training batches are drawn from, and the examples that are evaluated."""

    train: Any
    val: Split
    test: Split


def device_data(task: Task, data: Data, micro_batch: int, sharding: Any) -> DeviceData:
    """Puts data on the devices."""
    train, *splits = task.arrays(data)
    key = data.spec.sha256, type(task), task.encoding
    if key not in _TRAINING:
        _TRAINING.clear()  # one at a time: a large corpus may fill the device
        _TRAINING[key] = jax.device_put(train, sharding)

    def placed(examples: Any) -> Split:
        split = split_of(examples, micro_batch)
        return replace(split, parts=jax.device_put(split.parts, sharding))

    return DeviceData(_TRAINING[key], *(placed(examples) for examples in splits))
