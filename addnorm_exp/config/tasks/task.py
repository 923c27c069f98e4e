"""The keys that all tasks have, and those that all data have."""

from dataclasses import dataclass
from typing import ClassVar

from addnorm_exp.config.key import HOST, HYPER, SEED, key


@dataclass(frozen=True)
class DataConfig:
    """The data that the task is learned from."""

    name: str = key("", "a data set of the task", role=HOST)
    path: str | None = key(None, "a file of your own, which makes data.name file (docs/install.md)", role=HOST)
    seed: int | None = key(None, "order of batches; not set: `seed`", SEED, role=HYPER)


@dataclass(frozen=True)
class StackSchemes:
    """The scheme of one stack of the model, where a task has several: `schemes.decoder`. A stack whose key is not set is under `scheme`,
    as are embedding and head."""


@dataclass(frozen=True)
class TaskConfig:
    """What the model learns to predict. A key whose meaning names tasks, with their defaults, is for these alone, and is refused with
    another one."""

    name: str = key("lm", neutral="lm")

    data: ClassVar[type[DataConfig]]  # the keys of its data
    schemes: ClassVar[type[StackSchemes]] = StackSchemes  # a key a stack, each with the stack's name
