"""What a file is, by its bytes: compressed text and UTF-16 become the text, numbers and binary data are named, text stays as it is."""

import bz2
import gzip
import hashlib
import importlib
import io
import lzma
import tarfile
import zipfile

import numpy as np
import pytest

from addnorm_exp.config.tasks.task import DataConfig
from addnorm_exp.data import corpus, formats
from addnorm_exp.errors import UserError

TEXT = ("It was the best of times, it was the worst of times; naïve café – 愚か.\n" * 300).encode()
NOISE = np.random.default_rng(0).bytes(30_000)


def zipped(*members: tuple[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return file.getvalue()


def tarred(*members: tuple[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return file.getvalue()


def token_ids(dtype: str, seed: int = 0) -> bytes:
    """Ids as a tokenizer of 50,257 words gives them: Zipf's law."""
    ids = np.random.default_rng(seed).zipf(1.2, 30_000)
    return (ids[ids < 50_257] - 1).astype(dtype).tobytes()


PACKED = {
    "gzip": (gzip.compress(TEXT), "a gzip file"),
    "bzip2": (bz2.compress(TEXT), "a bzip2 file"),
    "xz": (lzma.compress(TEXT), "an xz file"),
    "zip": (zipped(("a.txt", TEXT)), "a zip archive"),
    "zip by a Mac": (zipped(("a/", b""), ("a/a.txt", TEXT), ("__MACOSX/a/._a.txt", b"x")), "a zip archive"),
    "tar": (tarred(("a.txt", TEXT)), "a tar archive"),
    "tar in gzip": (gzip.compress(tarred(("a.txt", TEXT))), "a tar archive"),
    "UTF-16 in gzip": (gzip.compress(TEXT.decode().encode("utf-16")), "UTF-16 text"),
    "UTF-16": (TEXT.decode().encode("utf-16"), "UTF-16 text"),
    "UTF-16, big-endian": (b"\xfe\xff" + TEXT.decode().encode("utf-16-be"), "UTF-16 text"),
    "UTF-16, no mark": (TEXT.decode().encode("utf-16-le"), "UTF-16 text"),
    "UTF-16, big-endian, no mark": (TEXT.decode().encode("utf-16-be"), "UTF-16 text"),
    "UTF-32": (TEXT.decode().encode("utf-32"), "UTF-32 text"),
}


@pytest.mark.parametrize("case", PACKED)
def test_text_is_had_out_of_what_it_is_packed_in(case, tmp_path):
    """And it is the same corpus, and the same run, as the plain file's."""
    packed, kind = PACKED[case]
    path = tmp_path / "any.name"
    path.write_bytes(packed)
    config = DataConfig(path=str(path))
    loaded = corpus.load(config)
    assert b"".join(part.tobytes() for part in (loaded.train, loaded.val, loaded.test)) == TEXT
    assert loaded.sha256 == hashlib.sha256(TEXT).hexdigest()
    assert corpus.spec(config) == loaded.spec
    assert kind in loaded.notes[-1]
    assert f"{len(TEXT):,} bytes" in loaded.notes[-1]
    assert all(note.startswith("any.name is ") and "\n" not in note for note in loaded.notes)


PLAIN = {
    "ASCII": b"plain words\n\tand tabs\r\n" * 500,
    "UTF-8": TEXT,
    "UTF-8 with a mark": b"\xef\xbb\xbf" + TEXT,
    "Latin-1": ("naïve café\n" * 500).encode("latin-1"),
    "Shift JIS": ("愚か者の船は海を行く。\n" * 500).encode("shift_jis"),
    "one letter": b"a" * 10_000,
    "a line": b"x\n",
    "colours of a terminal": b"\x1b[31mred\x1b[0m words and more words\n" * 300,
    "text with a NUL": b"a line of a log file that was cut\n" * 300 + b"\0" + b"more of it\n" * 300,
    "DNA": np.random.default_rng(0).choice(np.frombuffer(b"ACGT", np.uint8), 20_000).tobytes(),
}


@pytest.mark.parametrize("case", PLAIN)
def test_text_stays_as_it_is(case):
    content = formats.read(PLAIN[case], "file", "FILE", 2**20)
    assert content.data is PLAIN[case]
    other = "file is text but not in UTF-8 (perhaps Latin-1); its bytes are used as they are"
    assert content.notes == ((other,) if case in ("Latin-1", "Shift JIS") else ())


def test_utf_8_that_is_cut_within_a_character_is_utf_8(monkeypatch):
    monkeypatch.setattr(formats, "BLOCK", 7)
    data = ("naïve 愚か者 😀\n" * 500).encode()
    starts = [place for place in range(40) if data[place] >> 6 == 0b10]
    for place in starts:
        assert formats.read(data[place:], "file", "FILE", 2**20).notes == ()
        assert formats.read(data[:place], "file", "FILE", 2**20).notes == ()
    assert formats.read(b"\x80\x80\x80\x80" + data, "file", "FILE", 2**20).notes != ()


BINARY = {
    "uint16": (token_ids("<u2"), "16-bit numbers (token ids"),
    "uint16 of few": (np.random.default_rng(0).integers(0, 65, 20_000).astype("<u2").tobytes(), "16-bit numbers"),
    "uint32": (token_ids("<u4"), "32-bit numbers"),
    "float32": (np.random.default_rng(0).normal(size=9_000).astype("<f4").tobytes(), "32-bit numbers"),
    "noise": (NOISE, "binary data"),
    "zeros": (bytes(10_000), "binary data"),
    "few bytes": (bytes(range(32)), "binary data"),
    "UTF-16 that is none": (b"\xff\xfe" + NOISE, "binary data"),
    "PDF": (b"%PDF-1.7\n" + NOISE, "a PDF document"),
    "Parquet": (b"PAR1" + NOISE, "a Parquet table"),
    "NumPy": (b"\x93NUMPY" + NOISE, "a NumPy array"),
}


@pytest.mark.parametrize("case", BINARY)
def test_what_is_no_text_is_named_and_used_as_it_is(case):
    data, kind = BINARY[case]
    content = formats.read(data, "file", "FILE", 2**20)
    assert content.data is data
    (note,) = content.notes
    assert note.startswith(f"file is not text but looks like {kind}")
    assert note.endswith("; its bytes are used as they are")


def test_numbers_are_told_in_a_large_file_too():
    data = b"".join(token_ids("<u2", seed) for seed in range(30))
    assert len(data) > 3 * formats.SAMPLE
    assert "16-bit numbers" in formats.read(data, "file", "FILE", 2**24).notes[0]


def damaged(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes(255 - byte for byte in data[middle : middle + 8]) + data[middle + 8 :]


REFUSED = {
    "7z": (b"7z\xbc\xaf\x27\x1c" + NOISE, "is a 7-Zip archive, which is not read here; unpack it"),
    "two members": (zipped(("a", b"1"), ("b", b"2")), "zip archive of 2 files (a, b), and one is needed; unpack it"),
    "many": (zipped(*((f"{n}", b"1") for n in range(5))), "zip archive of 5 files (0, 1, 2, …), and one is needed"),
    "no member": (zipped(), "zip archive of 0 files, and one is needed"),
    "tar of two": (gzip.compress(tarred(("a", b"1"), ("b", b"2"))), "tar archive of 2 files (a, b)"),
    "nothing": (gzip.compress(b""), "is a gzip file that holds nothing"),
    "cut": (gzip.compress(NOISE)[:-100], "is a gzip file that cannot be unpacked"),
    "cut xz": (lzma.compress(NOISE)[:-100], "is an xz file that cannot be unpacked"),
    "damaged gzip": (damaged(gzip.compress(TEXT)), "is a gzip file that cannot be unpacked"),
    "damaged bzip2": (damaged(bz2.compress(TEXT)), "is a bzip2 file that cannot be unpacked"),
    "damaged zip": (damaged(zipped(("a.txt", NOISE))), "is a zip archive that cannot be unpacked"),
    "cut zip": (zipped(("a.txt", TEXT))[:-30], "is a zip archive that cannot be unpacked"),
    "too much": (gzip.compress(bytes(2**20)), "holds more than the 1,000,000 bytes that can be used"),
    "too much as UTF-8": (("あ" * 400_000).encode("utf-16"), "holds more than the 1,000,000 bytes that can be used"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_unpacked_is_one_line(case):
    data, line = REFUSED[case]
    with pytest.raises(UserError) as caught:
        formats.read(data, "file", "FILE", 1_000_000)
    assert str(caught.value).startswith("FILE ")
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_zstandard_without_a_reader_is_one_line(monkeypatch):
    def missing(name: str):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(
        UserError, match="FILE is a Zstandard file, for which this Python has no reader; unpack it with"
    ):
        formats.read(b"\x28\xb5\x2f\xfd" + NOISE, "file", "FILE", 2**20)


@pytest.mark.parametrize("reader", ["compression.zstd", "zstandard"])
def test_zstandard_with_a_reader(reader):
    module = pytest.importorskip(reader)
    compress = module.compress
    frames = compress(TEXT[:5000]) + compress(TEXT[5000:])  # a file may have several
    assert formats.read(frames, "file", "FILE", 2**20).data == TEXT
    damaged = (frames[:-7], frames[:20] + bytes(len(frames) - 20), frames + b"\x28\xb5\x2f\xfd")
    for content in damaged:
        with pytest.raises(UserError, match="FILE is a Zstandard file that cannot be unpacked"):
            formats.read(content, "file", "FILE", 2**20)
    with pytest.raises(UserError, match="FILE holds more than the 1,048,576 bytes"):
        formats.read(compress(bytes(2**21)), "file", "FILE", 2**20)


def test_formats_inside_one_another_end():
    """A gzip file may even hold itself."""
    data = TEXT
    for _ in range(formats.LAYERS):
        data = gzip.compress(data)
    assert formats.read(data, "file", "FILE", 2**20).data == TEXT
    with pytest.raises(UserError, match="FILE is packed more than 3 times; unpack it"):
        formats.read(gzip.compress(data), "file", "FILE", 2**20)
