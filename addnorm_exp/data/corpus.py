"""A corpus: bytes in three splits, by name or from the user's own file. Tokens are bytes, so the vocabulary is 256."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from addnorm_exp.config.tasks.task import DataConfig
from addnorm_exp.data import cache, formats, own_file
from addnorm_exp.data.datasets import DATASETS, Dataset, named
from addnorm_exp.data.spec import DataSpec
from addnorm_exp.errors import UserError

# One part in so many is the validation split, and as much the test split: 90/5/5, enwik8's standard split.
HELD_OUT = 20


@dataclass(frozen=True, eq=False)
class Corpus:
    """Splits are read-only uint8 arrays, consecutive parts of one file in the order train, val, test."""

    name: str
    sha256: str  # of all three splits together: the corpus' identity in a run's record
    train: np.ndarray
    val: np.ndarray
    test: np.ndarray
    notes: tuple[str, ...] = ()  # of a file that is not plain text: what it looks like and how it is used, a line each

    @property
    def spec(self) -> DataSpec:
        """The sizes are in bytes."""
        sizes = {split: getattr(self, split).size for split in ("train", "val", "test")}
        return DataSpec(name=self.name, sha256=self.sha256, notes=self.notes, **sizes)


def names() -> tuple[str, ...]:
    """Valid values of `data.name`; `file` is what `data.path` names."""
    return (*DATASETS, "file")


def load(config: DataConfig, datasets: Mapping[str, Dataset] = DATASETS) -> Corpus:
    """The corpus that the config names: the file at `data.path`, else the dataset `data.name`, fetched on first use.

    Raises:
      UserError: unknown name, a file that cannot be used, or a dataset that cannot be had.
    """
    if config.path is not None:
        return _of_file(config.path)
    dataset = named(config.name, datasets, "dataset")
    return _split(dataset.name, cache.obtain(dataset), dataset.sha256)


def spec(config: DataConfig, datasets: Mapping[str, Dataset] = DATASETS) -> DataSpec:
    """That of the corpus that `load` would give. Nothing is fetched. Raises UserError if the file cannot be used."""
    if config.path is not None:
        return _spec_of_file(config.path)
    dataset = named(config.name, datasets, "dataset")
    held_out = dataset.size // HELD_OUT
    return DataSpec(
        name=dataset.name,
        sha256=dataset.sha256,
        train=dataset.size - 2 * held_out,
        val=held_out,
        test=held_out,
    )


def to_fetch(config: DataConfig, datasets: Mapping[str, Dataset] = DATASETS) -> str | None:
    """What has to be fetched before the corpus can be loaded, in words; None if it is here."""
    return None if config.path is not None else cache.to_fetch(named(config.name, datasets, "dataset"))


def check_lengths(spec: DataSpec, seq_len: int) -> None:
    """Raises UserError unless every split holds a window: `seq_len` inputs and the target of the last one."""
    size = spec.train + spec.val + spec.test
    window = seq_len + 1
    if size // HELD_OUT >= window:  # the training split is the longest
        return
    longest = size // HELD_OUT - 1
    smaller = f"set seq_len to {longest} or less, or take" if longest >= 1 else "take"
    raise UserError(
        f"{spec.name} is too short for seq_len={seq_len}: a window has {window:,} bytes, and the validation and the test split "
        f"have {size // HELD_OUT:,} each, 1/{HELD_OUT} of {size:,}; {smaller} a file of {HELD_OUT * window:,} bytes or more"
    )


def _split(name: str, data: bytes, sha256: str | None = None, notes: tuple[str, ...] = ()) -> Corpus:
    return _parted(name, np.frombuffer(data, np.uint8), sha256 or hashlib.sha256(data).hexdigest(), notes)


def _parted(name: str, tokens: np.ndarray, sha256: str, notes: tuple[str, ...] = ()) -> Corpus:
    held_out = tokens.size // HELD_OUT
    train, val, test = np.split(tokens, [tokens.size - 2 * held_out, tokens.size - held_out])
    return Corpus(name, sha256, train, val, test, notes)


@own_file.remembered
def _spec_of_file(name: str) -> DataSpec:
    return _of_file(name).spec


def _of_file(name: str) -> Corpus:
    content = formats.read(own_file.read(name), Path(name).name, own_file.label(name), own_file.LARGEST)
    return _split(Path(name).name, content.data, notes=content.notes)
