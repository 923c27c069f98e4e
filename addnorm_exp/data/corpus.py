"""A corpus: bytes in three splits, by name or from the user's own file. Tokens are bytes, so the vocabulary is 256."""

import hashlib
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from addnorm_exp.config.files import expanded
from addnorm_exp.config.schema import DataConfig
from addnorm_exp.data import cache
from addnorm_exp.data.datasets import DATASETS, Dataset
from addnorm_exp.errors import UserError, nearest

LARGEST = 2**31 - 1  # bytes: offsets are int32 inside the compiled program
HELD_OUT = (
    20  # one part in so many is the validation split, and as much the test split: 90/5/5 (enwik8's standard split)
)


@dataclass(frozen=True, eq=False)
class Corpus:
    """Splits are read-only uint8 arrays, consecutive parts of one file in the order train, val, test."""

    name: str
    sha256: str  # of the whole file: the corpus' identity in a run's record
    train: np.ndarray
    val: np.ndarray
    test: np.ndarray


def names() -> tuple[str, ...]:
    """Valid values of `data.name`; `file` is what `data.path` names."""
    return (*DATASETS, "file")


def load(config: DataConfig, datasets: Mapping[str, Dataset] = DATASETS) -> Corpus:
    """The corpus that the config names: the file at `data.path`, else the dataset `data.name`, fetched on first use.

    Raises:
      UserError: unknown name, a file that cannot be used, or a dataset that cannot be had.
    """
    if config.path is not None:
        return _split(Path(config.path).name, _read(config.path))
    if config.name == "file":
        raise UserError("data.name=file needs the file: --config.data.path=FILE")
    if config.name not in datasets:
        raise UserError(f"data.name={config.name} is no known dataset; {nearest(config.name, (*datasets, 'file'))}")
    dataset = datasets[config.name]
    return _split(dataset.name, cache.obtain(dataset), dataset.sha256)


def outline(config: DataConfig, datasets: Mapping[str, Dataset] = DATASETS) -> Corpus:
    """The corpus that `load` would give, as to name, checksum and lengths, with zeros for its bytes: nothing is fetched, and a dataset
    takes no memory. Raises UserError where its file cannot be used."""
    if config.path is not None:
        return load(config)
    dataset = datasets[config.name]
    return _parted(dataset.name, np.broadcast_to(np.uint8(0), (dataset.size,)), dataset.sha256)


def to_fetch(config: DataConfig, datasets: Mapping[str, Dataset] = DATASETS) -> str | None:
    """What has to be fetched before the corpus can be loaded, in words; None where it is there."""
    if config.path is not None or cache.holds(datasets[config.name]):
        return None
    dataset = datasets[config.name]
    return f"{dataset.name} is not in the cache: {dataset.size:,} bytes are fetched once into {cache.folder() / dataset.name}"


def checksum(config: DataConfig, datasets: Mapping[str, Dataset] = DATASETS) -> str:
    """SHA-256 of the corpus that the config names, without fetching it. Raises UserError where its file cannot be used."""
    if config.path is not None:
        return hashlib.sha256(_read(config.path)).hexdigest()
    return datasets[config.name].sha256


def check_lengths(corpus: Corpus, seq_len: int) -> None:
    """Raises UserError unless every split holds a window: `seq_len` inputs and the target of the last one."""
    sizes = {"train": corpus.train.size, "validation": corpus.val.size, "test": corpus.test.size}
    if min(sizes.values()) < seq_len + 1:
        listed = ", ".join(f"{split} {size:,}" for split, size in sizes.items())
        raise UserError(
            f"{corpus.name} is too short for seq_len={seq_len}: its splits hold {listed} bytes and each "
            f"needs seq_len + 1 = {seq_len + 1:,}; take a longer file or a smaller seq_len"
        )


def _split(name: str, data: bytes, sha256: str | None = None) -> Corpus:
    return _parted(name, np.frombuffer(data, np.uint8), sha256 or hashlib.sha256(data).hexdigest())


def _parted(name: str, tokens: np.ndarray, sha256: str) -> Corpus:
    held_out = tokens.size // HELD_OUT
    train, val, test = np.split(tokens, [tokens.size - 2 * held_out, tokens.size - held_out])
    return Corpus(name, sha256, train, val, test)


def _read(name: str) -> bytes:
    where = f"data.path={name}"
    try:
        path = expanded(name, where)
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise UserError(f"{where} is a folder; name one file (its bytes are the text)")
        if not stat.S_ISREG(status.st_mode):
            raise UserError(f"{where} is not a regular file; its bytes must be there to be read again on resume")
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
