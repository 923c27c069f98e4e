"""Hypers: the numbers of a config that change neither shape nor structure. They are traced: runs with other values share a program."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from addnorm_exp.config.key import HYPER, SEED
from addnorm_exp.config.keys import leaves

Hypers = dict[str, Any]  # scalars by key: numpy, on the device, or traced


def hyper_keys(values: Any) -> tuple[str, ...]:
    """The keys of the hypers of resolved values by key, or of a shape. Those of other optimisers are none of them."""
    return tuple(
        key
        for key, leaf in leaves().items()
        if HYPER in leaf.said.role and (leaf.own is None or values[leaf.own.by] in leaf.own.defaults)
    )


def hypers_of(values: Mapping[str, object]) -> Hypers:
    """Key → scalar, float32 (seeds: uint32), of resolved values by key (`Experiment.values`)."""
    types = {key: np.uint32 if leaves()[key].said.range is SEED else np.float32 for key in hyper_keys(values)}
    return {key: np.asarray(values[key], dtype) for key, dtype in types.items()}
