"""The dry run: the plan with its cost, checked as before a run, and nothing fetched, written or trained."""

import pytest
from studies import PLAN, STUDY, sweep, write

from addnorm_exp.data import cache
from addnorm_exp.sweep import phases
from addnorm_exp.sweep.executors import here


@pytest.fixture
def trained(monkeypatch):
    """Nothing may be."""
    monkeypatch.setattr(here, "train", lambda *_, **__: pytest.fail("a dry run trained"))
    return []


def test_a_dry_run_writes_and_runs_nothing(tmp_path, trained, capsys):
    path = write(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert sweep(path, "--dry_run") == 0
    out, err = capsys.readouterr()
    assert sorted(entry for entry in tmp_path.rglob("*") if "__pycache__" not in entry.parts) == before
    assert trained == []
    assert err == ""
    assert "tune: 4 runs" in out
    assert "report: 4 runs (2 groups not tuned yet" in out
    assert out.count("  to do\n") == PLAN
    assert "start and 2 compilations" in out


def test_its_columns_are_aligned_and_no_time_is_zero(tmp_path, capsys):
    assert sweep(write(tmp_path), "--dry_run") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    heads = [place for place, line in enumerate(lines) if line.startswith("  id ")]
    for start, end in zip(heads, [*heads[1:], len(lines)], strict=True):
        table = lines[start:end]
        left = [table[0].index(name) for name in ("run", "status")]
        right = [table[0].index(name) + len(name) for name in ("parameters", "FLOPs", "time")]
        for line in table:
            assert all(line[place - 1] == " " and line[place] != " " for place in left), line
            assert all(line[place] == " " and line[place - 1] != " " for place in right), line
            assert " 0 s " not in line


def test_what_limits_the_comparison_stands_beside_the_total(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(phases, "above", lambda *_: ["Not the same: this."])
    assert sweep(write(tmp_path), "--dry_run") == 0
    *rows, caveat, total, time = capsys.readouterr().out.splitlines()
    assert (caveat, total[:12], time[:6]) == ("Not the same: this.", "to do: 8 run", "time: ")
    assert caveat not in rows


def test_one_group_is_told_in_the_singular(tmp_path, capsys):
    one = STUDY.replace('("pre_ln", "no_norm")', '("pre_ln",)').replace("(1e-3, 1e-2)", "(1e-3,)")
    assert sweep(write(tmp_path, one.replace("(1, 2)", "(1,)")), "--dry_run") == 0
    out = capsys.readouterr().out
    assert "tune: 1 run\n" in out
    assert "report: 1 run (1 group not tuned yet: its first candidate is listed)\n" in out
    assert "start and 1 compilation " in out


def test_data_that_are_too_short_are_told(tmp_path, capsys):
    assert sweep(write(tmp_path, seq_len=1000), "--dry_run") == 2
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert "is too short for seq_len=1000" in line
    assert out == ""
    assert not (tmp_path / "runs").exists()


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ADDNORM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "obtain", lambda *_: pytest.fail("a dry run fetched data"))
    return tmp_path / "cache"


NAMED = "BASE = {base!r}\ndel BASE['data.path']\nBASE['data.name'] = 'shakespeare'\n\ndef sweep():\n    return [{changes}]\n"


def test_data_that_are_not_in_the_cache_are_not_fetched_and_said_to_be(tmp_path, empty_cache, capsys):
    path = write(tmp_path, NAMED.replace("{changes}", "{}"))
    assert sweep(path, "--dry_run") == 0
    line = (
        f"data: shakespeare is not in the cache: 5,057,198 bytes are fetched once into {empty_cache / 'shakespeare'}\n"
    )
    assert line in capsys.readouterr().out
    assert not empty_cache.exists()
    empty_cache.mkdir()
    (empty_cache / "shakespeare").write_bytes(bytes(5_057_198))
    assert sweep(path, "--dry_run") == 0
    assert "data:" not in capsys.readouterr().out


def test_their_length_is_known_all_the_same(tmp_path, empty_cache, capsys):
    """The validation split holds a twentieth of 5,057,198 bytes."""
    fits = 252_859 // 1001
    for count, remarked in ((fits, False), (fits + 1, True)):
        path = write(tmp_path, NAMED.replace("{changes}", f"{{'seq_len': 1000, 'eval.sequences': {count}}}"))
        assert sweep(path, "--dry_run") == 0
        line = f"data: shakespeare has {fits} validation windows and {fits} test windows of seq_len=1000"
        assert (line in capsys.readouterr().out) == remarked
    path = write(tmp_path, NAMED.replace("{changes}", "{'seq_len': 252_859}"))
    assert sweep(path, "--dry_run") == 2
    assert "shakespeare is too short for seq_len=252859" in capsys.readouterr().err
