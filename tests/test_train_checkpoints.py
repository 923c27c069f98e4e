"""Checkpoints that were damaged, torn or thinned out: a run falls back, says so, and ends as if nothing had been."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from processes import NET
from training import ROOT, assert_equal_runs, config, interrupt, lines, parameters

from addnorm_exp.runs.folder import RunFolder
from addnorm_exp.runs.states import halves
from addnorm_exp.train.checkpoint import Checkpoints, like
from addnorm_exp.train.hypers import hypers
from addnorm_exp.train.loop import Attempt, run
from addnorm_exp.train.program import program

CONFIG = config(execution__keep_checkpoints=3, execution__checkpoint_every=3)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("undisturbed")
    run(CONFIG, data, RunFolder(folder))
    return folder


@pytest.fixture(scope="module")
def halfway(tmp_path_factory, data):
    """Stopped after step 9 of 12, with states 3, 6 and 9."""
    folder = tmp_path_factory.mktemp("halfway")
    assert interrupt(CONFIG, data, folder, chunks=5) == 9
    assert states(folder) == ["00000003", "00000006", "00000009"]
    return folder


def states(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir() if path.name.isdigit())


def arrays(checkpoint: Path) -> Path:
    """The largest file of its arrays."""
    return max((path for path in (checkpoint / "arrays").rglob("*") if path.is_file()), key=lambda p: p.stat().st_size)


def flip_a_bit(checkpoint: Path) -> None:
    path = arrays(checkpoint)
    held = bytearray(path.read_bytes())
    held[len(held) // 2] ^= 4
    path.write_bytes(held)


def truncate(checkpoint: Path) -> None:
    path = arrays(checkpoint)
    path.write_bytes(path.read_bytes()[:-10])


def lose_a_file(checkpoint: Path) -> None:
    arrays(checkpoint).unlink()


def lose_the_manifest(checkpoint: Path) -> None:
    (checkpoint / "manifest.json").unlink()


def tear_the_manifest(checkpoint: Path) -> None:
    path = checkpoint / "manifest.json"
    path.write_text(path.read_text()[:40])


def lose_the_meta(checkpoint: Path) -> None:
    (checkpoint / "meta.json").unlink()


DAMAGES = (flip_a_bit, truncate, lose_a_file, lose_the_manifest, tear_the_manifest, lose_the_meta)


@pytest.mark.core
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_state_is_passed_over_for_the_one_before(damage, data, undisturbed, halfway, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(halfway, folder)
    damage(folder / "checkpoints" / "00000009")
    events = []
    run(CONFIG, data, RunFolder(folder), watch=events.append)
    note, start = events[:2]
    assert start == {"event": "start", "step": 6}
    assert note["event"] == "note"
    assert note["text"].startswith(f"checkpoint {folder / 'checkpoints' / '00000009'}: ")
    assert note["text"].endswith("; falling back")
    assert_equal_runs(undisturbed, folder)


def test_with_no_sound_state_the_run_starts_anew(data, undisturbed, halfway, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(halfway, folder)
    for name in states(folder):
        flip_a_bit(folder / "checkpoints" / name)
    events = []
    run(CONFIG, data, RunFolder(folder), watch=events.append)
    assert [event["event"] for event in events[:3]] == ["note"] * 3
    assert events[3] == {"event": "start", "step": 0}
    assert_equal_runs(undisturbed, folder)


def test_a_damaged_older_state_harms_nobody(data, undisturbed, halfway, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(halfway, folder)
    lose_the_meta(folder / "checkpoints" / "00000006")
    run(CONFIG, data, RunFolder(folder))
    assert_equal_runs(undisturbed, folder)


@pytest.mark.parametrize("damage", [flip_a_bit, shutil.rmtree], ids=["flipped", "missing"])
def test_damaged_best_parameters_are_made_again(damage, data, tmp_path):
    """They are part of what a state says: without them the final parameters would be tested in the place of the best ones. At this
    rate the best validation is the first."""
    asked = config(optim__lr=0.5, optim__final_lr=1.0, seed=1, steps=6)
    run(asked, data, RunFolder(tmp_path / "undisturbed"))
    assert interrupt(asked, data, tmp_path / "run", chunks=1) == 3
    damage(tmp_path / "run" / "checkpoints" / "best-00000000")
    summary = run(asked, data, RunFolder(tmp_path / "run"))
    assert summary["val"]["best"]["step"] == 0
    assert summary["test"]["best"] != summary["test"]["final"]
    assert_equal_runs(tmp_path / "undisturbed", tmp_path / "run")


@pytest.mark.core
def test_the_best_parameters_are_saved_and_not_those_of_the_moment(data, tmp_path):
    """At that rate the best validation is the one before the first update: what is saved as best after step 3 are initial values."""
    asked = config(optim__lr=0.5, optim__final_lr=1.0, seed=1, steps=6)
    assert interrupt(asked, data, tmp_path, chunks=1) == 3
    compiled = program(asked)
    initial = compiled.init(hypers(asked)).parameters
    saved = Checkpoints(tmp_path / "checkpoints", keep=1).best(0, like(initial))
    for name, value in initial.items():
        np.testing.assert_array_equal(saved[name], value, err_msg=name)
    moved = parameters(tmp_path)
    assert all(np.any(moved[name] != value) for name, value in initial.items() if not name.endswith("key/bias"))


def test_what_a_kill_left_half_written_is_swept_away(data, undisturbed, halfway, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(halfway, folder)
    half = folder / "checkpoints" / ".00000012.x1y2z3w4.writing"
    shutil.copytree(folder / "checkpoints" / "00000009" / "arrays", half / "arrays")
    (folder / "layers" / ".00000012.npz.writing").write_bytes(b"half")
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"step": 10, "split": "train", "loss": 1.0}\n{"step": 11, "spl')
    run(CONFIG, data, RunFolder(folder))
    assert_equal_runs(undisturbed, folder)
    assert not list(folder.rglob(".*"))


@pytest.mark.core
def test_a_kill_between_the_test_and_the_summary(data, undisturbed, tmp_path, monkeypatch):
    """The state of the last step holds what the summary has to say: the last validation, and the time that training took. The lines of
    the test are written anew, once."""
    told = []

    def killed(attempt, *_, **__):
        told.append(attempt.recorder.progress)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Attempt, "_conclude", killed)
        with pytest.raises(KeyboardInterrupt):
            run(CONFIG, data, RunFolder(tmp_path))
    assert [line["split"] for line in lines(tmp_path)][-2:] == ["test", "test"]
    events = []
    summary = run(CONFIG, data, RunFolder(tmp_path), watch=events.append)
    assert [event["event"] for event in events] == ["start", "done"], "nothing is trained again"
    assert_equal_runs(undisturbed, tmp_path)
    assert summary["val"]["final"]["step"] == 12
    assert summary["train_time_s"] == told[0].train_seconds > 0
    assert summary["step_time_s"] == np.median(told[0].chunk_ms[1:]) / 1000 > 0


@pytest.mark.core
def test_layers_beyond_the_state_are_dropped(data, undisturbed, halfway, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(halfway, folder)
    with np.load(folder / "layers" / "00000008.npz") as chunk:
        rows = {name: chunk[name][-1:] for name in chunk.files}
    np.savez(folder / "layers" / "00000010.npz", **{**rows, "step": np.array([10], np.int32)})
    run(CONFIG, data, RunFolder(folder))
    assert_equal_runs(undisturbed, folder)


def test_the_last_k_states_and_the_best_are_kept(data, undisturbed):
    assert states(undisturbed) == ["00000006", "00000009", "00000012"]
    validations = [line for line in lines(undisturbed) if line["split"] == "val"]
    best = min(validations, key=lambda line: line["loss"])["step"]
    summary = json.loads((undisturbed / "summary.json").read_text())
    assert summary["val"]["best"]["step"] == best
    assert f"best-{best:08d}" in {path.name for path in (undisturbed / "checkpoints").iterdir()}


def tree(value: float):
    return {"a": jnp.full((3,), value), "b": {"c": jnp.int32(value)}}


def test_keep_one_and_the_newest_comes_back(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=1)
    assert checkpoints.latest(like(tree(0.0))) is None
    for step in (1, 2, 30):
        checkpoints.save(step, tree(step), {"step": step})
    assert states(tmp_path) == ["00000030"]
    found, meta = checkpoints.latest(like(tree(0.0)))
    assert meta == {"step": 30}
    assert jax.tree.map(lambda x: x.tolist(), found) == {"a": [30.0] * 3, "b": {"c": 30}}


def test_best_parameters_live_as_long_as_a_state_needs_them(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2)
    for step, best in ((1, 1), (2, 1), (3, 3), (4, 3)):
        if best == step:
            checkpoints.save_best(step, tree(step))
        checkpoints.save(step, tree(step), {"best": {"step": best}})
        checkpoints.remove_best_but(checkpoints.needed_best())
        assert checkpoints.best_steps() == {1: {1}, 2: {1}, 3: {1, 3}, 4: {3}}[step]


FULL = """
import errno, os, sys
from pathlib import Path
import jax.numpy as jnp
from addnorm_exp.train.checkpoint import Checkpoints

