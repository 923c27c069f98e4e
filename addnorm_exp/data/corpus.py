"""A corpus: bytes in three splits, by name or from the user's own file. Tokens are bytes, so the vocabulary is 256."""

import hashlib
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from addnorm_exp.config.files import expanded
from addnorm_exp.config.schema import DataConfig
from addnorm_exp.data import cache, formats
from addnorm_exp.data.datasets import DATASETS, Dataset
from addnorm_exp.data.spec import DataSpec
from addnorm_exp.errors import UserError, nearest

LARGEST = 2**31 - 1  # bytes: offsets are int32 inside the compiled program
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
        content = _content(config.path)
        return _split(Path(config.path).name, content.data, notes=content.notes)
    if config.name == "file":
        raise UserError("data.name=file needs the file: --config.data.path=FILE")
    if config.name not in datasets:
        raise UserError(f"data.name={config.name} is no known dataset; {nearest(config.name, (*datasets, 'file'))}")
    dataset = datasets[config.name]
    return _split(dataset.name, cache.obtain(dataset), dataset.sha256)


def spec(config: DataConfig, datasets: Mapping[str, Dataset] = DATASETS) -> DataSpec:
    """That of the corpus that `load` would give. Nothing is fetched. Raises UserError if the file cannot be used."""
    if config.path is not None:
        return load(config).spec
    dataset = datasets[config.name]
    held_out = dataset.size // HELD_OUT
    return DataSpec(
        name=dataset.name,
        sha256=dataset.sha256,
        train=dataset.size - 2 * held_out,
        val=held_out,
        test=held_out,
    )


def to_fetch(config: DataConfig, datasets: Mapping[str, Dataset] = DATASETS) -> str | None:
    """What has to be fetched before the corpus can be loaded, in words; None where it is there."""
    if config.path is not None or cache.holds(datasets[config.name]):
        return None
    dataset = datasets[config.name]
    return f"{dataset.name} is not in the cache: {dataset.size:,} bytes are fetched once into {cache.folder() / dataset.name}"


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


def _content(name: str) -> formats.Content:
    return formats.read(read_file(name), Path(name).name, f"data.path={name}", LARGEST)


def read_file(name: str) -> bytes:
    """The bytes of the file that `data.path` names. Raises UserError where it cannot be used."""
    where = f"data.path={name}"
    try:
        path = expanded(name, where)
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise UserError(f"{where} is a folder; name a file")
        if not stat.S_ISREG(status.st_mode):
            raise UserError(f"{where} is not a regular file, which a resumed run could read again; name one")
        if status.st_size > LARGEST:
            raise UserError(
                f"{where} has {status.st_size:,} bytes and at most {LARGEST:,} can be used (offsets are 32-bit inside "
                "the compiled program); train on a part of it"
            )
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"{where}: no such file; check the path (it is relative to the current folder)") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL character
        mend = "permissions" if isinstance(error, PermissionError) else "path"
        raise UserError(
            f"{where} cannot be read ({getattr(error, 'strerror', None) or error}); check its {mend}"
        ) from error
    if not data:
        raise UserError(f"{where} is empty; name a file with text")
    return data
