"""What a file is, as its bytes tell: a compressed file is read as its content, UTF-16 as UTF-8, and binary data are named.

Names of files decide nothing. What is returned is what a run is trained on, so its checksum is the identity of the data.
"""

import bz2
import codecs
import gzip
import importlib
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any, cast

import numpy as np

from addnorm_exp.errors import UserError, one_line

BLOCK = 2**24  # bytes
FRAME_PART = 2**12  # compressed bytes at a time, for a few can stand for many
LAYERS = 3  # formats inside one another, such as a tar archive in a gzip file
SAMPLE = 2**18  # bytes; three such parts of a file are looked at
CONTROLS = 0.01  # the share of control characters above which bytes are not text
UNLIKE = 0.35  # the total variation between the bytes at two places of a number, above which these are numbers

_DAMAGES = (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError, NotImplementedError)
_NO_TEXT = np.array([code < 9 or code in (11, 127) or (14 <= code < 32 and code != 27) for code in range(256)])
_SIGNATURES = {
    b"%PDF": "a PDF document",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"PAR1": "a Parquet table",
    b"ARROW1": "an Arrow table",
    b"\x93NUMPY": "a NumPy array",
    b"\x89HDF": "an HDF5 file",
    b"SQLite format 3": "an SQLite database",
    b"\xd0\xcf\x11\xe0": "an office document",
    b"\x7fELF": "a program",
}
_UNREADABLE = {
    b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive",
    b"Rar!\x1a\x07": "a RAR archive",
    b"\x04\x22\x4d\x18": "an LZ4 file",
    b"\x1f\x9d": "a file of `compress`",
}
# The longer mark first: that of UTF-32 begins as that of UTF-16 does.
_MARKS = {
    b"\xff\xfe\0\0": "UTF-32",
    b"\0\0\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}


@dataclass(frozen=True)
class Content:
    """The bytes that a file stands for. `notes`: what was done to get them, or what they look like, a line each. `decoded`: whether
    they were text in 16 or 32 bits a character."""

    data: bytes
    notes: tuple[str, ...] = ()
    decoded: bool = False


def read(data: bytes, name: str, where: str, most: int) -> Content:
    """The content of a file of these bytes, with a note where it is not text in UTF-8. `name` opens each note, `where` each error.

    Raises:
      UserError: a compressed file that is damaged, has no reader here, holds several files or more than `most` bytes.
    """
    content = unpacked(data, name, where, most)
    if content.decoded:
        return content
    if kind := likeness(content.data):
        note = f"{name} is not text but looks like {kind}; its bytes are used as they are"
    elif not _is_utf8(content.data):
        note = f"{name} is text but not in UTF-8 (perhaps Latin-1); its bytes are used as they are"
    else:
        return content
    return Content(content.data, (*content.notes, note))


def unpacked(data: bytes, name: str, where: str, most: int) -> Content:
    """The content of a file of these bytes, whatever it is. Arguments and errors are those of `read`."""
    notes: list[str] = []
    while True:
        for signature, kind in _UNREADABLE.items():
            if data.startswith(signature):
                raise UserError(f"{where} is {kind}, which is not read here; unpack it and name the text file")
        packing = next((packing for packing in PACKINGS if packing.holds(data)), None)
        if packing is None:
            break
        if len(notes) == LAYERS:
            raise UserError(f"{where} is packed more than {LAYERS} times; unpack it and name the text file")
        data = packing.unpack(data, where, most)
        if not data:
            raise UserError(f"{where} is {packing.kind} that holds nothing; name a file with text")
        notes.append(f"{name} is {packing.kind}; the {len(data):,} bytes that it holds are used")
    decoded = _decoded(data)
    if decoded is not None:
        encoding, data = decoded
        if len(data) > most:
            raise _too_large(where, most)
        notes.append(f"{name} is {encoding} text; it is used as UTF-8 ({len(data):,} bytes)")
    return Content(data, tuple(notes), decoded is not None)


@dataclass(frozen=True)
class Packing:
    """A compressed format, or an archive of one file. `kind` names it with its article."""

    kind: str
    signature: bytes
    open: Callable[[IO[bytes], str], IO[bytes]]
    offset: int = 0

    def holds(self, data: bytes) -> bool:
        return data[self.offset : self.offset + len(self.signature)] == self.signature

    def unpack(self, data: bytes, where: str, most: int) -> bytes:
        parts, size = [], 0
        try:
            with self.open(io.BytesIO(data), where) as file:
                while part := file.read(BLOCK):
                    parts.append(part)
                    size += len(part)
                    if size > most:
                        raise _too_large(where, most)
        except _DAMAGES as error:
            reason = one_line(error, 100) or type(error).__name__
            raise UserError(f"{where} is {self.kind} that cannot be unpacked ({reason}); get it anew") from error
        return b"".join(parts)


def _too_large(where: str, most: int) -> UserError:
    return UserError(f"{where} holds more than the {most:,} bytes that can be used; train on a part of it")


def _zip(file: IO[bytes], where: str) -> IO[bytes]:
    archive = zipfile.ZipFile(file)
    members = [member for member in archive.infolist() if not member.is_dir() and member.filename[:9] != "__MACOSX/"]
    _require_one([member.filename for member in members], where, "zip")
    if members[0].flag_bits & 1:
        raise UserError(f"{where} is an encrypted zip archive; unpack it and name the text file")
    return archive.open(members[0])


def _tar(file: IO[bytes], where: str) -> IO[bytes]:
    archive = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115  the member is read from it
    members = [member for member in archive.getmembers() if member.isfile()]
    _require_one([member.name for member in members], where, "tar")
    member = archive.extractfile(members[0])
    assert member is not None  # it is a file
    return member


def _require_one(names: list[str], where: str, kind: str) -> None:
    if len(names) != 1:
        listed = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
        raise UserError(
            f"{where} is a {kind} archive of {len(names)} files{f' ({listed})' if names else ''}, and one is needed; "
            "unpack it and name one text file"
        )


def _zstandard(file: IO[bytes], where: str) -> IO[bytes]:
    """By Python's own module (3.14 on), else by the package `zstandard`."""
    for name in ("compression.zstd", "zstandard"):
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        return cast(IO[bytes], _Frames(file, module))
    raise UserError(
        f"{where} is a Zstandard file, for which this Python has no reader; unpack it with `zstd -d` and name the result, "
        "or install the package zstandard"
    )


class _Frames(io.RawIOBase):
    """The content of Zstandard frames, one after another. Raises EOFError if the last one is not whole, which the reader of the package
    `zstandard` does not notice, and OSError if one is damaged."""

    def __init__(self, file: IO[bytes], module: Any):
        self.file, self.module = file, module
        self.frame: Any = None

    def read(self, size: int = -1) -> bytes:
        """The next part, of any size; empty at the end."""
        while True:
            ended = self.frame is None or self.frame.eof
            data = (self.frame.unused_data if self.frame is not None and ended else b"") or self.file.read(FRAME_PART)
            if not data:
                if ended:
                    return b""
                raise EOFError("the file ended before its last frame did")
            if ended:
                self.frame = self._new()
            try:
                if part := self.frame.decompress(data):
                    return part
            except self.module.ZstdError as error:
                raise OSError(one_line(error)) from error

    def _new(self) -> Any:
        decompressor = self.module.ZstdDecompressor()
        return decompressor.decompressobj() if hasattr(decompressor, "decompressobj") else decompressor


PACKINGS = (
    Packing("a gzip file", b"\x1f\x8b\x08", lambda file, where: cast(IO[bytes], gzip.open(file))),  # noqa: SIM115
    Packing("a bzip2 file", b"1AY&SY", lambda file, where: bz2.BZ2File(file), offset=4),
    Packing("an xz file", b"\xfd7zXZ\0", lambda file, where: lzma.LZMAFile(file)),  # noqa: SIM115
    Packing("a Zstandard file", b"\x28\xb5\x2f\xfd", _zstandard),
    Packing("a zip archive", b"PK\x03\x04", _zip),
    Packing("an empty zip archive", b"PK\x05\x06", _zip),
    Packing("a tar archive", b"ustar", _tar, offset=257),
)


def _decoded(data: bytes) -> tuple[str, bytes] | None:
    """The encoding and the text in UTF-8 of what is written in 16 or 32 bits a character; None where it is not."""
    marked = next((encoding for mark, encoding in _MARKS.items() if data.startswith(mark)), None)
    encoding = marked or _unmarked(data)
    if encoding is None:
        return None
    try:
        return encoding.removesuffix("-LE").removesuffix("-BE"), data.decode(encoding).encode()
    except UnicodeError:
        return None


def _unmarked(data: bytes) -> str | None:
    """The byte order of UTF-16 that is not marked: most characters of Western text have a high byte of 0."""
    sample = _sample(data)
    if len(data) % 2 or sample.size < 4:
        return None
    for encoding, low, high in (("UTF-16-LE", sample[::2], sample[1::2]), ("UTF-16-BE", sample[1::2], sample[::2])):
        western = low[high == 0]
        if western.size > 0.7 * low.size and np.mean(_NO_TEXT[western]) <= CONTROLS:
            return encoding
    return None


def _is_utf8(data: bytes) -> bool:
    """Whether the bytes are UTF-8. At its beginning and its end, a part of a file may be cut within a character."""
    first = next((place for place, byte in enumerate(data[:4]) if byte >> 6 != 0b10), 0)
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for start in range(first, len(data), BLOCK):
            decoder.decode(data[start : start + BLOCK])
    except UnicodeDecodeError:
        return False
    return True


def likeness(data: bytes) -> str | None:
    """What bytes look like that are not text; None where they are text in ASCII or a superset of it."""
    sample = _sample(data)
    if np.mean(_NO_TEXT[sample]) <= CONTROLS:
        return None
    for signature, kind in _SIGNATURES.items():
        if data.startswith(signature):
            return kind
    if sample.size >= 1000:
        if len(data) % 4 == 0 and any(_unlike(sample[place::4], sample[place + 2 :: 4]) for place in (0, 1)):
            return "32-bit numbers"
        if len(data) % 2 == 0 and _unlike(sample[::2], sample[1::2]):
            return "16-bit numbers (token ids, as nanoGPT's .bin files hold them; the text itself is wanted here)"
    return "binary data"


def _unlike(first: np.ndarray, second: np.ndarray) -> bool:
    shares = [np.bincount(part, minlength=256) / part.size for part in (first, second)]
    return 0.5 * float(np.abs(shares[0] - shares[1]).sum()) > UNLIKE


def _sample(data: bytes) -> np.ndarray:
    """The beginning, the middle and the end, each from a multiple of four bytes on."""
    whole = np.frombuffer(data, np.uint8)
    if whole.size <= 3 * SAMPLE:
        return whole
    starts = (0, whole.size // 8 * 4, (whole.size - SAMPLE) // 4 * 4)
    return np.concatenate([whole[start : start + SAMPLE] for start in starts])