events = 0

def full(event, arguments):
    global events
    if event in ("open", "os.mkdir", "os.rename") and "orbax-checkpoint-tmp" in str(arguments[0]):
        events += 1
        if events > int(sys.argv[2]) and not (event == "open" and arguments[1] in ("r", "rb", None)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(arguments[0]))

checkpoints = Checkpoints(Path(sys.argv[1]), keep=1)
sys.addaudithook(full)
try:
    checkpoints.save(1, {f"a{i}": jnp.ones((50 + i, 20)) for i in range(30)}, {"best": None})
except OSError as error:
    print(error.strerror)
"""


@pytest.mark.parametrize("room", [1, 2, 3])
def test_a_save_that_fails_raises_and_none_of_its_threads_prints(tmp_path, room):
    """The disk is full from so many files on: Orbax has up to thirty arrays under way then."""
    words = [sys.executable, "-c", FULL, str(tmp_path / "checkpoints"), str(room)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=NET)
    assert (done.stdout, done.stderr) == ("No space left on device\n", "")
    folder = tmp_path / "checkpoints"
    assert list(folder.iterdir()) == halves(folder)  # TensorStore's threads may write after us
    Checkpoints(folder, keep=1).save(2, tree(0.0), {"best": None})
    assert [path.name for path in folder.iterdir()] == ["00000002"]
