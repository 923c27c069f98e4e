"""Checkpoints that were damaged, torn or thinned out: a run falls back, says so, and ends as if nothing had been."""

import errno
import json
import os
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from of_config import hypers, program, run
from training import assert_equal_runs, config, interrupt, lines, parameters

from addnorm_exp.errors import UserError
from addnorm_exp.runs.arrays import sha256
from addnorm_exp.runs.folder import RunFolder
from addnorm_exp.train.checkpoint import Checkpoints, like
from addnorm_exp.train.lane import Lane

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


def flip_a_bit(checkpoint: Path) -> None:
    path = checkpoint / "arrays.npz"
    held = bytearray(path.read_bytes())
    held[len(held) // 2] ^= 4
    path.write_bytes(held)


def truncate(checkpoint: Path) -> None:
    path = checkpoint / "arrays.npz"
    path.write_bytes(path.read_bytes()[:-10])


def lose_a_file(checkpoint: Path) -> None:
    (checkpoint / "arrays.npz").unlink()


def lose_the_manifest(checkpoint: Path) -> None:
    (checkpoint / "manifest.json").unlink()


def tear_the_manifest(checkpoint: Path) -> None:
    path = checkpoint / "manifest.json"
    path.write_text(path.read_text()[:40])


def lose_the_meta(checkpoint: Path) -> None:
    (checkpoint / "meta.json").unlink()


DAMAGES = (flip_a_bit, truncate, lose_a_file, lose_the_manifest, tear_the_manifest, lose_the_meta)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_state_is_passed_over_for_the_one_before(damage, data, undisturbed, halfway, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(halfway, folder)
    damage(folder / "checkpoints" / "00000009")
    events = []
    run(CONFIG, data, RunFolder(folder), watch=events.append)
    note, start = events[:2]
    assert (start["event"], start["step"]) == ("start", 6)
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
    assert [event["event"] for event in events[:4]] == ["note"] * 4
    assert events[3]["text"] == "no checkpoint; starting again from step 0 (9 recorded steps are discarded)"
    assert (events[4]["event"], events[4]["step"]) == ("start", 0)
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
    assert summary.val.best["step"] == 0
    assert summary.test.best != summary.test.final
    assert_equal_runs(tmp_path / "undisturbed", tmp_path / "run")


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
    half.mkdir()
    shutil.copy(folder / "checkpoints" / "00000009" / "arrays.npz", half)
    (folder / "checkpoints" / ".final.npz.x1y2z3w4.writing").write_bytes(b"half")
    (folder / "layers" / ".00000012.npz.abcdefgh.writing").write_bytes(b"half")
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"step": 10, "split": "train", "loss": 1.0}\n{"step": 11, "spl')
    run(CONFIG, data, RunFolder(folder))
    assert_equal_runs(undisturbed, folder)
    assert not list(folder.rglob(".*"))


def test_a_kill_between_the_test_and_the_summary(data, undisturbed, tmp_path, monkeypatch):
    """The state of the last step holds what the summary has to say: the last validation, and the time that training took. The lines of
    the test are written anew, once."""
    told = []

    def killed(lane, *_, **__):
        told.append(lane.totals)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Lane, "_conclude", killed)
        with pytest.raises(KeyboardInterrupt):
            run(CONFIG, data, RunFolder(tmp_path))
    assert [line["split"] for line in lines(tmp_path)][-2:] == ["test", "test"]
    events = []
    summary = run(CONFIG, data, RunFolder(tmp_path), watch=events.append)
    assert [event["event"] for event in events] == ["start", "done"], "nothing is trained again"
    assert_equal_runs(undisturbed, tmp_path)
    assert summary.val.final["step"] == 12
    assert summary.train_time_s == told[0].train_seconds > 0
    assert summary.step_time_s == np.median(told[0].chunk_ms[1:]) / 1000 > 0


def test_layers_beyond_the_state_are_dropped(data, undisturbed, halfway, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(halfway, folder)
    with np.load(folder / "layers" / "00000008.npz") as chunk:
        rows = {name: chunk[name][-1:] for name in chunk.files}
    np.savez(folder / "layers" / "00000010.npz", **{**rows, "step": np.array([10], np.int32)})
    run(CONFIG, data, RunFolder(folder))
    assert_equal_runs(undisturbed, folder)


def test_the_last_k_states_and_the_best_are_kept_where_the_state_is(data, tmp_path):
    run(CONFIG, data, RunFolder(tmp_path), keep="state")
    assert states(tmp_path) == ["00000006", "00000009", "00000012"]
    validations = [line for line in lines(tmp_path) if line["split"] == "val"]
    best = min(validations, key=lambda line: line["loss"])["step"]
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["val"]["best"]["step"] == best
    assert f"best-{best:08d}" in {path.name for path in (tmp_path / "checkpoints").iterdir()}


def tree(value: float):
    return {"a": jnp.full((3,), value, jnp.float32), "b": {"c": jnp.int32(value)}}


def test_keep_one_and_the_newest_comes_back(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=1)
    assert checkpoints.latest(like(tree(0.0))) is None
    for step in (1, 2, 30):
        checkpoints.save(step, tree(step), {"step": step})
        checkpoints.prune()
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
        checkpoints.prune()
        assert checkpoints.best_steps() == {1: {1}, 2: {1}, 3: {1, 3}, 4: {3}}[step]


@pytest.mark.parametrize("room", range(5))
def test_a_save_for_which_there_is_no_room_leaves_the_one_before(tmp_path, monkeypatch, room):
    """The disk is full after so many writes to it."""
    folder = tmp_path / "checkpoints"
    Checkpoints(folder, keep=1).save(1, tree(1.0), {"best": None})
    real, events = os.fsync, []

    def full(descriptor: int) -> None:
        events.append(descriptor)
        if len(events) > room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    if room < 3:  # arrays, meta, manifest
        with pytest.raises(OSError, match="No space left"):
            Checkpoints(folder, keep=1).save(2, tree(2.0), {"best": None})
        assert [path.name for path in folder.iterdir()] == ["00000001"]
    else:
        Checkpoints(folder, keep=1).save(2, tree(2.0), {"best": None})
        Checkpoints(folder, keep=1).prune()
        assert [path.name for path in folder.iterdir()] == ["00000002"]


def test_a_checkpoint_of_an_older_version_is_kept_and_the_run_refused(data, halfway, tmp_path):
    """They were Orbax's, whose files are told by their names."""
    folder = tmp_path / "run"
    shutil.copytree(halfway, folder)
    for name in states(folder):
        checkpoint = folder / "checkpoints" / name
        (checkpoint / "arrays").mkdir()
        (checkpoint / "arrays.npz").rename(checkpoint / "arrays" / "_METADATA")
        sums = {path: sha256(checkpoint / path) for path in ("arrays/_METADATA", "meta.json")}
        (checkpoint / "manifest.json").write_text(json.dumps(sums))
    before = states(folder)
    with pytest.raises(
        UserError, match="an older version wrote it, and this one cannot read it; use that version, or delete"
    ):
        run(CONFIG, data, RunFolder(folder))
    assert states(folder) == before


def test_a_checkpoint_of_a_former_format_is_kept_and_refused(tmp_path):
    """Format 1 had the optimiser's state under `moments`."""
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=1)
    checkpoints.save(1, tree(1.0), {})
    (folder,) = (tmp_path / "checkpoints").iterdir()
    arrays = dict(np.load(folder / "arrays.npz"))
    assert int(arrays["format"]) == 2
    np.savez(folder / "arrays.npz", **{**arrays, "format": np.array(1, np.int32)})
    sums = {name: sha256(folder / name) for name in ("arrays.npz", "meta.json")}
    (folder / "manifest.json").write_text(json.dumps(sums))
    with pytest.raises(UserError, match=r"00000001: an older version wrote it, and this one cannot read it; use that"):
        checkpoints.latest(like(tree(1.0)))
    assert folder.exists()


def test_arrays_that_are_not_this_versions_are_one_line(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=1)
    checkpoints.save(1, tree(1.0), {})
    for other in ({"a": jnp.ones(3)}, {**tree(1.0), "a": jnp.ones(4)}, {**tree(1.0), "a": jnp.ones(3, jnp.int32)}):
        with pytest.raises(UserError, match="contains other arrays than this version trains") as caught:
            checkpoints.latest(like(other))
        assert "\n" not in str(caught.value)


def test_a_type_that_numpy_has_not_is_not_saved_as_another(tmp_path):
    with pytest.raises(TypeError, match="a: bfloat16 cannot be saved"):
        Checkpoints(tmp_path / "checkpoints", keep=1).save(1, {"a": jnp.ones(3, jnp.bfloat16)}, {})
    assert not list((tmp_path / "checkpoints").iterdir())
