"""Arrays in a page: base64 of little-endian float32 or uint16 in a pool that stores equal arrays once, and thinning of curves."""

import base64
from dataclasses import dataclass, field

import numpy as np


@dataclass
class Pool:
    """Texts of arrays; `add` returns an array's place. Most runs of a study share learning rates and steps, which are stored once."""

    texts: list[str] = field(default_factory=list)
    places: dict[str, int] = field(default_factory=dict)

    def add(self, values: np.ndarray) -> int:
        with np.errstate(over="ignore"):  # values beyond float32 are infinite, and pictures omit them
            return self._add(np.ascontiguousarray(values, "<f4"))

    def codes(self, values: np.ndarray) -> int:
        return self._add(np.ascontiguousarray(values, "<u2"))

    def _add(self, values: np.ndarray) -> int:
        text = base64.b64encode(values.tobytes()).decode("ascii")
        if text not in self.places:
            self.places[text] = len(self.texts)
            self.texts.append(text)
        return self.places[text]


def thin(steps: np.ndarray, columns: dict[str, np.ndarray], size: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Steps (n,) in bins of `size` steps: their mean step (m,) and for every column the mean of its finite values, NaN without any."""
    if size <= 1 or not len(steps):
        return steps, columns
    bins, place = np.unique((steps - 1) // size, return_inverse=True)
    count = len(bins)

    def mean(values: np.ndarray) -> np.ndarray:
        good = np.isfinite(values)
        total = np.bincount(place[good], values[good], count)
        with np.errstate(invalid="ignore"):
            return total / np.bincount(place[good], minlength=count)

    return mean(steps.astype(np.float64)), {name: mean(values) for name, values in columns.items()}
