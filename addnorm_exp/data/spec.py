"""What is known of data before they are fetched."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """Of a data set with a name, all of it stands in this package; a file of the user's is read.
    Each kind of data extends it.

    `train`, `val` and `test` are the sizes of the splits in the data's own unit: bytes of a stream,
    otherwise examples. `notes`: what the user should know about a file, a line each.
    """

    name: str
    sha256: str  # of all splits together: the data's identity in a run's record
    train: int
    val: int
    test: int
    notes: tuple[str, ...] = ()


class Data(Protocol):
    """Loaded data. What else they hold, their task knows."""

    @property
    def spec(self) -> DataSpec: ...
