"""Runs under the mirror, with W&B's real client, for the tests of the mirror; the server is wandb_server.py's."""

import os
import subprocess
import sys
from pathlib import Path

from of_config import run
from processes import wait
from training import ROOT, config, flags
from wandb_server import Server

from addnorm_exp.runs.folder import RunFolder
from addnorm_exp.runs.mirror.mirror import Mirror
from addnorm_exp.runs.mirror.rows import RowReader
from addnorm_exp.runs.mirror.settings import Place
from addnorm_exp.runs.mirror.window import read_ledger

LONG = {
    "steps": 600,
    "eval__every": 200,
    "optim__lr": 3e-3,
    "execution__checkpoint_every": 100,
    "execution__layers_every": 50,
}


def command(folder: Path, *words: str, **changes) -> list[str]:
    text = f"--config.data.path={folder / 'text'}"
    return [sys.executable, "main.py", "train", *flags(**changes), text, f"--workdir={folder / 'run'}", *words]


def mirrored(
    home: Path, data, said: list[str], watch=lambda event: None, mode: str = "online", stop=lambda: False, **changes
) -> dict:
    """Trains in this process under a mirror; `said` gets its lines."""
    with Mirror(mode, Place(), said.append) as mirror:
        folder = RunFolder(home / "run")
        return run(config(**changes), data, folder, watch=mirror.watch(folder.path, watch), stop=stop)


def settle(mirror: Mirror) -> None:
    """Until every run is sent, or left out: what the end of a command waits for, without its limits."""
    mirror.end()
    wait(lambda: not mirror.pending or mirror._gone)


def sync(directory: Path, server: Server | None = None, *more: str) -> tuple[int, list[str], str]:
    """`main.py sync DIRECTORY` in a process of its own: exit code, lines, errors. Without a server: without a key."""
    environment = {**os.environ, **(server.environment if server else {"WANDB_API_KEY": ""})}
    words = [sys.executable, "main.py", "sync", str(directory), *more]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout.splitlines(), done.stderr


def ledger(folder: Path) -> dict:
    return read_ledger(folder) or {"step": -1}


def assert_mirrored(server: Server, folder: Path, opened: int = 1) -> None:
    """The server has what the record says: every step once, its numbers, the config, the summary, the picture."""
    told = server.run()
    rows = RowReader(folder).poll(ended=True)
    assert told.steps == [step for step, _ in rows]
    for row, (_, expected) in zip(told.history, rows, strict=True):
        assert {key: row[key] for key in expected} == expected
        assert {key for key in row if not key.startswith("_")} - set(expected) <= {"layers/heatmap"}
    summary = RunFolder(folder).summary().plain()
    for key in ("status", "val", "test", "parameters", "confounds"):
        assert told.summary[key] == summary[key]
    assert told.state == "finished"
    assert told.opened == opened
    assert server.lines == len(rows)  # nothing was sent twice
    picture = told.summary["layers/heatmap"]["path"]
    assert told.files[picture].startswith(b"\x89PNG")
