"""The verified cache: a dataset's bytes are read from the user's cache folder, or fetched once and published there.

The checksum is verified on every load, so a truncated or corrupt copy is fetched again and never trained on. Publishing
is one atomic rename of a file with a name of its own: two processes that fetch at once waste a download, no more.
"""

import hashlib
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from addnorm_exp.atomic import replacement
from addnorm_exp.data.datasets import Dataset
from addnorm_exp.data.progress import FetchProgress
from addnorm_exp.data.sources import Unavailable
from addnorm_exp.errors import UserError

STALE_S = 3600.0  # a partial copy this old was left by a process that was killed


def folder() -> Path:
    """`$ADDNORM_CACHE`, else `$XDG_CACHE_HOME/addnorm_exp`, else `~/.cache/addnorm_exp`."""
    try:
        if own := os.environ.get("ADDNORM_CACHE"):
            return Path(own).expanduser()
        if xdg := os.environ.get("XDG_CACHE_HOME"):
            return Path(xdg).expanduser() / "addnorm_exp"
        return Path.home() / ".cache" / "addnorm_exp"
    except RuntimeError as error:
        raise UserError("no home folder to keep data in; set ADDNORM_CACHE to a folder that can be written") from error


def to_fetch(dataset: Dataset) -> str | None:
    """What `obtain` would have to fetch, in words; None if a copy of the right size is in the cache. `obtain` verifies its checksum."""
    path = folder() / dataset.name
    try:
        if path.stat().st_size == dataset.size:
            return None
    except OSError:
        pass
    return f"{dataset.name} is not in the cache: {dataset.size:,} bytes are fetched once into {path}"


def obtain(dataset: Dataset, where: Path | None = None) -> bytes:
    """The dataset's canonical bytes, verified: from the cache in `where` (not set: `folder()`), else fetched into it.

    Raises:
      UserError: no copy and no source; a cache folder that cannot be written, or that is full.
    """
    where = folder() if where is None else where
    path = where / dataset.name
    problem = "not in the cache yet"
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        problem = f"the copy in the cache cannot be read ({error.strerror})"
    else:
        if (wrong := _difference(dataset, data)) is None:
            return data
        problem = f"the copy in the cache is damaged ({wrong})"
    _require_room(dataset, where)  # before minutes are spent on a download that could not be kept
    with FetchProgress(f"{dataset.name}: {problem}; fetching {dataset.size:,} bytes once into {path}") as progress:
        data = _fetch(dataset, problem, path, progress)
    _publish(data, path)
    return data


def _fetch(dataset: Dataset, problem: str, path: Path, progress: FetchProgress) -> bytes:
    reasons = []
    start = time.monotonic()
    for source in dataset.sources:
        try:
            data = source.fetch(progress)
        except Unavailable as reason:
            reasons.append(f"{source.label}: {reason}")
            continue
        if (wrong := _difference(dataset, data)) is None:
            seconds = time.monotonic() - start
            progress.close(f"{dataset.name}: fetched from {source.label} in {seconds:.0f} s, checksum verified")
            return data
        reasons.append(f"{source.label}: gave other data ({wrong})")
    raise UserError(
        f"{dataset.name}: {problem}, and it cannot be fetched ({'; '.join(reasons)}). Connect to the network, put the file "
        f"at {path}, or name a file of your own with --config.data.path=FILE"
    )


def _difference(dataset: Dataset, data: bytes) -> str | None:
    if len(data) != dataset.size:
        return f"{len(data):,} bytes instead of {dataset.size:,}"
    if hashlib.sha256(data).hexdigest() != dataset.sha256:
        return "wrong checksum"
    return None


def _require_room(dataset: Dataset, where: Path) -> None:
    try:
        where.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=where):
            free = shutil.disk_usage(where).free
    except OSError as error:
        raise _unwritable(where, error) from error
    if free < dataset.size:
        raise UserError(
            f"the disk of the cache folder {where} has {free:,} bytes free and {dataset.name} needs {dataset.size:,}; "
            "make room, or set ADDNORM_CACHE to a folder on another disk"
        )


def _publish(data: bytes, path: Path) -> None:
    try:
        for left in path.parent.glob(f".{path.name}.*.writing"):
            with suppress(OSError):
                if time.time() - left.stat().st_mtime > STALE_S:
                    left.unlink()
        with replacement(path) as file:
            file.write(data)
    except OSError as error:
        raise _unwritable(path.parent, error) from error


def _unwritable(where: Path, error: OSError) -> UserError:
    return UserError(
        f"the cache folder {where} cannot be written ({error.strerror}); "
        "mend that, or set ADDNORM_CACHE to a folder that can be"
    )
