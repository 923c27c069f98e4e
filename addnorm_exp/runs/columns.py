"""The meaning of the columns of the per-layer record, and their block in the model (docs/record.md)."""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

COLUMNS = {  # quantity → what each of its columns stands for
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

    On the device the ratio is 0 there, because JAX_DEBUG_NANS stops at a NaN.
    """
    return {**row, "update_ratio": np.where(row["weight_rms"] > 0, row["update_ratio"], np.nan)}


_WITHIN = re.compile(r"(?P<stack>.*?)(?:\.|(?:^|/)blocks/)(?P<block>\d+)[./](?P<rest>.+)")


class Within(NamedTuple):
    """The place of a column: `decoder.0.attention` and `decoder/blocks/0/attention/out/kernel` are within block 0 of `decoder`."""

    stack: str  # empty if the name has none
    block: int
    rest: str


def within(name: str) -> Within | None:
    """The place of a column; None outside blocks (e.g. the embedding)."""
    match = _WITHIN.fullmatch(name)
    return Within(match["stack"], int(match["block"]), match["rest"]) if match else None


def by_layer(names: Iterable[str]) -> dict[str, list[int]]:
    """`stack.block` → its columns. Of the tensors, only weight matrices count; columns outside blocks are left out."""
    layers: dict[str, list[int]] = {}
    for column, name in enumerate(names):
        if (place := within(name)) and ("/" not in name or name.endswith("/kernel")):
            layers.setdefault(f"{place.stack}.{place.block}", []).append(column)
    return layers
