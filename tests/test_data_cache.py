"""The verified cache, with a dataset of 1 kB and sources that count their calls."""

import errno
import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest
from processes import NET

from addnorm_exp.data import cache
from addnorm_exp.data.datasets import Dataset
from addnorm_exp.data.sources import Unavailable
from addnorm_exp.errors import UserError

TEXT = bytes(i * 37 % 256 for i in range(1000))


@dataclass
class Fake:
    """Gives these bytes, or fails with this reason."""

    gives: bytes | str = TEXT
    label: str = "fake"
    calls: list = field(default_factory=list)

    def fetch(self, progress):
        self.calls.append(1)
        progress.begin("fake", 1000)
        progress.at(500)
        if isinstance(self.gives, str):
            raise Unavailable(self.gives)
        return self.gives


def dataset(*sources) -> Dataset:
    return Dataset("tiny", len(TEXT), hashlib.sha256(TEXT).hexdigest(), sources)


def test_fetched_once_then_read_from_the_cache(tmp_path, capsys):
    source = Fake()
    assert cache.obtain(dataset(source), tmp_path / "new" / "folder") == TEXT
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1  # one plain line where stderr is not a terminal
    assert "tiny" in said.err
    assert str(tmp_path) in said.err
    assert cache.obtain(dataset(source), tmp_path / "new" / "folder") == TEXT
    assert len(source.calls) == 1
    assert capsys.readouterr().err == ""
    assert os.listdir(tmp_path / "new" / "folder") == ["tiny"]


FLIPPED = bytes([TEXT[0] ^ 1]) + TEXT[1:]


@pytest.mark.parametrize("damaged", [TEXT[:-1], TEXT[:500], b"", TEXT + b"x", FLIPPED])
def test_a_damaged_copy_is_fetched_again(tmp_path, capsys, damaged):
    (tmp_path / "tiny").write_bytes(damaged)
    source = Fake()
    assert cache.obtain(dataset(source), tmp_path) == TEXT
    assert len(source.calls) == 1
    assert "damaged" in capsys.readouterr().err
    assert (tmp_path / "tiny").read_bytes() == TEXT


def test_a_damaged_copy_is_not_used_when_nothing_can_be_fetched(tmp_path):
    (tmp_path / "tiny").write_bytes(FLIPPED)
    with pytest.raises(UserError, match=r"damaged.*wrong checksum"):
        cache.obtain(dataset(Fake("no network")), tmp_path)
    assert (tmp_path / "tiny").read_bytes() == FLIPPED  # it may be a file of the user's


def test_sources_are_tried_in_order_and_their_bytes_verified(tmp_path):
    sources = [Fake("cannot be reached"), Fake(FLIPPED), Fake(TEXT[:10]), Fake(), Fake()]
    assert cache.obtain(dataset(*sources), tmp_path) == TEXT
    assert [len(source.calls) for source in sources] == [1, 1, 1, 1, 0]


def test_no_source_left_is_one_line_with_the_ways_out(tmp_path):
    sources = [Fake("cannot be reached", "upstream"), Fake(FLIPPED, "mirror")]
    with pytest.raises(UserError) as caught:
        cache.obtain(dataset(*sources), tmp_path)
    line = str(caught.value)
    assert "\n" not in line
    for part in (
        "upstream: cannot be reached",
        "mirror: gave other data",
        str(tmp_path / "tiny"),
        "--config.data.path=",
    ):
        assert part in line
    assert os.listdir(tmp_path) == []


def test_a_folder_that_cannot_be_written_is_found_before_fetching(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    source = Fake()
    with pytest.raises(UserError, match=r"cannot be written.*ADDNORM_CACHE"):
        cache.obtain(dataset(source), tmp_path / "file")
    assert source.calls == []


def test_too_little_room_is_found_before_fetching(tmp_path, monkeypatch):
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda where: SimpleNamespace(free=999))
    source = Fake()
    with pytest.raises(UserError, match="999 bytes free"):
        cache.obtain(dataset(source), tmp_path)
    assert source.calls == []


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_disk_that_fills_up_leaves_nothing_half_written(tmp_path, monkeypatch, step):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache.os, step, full)
    with pytest.raises(UserError, match="No space left on device"):
        cache.obtain(dataset(Fake()), tmp_path)
    assert os.listdir(tmp_path) == []


def test_what_a_killed_process_left_is_swept_away(tmp_path):
    old, young = tmp_path / ".tiny.abcdefgh.writing", tmp_path / ".tiny.01234567.writing"
    old.write_bytes(TEXT[:10])
    young.write_bytes(TEXT[:10])
    os.utime(old, (0, 0))
    cache.obtain(dataset(Fake()), tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".tiny.01234567.writing", "tiny"]


RACER = """
import sys, time
from pathlib import Path
sys.path[:0] = {path!r}
from test_data_cache import TEXT, dataset
from addnorm_exp.data import cache

class Slow:
    label = "slow"
    def fetch(self, progress):  # both are past the look into the cache before either publishes
        Path(sys.argv[1], sys.argv[2]).touch()
        while not Path(sys.argv[1], sys.argv[3]).exists():
            time.sleep(0.005)
        return TEXT

assert cache.obtain(dataset(Slow()), Path(sys.argv[1], "cache")) == TEXT
print("fetched")
"""


def test_two_processes_that_fetch_at_once(tmp_path):
    code = RACER.format(path=[str(Path(__file__).parent), str(Path(__file__).parent.parent)])
    racers = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path), *names], stdout=subprocess.PIPE, text=True)
        for names in (("a", "b"), ("b", "a"))
    ]
    assert [racer.communicate(timeout=NET)[0] for racer in racers] == ["fetched\n"] * 2
    assert [racer.returncode for racer in racers] == [0, 0]
    assert os.listdir(tmp_path / "cache") == ["tiny"]
    assert (tmp_path / "cache" / "tiny").read_bytes() == TEXT


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("ADDNORM_CACHE", "~/data")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.folder() == Path("/home/somebody/data")
    monkeypatch.setenv("ADDNORM_CACHE", "")
    assert cache.folder() == tmp_path / "addnorm_exp"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.folder() == Path("/home/somebody/.cache/addnorm_exp")


def test_a_terminal_sees_a_bar_and_the_end(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    cache.obtain(dataset(Fake()), tmp_path)
    said = capsys.readouterr().err
    assert "0.0 of 0.0 MB" in said
    assert "fetched from fake in 0 s, checksum verified" in said
