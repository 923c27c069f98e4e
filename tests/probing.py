"""Shared by the tests of the probe."""

import numpy as np

from addnorm_exp.probe import programs
from addnorm_exp.probe.measure import measure

TEXT = np.random.default_rng(0).integers(32, 128, 20_000, dtype=np.uint8)


def values(problem) -> dict[tuple[str, int], float]:
    """(quantity, block) → value."""
    return {(one.quantity, one.block): one.value for one in measure(problem)}


def compiled() -> int:
    """Programs that are held now."""
    return sum(programs._compiled(function)._cache_size() for function in programs._functions)
