"""Tiny runs for the tests of training, runs and studies: one block of width 16 on synthetic bytes, all of one shape.

Compilation costs seconds, by the number of tensors, and a step costs microseconds: tests change hypers freely and shapes rarely, and ask
for more than one block, or for biases, where these matter.
"""

import fcntl
import json
import math
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import of_config
from of_config import run, timetable

from addnorm_exp.config import Config, override
from addnorm_exp.data.corpus import Corpus, load
from addnorm_exp.runs.folder import RunFolder
from addnorm_exp.train.loop import Stopped
from addnorm_exp.train.program import Program

ROOT = Path(__file__).parents[1]
BASE = {
    "steps": 12,
    "batch_size": 8,
    "seq_len": 16,
    "model.depth": 1,
    "model.width": 16,
    "model.num_heads": 2,
    "model.bias": False,
    "optim.lr": 1e-2,
    "eval.every": 3,
    "eval.sequences": 20,
    "execution.chunk_steps": 4,
    "execution.checkpoint_every": 4,
    "execution.layers_every": 2,
    "execution.attention_every": 0,
}
TEXT = bytes(np.random.default_rng(7).choice(np.frombuffer(b"abcdefgh    the of", np.uint8), size=20_000))


def config(**changes: Any) -> Config:
    """The tiny config with dotted keys changed; `__` stands for the dot."""
    keys = {**BASE, **{key.replace("__", "."): value for key, value in changes.items()}}
    return of_config.checked(override(Config(), keys, "test"))


def flags(**changes: Any) -> list[str]:
    """The tiny config as words of the command line."""
    said = {**BASE, **{key.replace("__", "."): value for key, value in changes.items()}}
    return ["--config=configs/lm.py", *(f"--config.{key}={value}" for key, value in said.items())]


def corpus(folder: Path, text: bytes = TEXT) -> Corpus:
    """The synthetic bytes through the same door as a file of the user's."""
    path = folder / "text"
    path.write_bytes(text)
    return load(config(data__path=str(path)).data)


@contextmanager
def stop_after(config: Config, chunks: int) -> Iterator[Callable[[], bool]]:
    """A `stop` that becomes true when training reaches the end of its `chunks`-th chunk, however it is cut into dispatches by the clock."""
    times, train, reached = timetable(config), Program.train, []

    def counted(program, state, hypers, held, recorded):
        step, count = int(np.max(state.step)), len(recorded)  # of the lanes that have not diverged
        if step + count == times.boundary(step):
            reached.append(step + count)
        return train(program, state, hypers, held, recorded)

    with mock.patch.object(Program, "train", counted):
        yield lambda: len(reached) >= chunks


def interrupt(config: Config, corpus: Corpus, path: Path, chunks: int) -> int:
    """Trains for so many chunks, then stops as SIGTERM would; returns the step that was saved."""
    with stop_after(config, chunks) as stop:
        try:
            run(config, corpus, RunFolder(path), stop=stop)
        except Stopped:
            return lines(path)[-1]["step"]
    raise AssertionError("the run ended before it could be stopped")


@contextmanager
def held(folder: Path):
    """As a process holds it that trains the run."""
    with open(folder / "lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


@contextmanager
def signals_restored():
    """For commands that are called in this process: they take SIGTERM and SIGINT for themselves."""
    former = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def lines(path: Path) -> list[dict[str, Any]]:
    """metrics.jsonl, read strictly: whole lines only, and no NaN or Infinity, which JSON has not."""

    def refuse(word: str):
        raise ValueError(f"{word} is no JSON")

    text = (path / "metrics.jsonl").read_text()
    assert text.endswith("\n")
    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


def losses(path: Path, split: str = "train") -> np.ndarray:
    values = [line["loss"] for line in lines(path) if line["split"] == split]
    return np.array([math.nan if value is None else value for value in values])


def layers(path: Path, kind: str = "") -> dict[str, np.ndarray]:
    """All rows of layers/, however they were cut into chunks."""
    chunks = [
        np.load(file)
        for file in sorted((path / "layers").glob("*.npz"))
        if file.name.startswith("attention-") == bool(kind)
    ]
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0].files}


def parameters(path: Path) -> dict[str, np.ndarray]:
    """The parameters of a finished run, or those of the newest state, read by NumPy alone."""
    final = path / "checkpoints" / "final.npz"
    if final.exists():
        return dict(np.load(final))
    newest = max(entry for entry in (path / "checkpoints").iterdir() if entry.name.isdigit())
    arrays = np.load(newest / "arrays.npz")
    return {name.removeprefix("parameters/"): arrays[name] for name in arrays if name.startswith("parameters/")}


def results(path: Path) -> dict[str, Any]:
    """What a summary says that does not depend on the clock or on attempts."""
    summary = json.loads((path / "summary.json").read_text())
    names = ("status", "reason", "step", "steps", "val", "test", "train_loss_final", "diverged", "tokens", "parameters")
    return {name: summary[name] for name in names}


def assert_equal_runs(first: Path, second: Path, but: tuple[str, ...] = ()) -> None:
    """Equal to the last bit: metric lines (`but` these scalars), per-layer arrays, parameters, results."""
    for one, other in zip(lines(first), lines(second), strict=True):
        assert {k: v for k, v in one.items() if k not in but} == {k: v for k, v in other.items() if k not in but}
    for kind in ("", "attention-"):
        if any((first / "layers").glob(f"{kind}[0-9]*.npz")):
            ours, theirs = layers(first, kind), layers(second, kind)
            assert ours.keys() == theirs.keys()  # their order is that of writing
            for name in ours:
                np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    ours, theirs = parameters(first), parameters(second)
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    assert results(first) == results(second)
