"""What the columns of the per-layer record stand for, and in which block of the model that is (docs/record.md)."""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

COLUMNS = {  # quantity → what it has a column for
    "stream_rms": "sites",
    "branch_ratio": "sites",
    "grad_stream": "sites",
    "grad_weight": "tensors",
    "update_ratio": "tensors",
    "weight_rms": "tensors",
    "logit_max": "attention_sites",
    "entropy": "attention_sites",
}


def without_ratio_of_zeros(row: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The row of a step with NaN for `update_ratio` of the tensors that are still 0.

    On the device the ratio is 0 there: JAX_DEBUG_NANS stops at a NaN.
    """
    return {**row, "update_ratio": np.where(row["weight_rms"] > 0, row["update_ratio"], np.nan)}


_WITHIN = re.compile(r"(?P<stack>.*?)(?:\.|(?:^|/)blocks/)(?P<block>\d+)[./](?P<rest>.+)")


class Within(NamedTuple):
    """Where a column stands: `decoder.0.attention` and `decoder/blocks/0/attention/out/kernel` are within block 0 of `decoder`."""

    stack: str  # empty where the name has none
    block: int
    rest: str


def within(name: str) -> Within | None:
    """None for what is outside of blocks (the embedding, say)."""
    found = _WITHIN.fullmatch(name)
    return Within(found["stack"], int(found["block"]), found["rest"]) if found else None


def by_layer(names: Iterable[str]) -> dict[str, list[int]]:
    """`stack.block` → its columns; of tensors the weight matrices alone, and none that is outside of a block."""
    layers: dict[str, list[int]] = {}
    for column, name in enumerate(names):
        found = within(name)
        if found and ("/" not in name or name.endswith("/kernel")):
            layers.setdefault(f"{found.stack}.{found.block}", []).append(column)
    return layers
