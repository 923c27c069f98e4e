"""Shared by the tests of the probe."""

import numpy as np

from addnorm_exp.probe import measure

TEXT = np.random.default_rng(0).integers(32, 128, 20_000, dtype=np.uint8)


def values(problem) -> dict[tuple[str, int], float]:
    """(quantity, block) → value."""
    (found,) = measure.measure([problem])
    return {(one.quantity, one.block): one.value for one in found}


def compiled() -> int:
    """Programs of blocks that are held now."""
    return sum(measure.compiled(function)._cache_size() for function in (measure._block, measure._pull))
