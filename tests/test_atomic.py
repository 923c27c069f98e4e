"""A file is replaced whole or not at all."""

import re
import stat

import pytest

from addnorm_exp.atomic import SUFFIX, replace, replacement


def test_a_replaced_file_can_be_read_by_others(tmp_path):
    """A temporary file is private, and folders of runs and data are shared."""
    path = tmp_path / "a.json"
    for text in ("one", "twö"):
        replace(path, text)
        assert path.read_text(encoding="utf-8") == text
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def test_a_reader_sees_the_old_content_until_the_block_ends(tmp_path):
    path = tmp_path / "a.json"
    replace(path, "old")
    with replacement(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_text() == "old"
        (hidden,) = [entry.name for entry in tmp_path.iterdir() if entry != path]
        assert re.fullmatch(rf"\.a\.json{SUFFIX}", hidden)
    assert path.read_text() == "new"


def test_an_error_leaves_the_old_content_and_nothing_else(tmp_path):
    path = tmp_path / "a.json"
    replace(path, "old")
    with pytest.raises(UnicodeEncodeError):
        replace(path, "half a surrogate pair: \ud800")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]
