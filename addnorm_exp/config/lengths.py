"""Lengths of training. A key that counts steps also takes epochs, examples or tokens ("3epochs"), and where it is a part of the run a
share of it ("5%"). Each becomes a whole number of steps when the config is built, so that two spellings of one length are one run.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from addnorm_exp.config.tasks.task import DataConfig

_TEXT = re.compile(r"([0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?)\s*(%|[a-z]+)", re.IGNORECASE)


@dataclass(frozen=True)
class Sizes:
    """Of training data: the examples of one epoch, and the tokens of one example, padding included."""

    epoch: int
    tokens: int


# The sizes of data under a task and a `seq_len`. Raises UserError if the data cannot be used.
MeasureSizes = Callable[[str, DataConfig, int], Sizes]


def read(text: str, units: Sequence[str]) -> str | None:
    """A length with a unit in its shortest form: "3.0 epochs" is "3epochs". None if it is none, or above 100 %."""
    match = _TEXT.fullmatch(text.strip())
    if not match:
        return None
    number, word = float(match[1]), match[2].lower()
    unit = next((unit for unit in units if word in (unit, unit.removesuffix("s"))), None)
    if unit is None or not math.isfinite(number) or (unit == "%" and number > 100):
        return None
    return f"{number:.12g}{unit.removesuffix('s') if number == 1 else unit}"


def in_steps(length: object, steps: int, batch_size: int, sizes: Callable[[], Sizes]) -> object:
    """The number of steps of a length that `read` has read; any other value as it is.

    A share of `steps` is the nearest whole number, and at least 1 if it is above 0. Other units are rounded up: the last step completes
    them. `sizes` is called only where it is needed.
    """
    match = _TEXT.fullmatch(length) if isinstance(length, str) else None
    if not match:
        return length
    number, unit = Fraction(match[1]), match[2].removesuffix("s")
    if unit == "%":
        exact = number * steps / 100
        return max(1, math.floor(exact + Fraction(1, 2))) if exact else 0
    if unit == "epoch":
        number *= sizes().epoch
    elif unit == "token":
        number /= sizes().tokens
    return math.ceil(number / batch_size)
