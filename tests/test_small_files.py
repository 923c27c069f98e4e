"""A person's own file, of any size and packed or not: it is trained on, and what was done with it is said and recorded."""

import gzip
import json
import re

from of_config import check_data
from studies import sweep, write
from training import TEXT, config, flags, signals_restored

from addnorm_exp import cli
from addnorm_exp.data.corpus import load


def train(path, folder, **changes) -> int:
    words = ["train", *flags(steps=2, **changes), f"--config.data.path={path}", f"--workdir={folder}"]
    with signals_restored():
        return cli.main(words)


def test_a_small_packed_file_is_trained_on(tmp_path, capsys):
    """5 kB: 250 bytes of validation are 14 windows of 17, though 20 are asked for."""
    path = tmp_path / "text.gz"
    path.write_bytes(gzip.compress(TEXT[:5_000]))
    assert train(path, tmp_path / "run") == 0
    first, second, *_ = capsys.readouterr().err.splitlines()  # what follows is progress
    assert first == "text.gz is a gzip file; the 5,000 bytes that it holds are used"
    assert second == (
        "text.gz has 14 validation windows and 14 test windows of seq_len=16: all are used, fewer than eval.sequences=20"
    )
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["windows"] == {"val": 14, "test": 14}
    assert summary["val_tokens"] == summary["test_tokens"] == 14 * 16
    recorded = json.loads((tmp_path / "run" / "config.json").read_text())["data"]
    assert (recorded["train_tokens"], recorded["val_tokens"], recorded["test_tokens"]) == (4500, 250, 250)
    assert recorded["notes"] == [first]


def test_windows_are_told_only_where_they_are_fewer(data, tmp_path, capsys):
    (tmp_path / "text").write_bytes(TEXT)
    assert train(tmp_path / "text", tmp_path / "run") == 0
    assert "windows" not in capsys.readouterr().err
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["windows"] == {"val": 20, "test": 20}


def test_the_advice_for_a_file_that_is_too_small_is_followed(tmp_path, capsys):
    """Word by word: training starts."""
    path = tmp_path / "text"
    path.write_bytes(TEXT[:300])
    assert train(path, tmp_path / "run") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "error: text is too short for seq_len=16: a window has 17 bytes, and the validation and the test split have 15 each, "
        "1/20 of 300; set seq_len to 14 or less, or take a file of 340 bytes or more"
    )
    key, value = re.search(r"set (\w+) to (\d+)", line).groups()
    assert train(path, tmp_path / "run", **{key: int(value)}) == 0
    path.write_bytes(TEXT[: int(re.search(r"a file of (\d+) bytes", line)[1])])
    check_data(config(), load(config(data__path=str(path)).data))


def test_a_sweep_says_it_once_and_before_it_trains(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("addnorm_exp.report.figures.plot.plot", lambda folder: [])
    path = write(tmp_path, "BASE = {base!r}\n\ndef sweep():\n    return [{'seed': n} for n in (0, 1)]\n", steps=1)
    (tmp_path / "text").write_bytes(TEXT[:1000].decode().encode("utf-16"))
    lines = [
        "text is UTF-16 text; it is used as UTF-8 (1,000 bytes)",
        "text has 2 validation windows and 2 test windows of seq_len=16: all are used, fewer than eval.sequences=20",
    ]
    assert sweep(path, "--dry_run") == 0
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("data: ")] == [
        f"data: {line}" for line in lines
    ]
    assert sweep(path) == 0
    assert capsys.readouterr().err.splitlines()[:2] == lines
