"""Room on disk: what a finished run keeps, in how many files, and that a kill while it goes does no harm."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from of_config import program, run
from studies import STUDY, sweep, write
from training import TEXT, assert_equal_runs, config, flags, interrupt, layers, signals_restored

from addnorm_exp import cli
from addnorm_exp.config.keys import leaves
from addnorm_exp.runs import finish
from addnorm_exp.runs.arrays import sha256
from addnorm_exp.runs.checkpoint_folders import KEEP
from addnorm_exp.runs.folder import RunFolder
from addnorm_exp.runs.layers import LayersWriter, is_merged, merge, read_layers
from addnorm_exp.train import loop

# The best validation is the one before the first update, so that final and best parameters differ.
BROKEN = {"optim__lr": 0.5, "optim__final_lr": 1.0, "seed": 1, "steps": 6}
KEPT = {
    "none": None,
    "final": ["final.npz"],
    "best": ["best.npz", "final.npz"],
    "state": ["00000004", "00000006", "best-00000000", "best.npz", "final.npz"],
}


def names(folder: Path) -> list[str] | None:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else None


def summary_of(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text())


@pytest.mark.parametrize(
    "keep", [keep if keep in ("none", "state") else pytest.param(keep, marks=pytest.mark.full) for keep in KEEP]
)
def test_each_policy_keeps_what_it_says(keep, data, tmp_path):
    asked = config(**BROKEN, execution__keep=keep)
    summary = run(asked, data, RunFolder(tmp_path))
    assert names(tmp_path / "checkpoints") == KEPT[keep]
    assert summary.keep == keep
    assert list(summary.saved) == {"none": [], "final": ["final"]}.get(keep, ["final", "best"])
    held = program(asked).put(data)
    for weights, saved in summary.saved.items():
        path = tmp_path / saved.file
        assert sha256(path) == saved.sha256
        parameters = jax.device_put(dict(np.load(path)), program(asked).replicated)
        (values,) = program(asked).evaluate(parameters, held.test, saved.step)
        assert values == summary.at("test", weights), "the parameters that were tested"


def test_best_parameters_that_are_the_final_ones_are_saved_once(data, tmp_path):
    summary = run(config(), data, RunFolder(tmp_path))
    assert summary.val.best["step"] == 12
    assert names(tmp_path / "checkpoints") == ["final.npz"]
    assert summary.saved["best"] == summary.saved["final"]


def test_a_run_that_diverged_keeps_nothing(data, tmp_path):
    asked = config(scheme="no_norm", optim__lr=1e18, optim__clip=0.0, divergence__bound=1e30)
    summary = run(asked, data, RunFolder(tmp_path))
    assert (summary.status, summary.keep) == ("diverged", "best")
    assert not (tmp_path / "checkpoints").exists()


def test_the_policy_is_no_part_of_a_runs_identity(data, tmp_path):
    ids = {run(config(execution__keep=keep), data, RunFolder(tmp_path / keep)).at("id") for keep in ("none", "state")}
    assert len(ids) == 1
    assert leaves()["execution.keep"].choices == KEEP


def test_a_finished_run_has_ten_files_at_most(data, tmp_path):
    """However it was interrupted, and of however many chunks its layers were."""
    asked = config(**BROKEN, execution__attention_every=2)
    run(asked, data, RunFolder(tmp_path / "undisturbed"))
    for step in (2, 3):
        assert interrupt(asked, data, tmp_path / "run", chunks=1) == step
    assert len(names(tmp_path / "run" / "layers")) > 3  # the index and one chunk of each kind are three
    run(asked, data, RunFolder(tmp_path / "run"))
    files = [str(path.relative_to(tmp_path / "run")) for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert sorted(files) == [
        "checkpoints/best.npz",
        "checkpoints/final.npz",
        "config.json",
        "layers/00000006.npz",
        "layers/attention-00000006.npz",
        "layers/index.json",
        "lock",
        "metrics.jsonl",
        "summary.json",
    ]
    assert_equal_runs(tmp_path / "undisturbed", tmp_path / "run")


def test_a_study_keeps_no_tuning_run_and_the_final_parameters_of_the_others(tmp_path, capsys, monkeypatch):
    """A rerun keeps what the run kept; the study may choose for itself. (No pictures are drawn.)"""
    monkeypatch.setattr("addnorm_exp.report.figures.plot.plot", lambda folder: [])
    one = STUDY.replace('("pre_ln", "no_norm")', '("pre_ln",)').replace("(1, 2)", "(1,)")
    path = write(tmp_path, one, steps=2, **{"eval.every": 2})
    folder = tmp_path / "runs" / "tiny"
    assert sweep(path) == 0
    phases = json.loads((folder / "study.json").read_text())["phases"]
    kept = {
        phase: [names(folder / entry["id"] / "checkpoints") for entry in entries] for phase, entries in phases.items()
    }
    assert kept == {"tune": [None, None], "report": [["final.npz"]]}
    again = [phases["tune"][0]["id"], phases["report"][0]["id"]]
    with signals_restored():
        assert cli.main(["rerun", str(folder), *again]) == 0
    assert [names(folder / name / "checkpoints") for name in again] == [None, ["final.npz"]]
    shutil.rmtree(folder)
    path.write_text(path.read_text().replace("'steps': 2", "'steps': 2, 'execution.keep': 'final'"))
    assert sweep(path) == 0
    assert [names(folder / entry["id"] / "checkpoints") for entry in phases["tune"]] == [["final.npz"]] * 2


# --- kills


@pytest.fixture
def killed(data, tmp_path, monkeypatch) -> Path:
    """A run whose process died after its summary was written, and before anything went."""
    asked = config(**BROKEN, execution__attention_every=2, execution__keep="best")
    with monkeypatch.context() as patched:
        patched.setattr(loop, "finish", lambda *_: None)
        run(asked, data, RunFolder(tmp_path / "s" / "run"))
    assert names(tmp_path / "s" / "run" / "checkpoints") == KEPT["state"]
    assert not is_merged(tmp_path / "s" / "run" / "layers")
    return tmp_path / "s" / "run"


def completed(folder: Path) -> bool:
    return names(folder / "checkpoints") == KEPT["best"] and is_merged(folder / "layers")


def test_the_next_start_completes_what_a_kill_left(killed, data):
    rows = layers(killed)
    before = (killed / "summary.json").read_bytes()
    asked = config(**BROKEN, execution__attention_every=2, execution__keep="state")  # that of the run's end counts
    run(asked, data, RunFolder(killed), watch=lambda event: pytest.fail("nothing is trained"))
    assert completed(killed)
    assert (killed / "summary.json").read_bytes() == before
    for name, array in layers(killed).items():
        np.testing.assert_array_equal(array, rows[name])


@pytest.mark.parametrize("events", range(1, 8))
def test_a_kill_at_any_point_of_the_removal(killed, events, monkeypatch):
    """What has begun to go is out of sight at once, rows are never fewer, and the next launcher completes it."""
    rows = read_layers(killed / "layers")
    seen = []

    def dying(function):
        def call(*arguments, **keywords):
            seen.append(function)
            if len(seen) == events:
                raise KeyboardInterrupt
            return function(*arguments, **keywords)

        return call

    summary = RunFolder(killed).summary()
    with monkeypatch.context() as patched:
        patched.setattr(finish, "delete", dying(finish.delete))
        patched.setattr(finish, "hide", dying(finish.hide))
        patched.setattr(Path, "unlink", dying(Path.unlink))
        with pytest.raises(KeyboardInterrupt):
            finish.finish(RunFolder(killed), summary)
    left = read_layers(killed / "layers")
    for name, array in rows.arrays.items():
        np.testing.assert_array_equal(left.arrays[name], array)
    finish.complete(RunFolder(killed), summary)
    assert completed(killed)
    assert not list(killed.rglob(".*"))


def test_gc_completes_it_too(killed, capsys):
    assert cli.main(["gc", str(killed)]) == 0
    out = capsys.readouterr().out
    assert names(killed / "checkpoints") == KEPT["state"], "nothing goes without --yes"
    assert out.count("not kept once a run is done") == 3
    assert cli.main(["gc", str(killed), "--yes"]) == 0
    assert names(killed / "checkpoints") == KEPT["best"]


@pytest.mark.parametrize("keep", ["none", "final", "best", "state"])
def test_gc_does_the_same_to_older_folders(keep, data, tmp_path, capsys):
    run(config(**BROKEN, execution__keep="state"), data, RunFolder(tmp_path / "run"))
    summary = summary_of(tmp_path / "run")
    capsys.readouterr()
    assert cli.main(["gc", str(tmp_path / "run"), f"--keep={keep}"]) == 0
    out = capsys.readouterr().out
    assert out.count(f"(beyond --keep={keep})") == len(set(KEPT["state"]) - set(KEPT[keep] or []))
    assert "not kept once" not in out
    interrupt(config(seed=5), data, tmp_path / "going", 1)
    before = names(tmp_path / "going" / "checkpoints")
    for name in ("run", "going"):
        assert cli.main(["gc", str(tmp_path / name), f"--keep={keep}", "--yes"]) == 0
    assert names(tmp_path / "run" / "checkpoints") == (KEPT[keep] or [])
    assert names(tmp_path / "going" / "checkpoints") == before, "a run that is not finished needs all of it"
    assert summary_of(tmp_path / "run") == summary


def test_a_policy_that_is_none(tmp_path, capsys):
    assert cli.main(["gc", str(tmp_path), "--keep=finl"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "did you mean 'final'?" in line


# --- chunks of layers


def test_chunks_of_a_finished_run_become_one(tmp_path):
    index = {"sites": ["a", "b"], "tensors": ["w"], "attention_sites": ["a"]}
    for steps in ((1, 2, 3), (4,), (5, 6)):
        writer = LayersWriter(tmp_path, index)
        for step in steps:
            writer.add(step, {"stream_rms": np.full(2, step)})
            writer.add(step, {"entropy": np.full(1, step)}, "attention-")
        writer.flush()
    np.savez(tmp_path / "20251124.npz", weights=np.arange(3))
    assert not is_merged(tmp_path)
    merge(tmp_path)
    assert is_merged(tmp_path)
    assert names(tmp_path) == ["00000006.npz", "20251124.npz", "attention-00000006.npz", "index.json"]
    (tmp_path / "20251124.npz").unlink()
    for kind, name in (("", "stream_rms"), ("attention-", "entropy")):
        rows = read_layers(tmp_path, kind)
        assert rows.step.tolist() == [1, 2, 3, 4, 5, 6]
        assert rows.arrays[name][:, 0].tolist() == [1, 2, 3, 4, 5, 6]
    merge(tmp_path)
    assert read_layers(tmp_path).step.tolist() == [1, 2, 3, 4, 5, 6]


def test_damaged_chunks_are_left_for_those_who_say_so(tmp_path):
    index = {"sites": ["a"], "tensors": ["w"], "attention_sites": []}
    for step in (1, 2):
        writer = LayersWriter(tmp_path, index)
        writer.add(step, {"stream_rms": np.full(1, step)})
        writer.flush()
    (tmp_path / "index.json").write_text("[]")
    merge(tmp_path)
    assert names(tmp_path) == ["00000001.npz", "00000002.npz", "index.json"]


def test_a_single_run_keeps_its_final_and_best_parameters(tmp_path, capsys):
    (tmp_path / "text").write_bytes(TEXT)
    words = ["train", *flags(), f"--config.data.path={tmp_path / 'text'}", f"--workdir={tmp_path / 'run'}"]
    with signals_restored():
        assert cli.main(words) == 0
    assert names(tmp_path / "run" / "checkpoints") == ["final.npz"]
    assert summary_of(tmp_path / "run")["keep"] == "best"
