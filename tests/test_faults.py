"""Harms of every kind done to a study in processes of their own (benchmarks/chaos.py): the same command finishes it, to the same bits."""

import os
import random
import subprocess
import sys

import pytest
from of_config import run
from training import ROOT, TEXT, assert_equal_runs, config, flags, interrupt, lines, signals_restored

from addnorm_exp import cli
from addnorm_exp.runs.folder import RunFolder
from addnorm_exp.train import recorder

HARMS = ("clock", "event", "full", "moment", "rot", "term", "two")


@pytest.mark.full
def test_a_dozen_harms(tmp_path):
    """Of each kind one at least; `benchmarks/chaos.py` by itself does as many as one likes."""
    seed = random.randrange(10**6)  # told where this fails
    words = ["benchmarks/chaos.py", "--kills=12", f"--seed={seed}", f"--dir={tmp_path}"]
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")}
    told = subprocess.run([sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert told.returncode == 0, f"--seed={seed}: {told.stdout}\n{told.stderr}"
    last = told.stdout.splitlines()[-1]
    assert last.startswith("12 kills in ")
    for harm in HARMS:
        assert f" {harm}" in last, last


def test_a_damaged_checkpoint_is_told_by_the_command(data, tmp_path, capsys):
    """One line on standard error names it; the run goes on from the one before."""
    run(config(), data, RunFolder(tmp_path / "undisturbed"))
    folder = tmp_path / "run"
    step = interrupt(config(), data, folder, chunks=2)
    newest = folder / "checkpoints" / f"{step:08d}"
    path = max((path for path in newest.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    held = bytearray(path.read_bytes())
    held[len(held) // 3] ^= 1
    path.write_bytes(held)
    (tmp_path / "text").write_bytes(TEXT)
    words = ["train", *flags(), f"--config.data.path={tmp_path / 'text'}", f"--workdir={folder}"]
    with signals_restored():
        assert cli.main(words) == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("checkpoint ")]
    assert line.startswith(f"checkpoint {newest}: ")
    assert line.endswith("does not match its checksum; falling back")
    assert_equal_runs(tmp_path / "undisturbed", folder)


@pytest.mark.parametrize("jump", [-1e7, 1e7])
def test_a_clock_that_jumps(jump, data, tmp_path, monkeypatch):
    """The heart goes on beating, and no number changes."""
    run(config(), data, RunFolder(tmp_path / "undisturbed"))
    real, looks = recorder.time.time, []

    def clock() -> float:
        looks.append(None)
        return real() + jump * len(looks)

    beats = []
    monkeypatch.setattr(recorder, "HEARTBEAT", 0.0)
    monkeypatch.setattr(recorder.time, "time", clock)
    write = RunFolder.write_summary
    monkeypatch.setattr(
        RunFolder, "write_summary", lambda folder, record: (beats.append(record["step"]), write(folder, record))[1]
    )
    run(config(), data, RunFolder(tmp_path / "run"))
    assert set(beats) >= {0, 3, 4, 6, 8, 9, 12}, "after every chunk, and every dispatch of one"
    assert [line["step"] for line in lines(tmp_path / "run") if line["split"] == "train"] == list(range(1, 13))
    assert_equal_runs(tmp_path / "undisturbed", tmp_path / "run")
