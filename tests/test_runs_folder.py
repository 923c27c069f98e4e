"""The run's folder: what it refuses, how it is claimed, what survives a torn line, a failure and a full disk."""

import gc
import json
import os
import subprocess
import sys
import time

import jax
import pytest
from of_config import run
from training import TEXT, assert_equal_runs, config, corpus, flags, lines, signals_restored

from addnorm_exp import cli
from addnorm_exp.errors import UserError
from addnorm_exp.runs.folder import RunFolder, write_json
from addnorm_exp.runs.lock import Busy
from addnorm_exp.train import compiler, programs, recorder
from addnorm_exp.train.program import Program


@pytest.fixture(scope="module")
def finished(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("finished")
    run(config(), data, RunFolder(folder))
    return folder


SUMMARY = {
    "format",
    "id",
    "scheme",
    "status",
    "reason",
    "step",
    "steps",
    "heartbeat",
    "started",
    "finished",
    "val",
    "test",
    "train_loss_final",
    "metrics",
    "diverged",
    "parameters",
    "flops_per_token",
    "tokens",
    "step_time_s",
    "record_time_s",
    "compile_time_s",
    "train_time_s",
    "peak_memory_bytes",
    "versions",
    "device",
    "git",
    "data_sha256",
    "confounds",
}


def test_a_summary_is_complete(finished, data):
    summary = json.loads((finished / "summary.json").read_text())
    assert summary.keys() >= SUMMARY
    written = json.loads((finished / "config.json").read_text())
    assert summary["id"] == written["id"]
    assert (summary["status"], summary["step"], summary["steps"], summary["reason"]) == ("done", 12, 12, None)
    assert summary["tokens"] == 12 * 8 * 16
    assert [(metric["name"], metric["better"]) for metric in summary["metrics"]] == [
        ("bpb", "lower"),
        ("loss", "lower"),
    ]
    assert [metric["trivial"] for metric in summary["metrics"]] == pytest.approx([8.0, 5.545177])
    assert summary["data_sha256"] == data.sha256 == written["data"]["sha256"]
    assert written["data"]["train"] + written["data"]["val"] + written["data"]["test"] == len(TEXT)
    assert summary["confounds"].keys() == {
        "norm", "final_norm", "eps", "affine", "init", "embedding_norm", "embedding_scale", "factors", "drop_path",
        "warmup", "dtype", "evidence",
    }  # fmt: skip
    assert summary["started"] < summary["finished"]
    assert summary["versions"].keys() >= {"python", "jax", "flax", "optax"}
    assert summary["device"]["count"] >= 1
    assert summary["val"]["final"]["step"] == 12
    assert summary["test"].keys() == {"final", "best"}


def test_compilation_is_no_part_of_training_time(data, tmp_path, monkeypatch):
    """In a run of one chunk, where it would be all of it. Each program takes half an hour, by a clock of the test's."""
    monkeypatch.setattr(programs, "_PROGRAMS", {})
    hours, compiled = [0.0], jax.stages.Lowered.compile

    def slowly(self, *arguments, **keywords):
        hours[0] += 0.5
        return compiled(self, *arguments, **keywords)

    clock = lambda: 3600 * hours[0] + time.monotonic()  # noqa: E731
    monkeypatch.setattr(jax.stages.Lowered, "compile", slowly)
    monkeypatch.setattr(compiler.time, "perf_counter", clock)
    summary = run(config(steps=4), data, RunFolder(tmp_path), clock=clock)
    assert summary.compile_time_s > 0.9 * 3600, "the step and the evaluation"
    assert summary.train_time_s < 1800
    assert summary.step_time_s < 1800


def test_a_finished_run_is_not_run_again(finished, data):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file() and path.name != "lock"}
    summary = run(config(), data, RunFolder(finished), watch=lambda event: pytest.fail(f"trained: {event}"))
    assert summary.status == "done"
    assert before == {path: path.stat().st_mtime_ns for path in before}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"optim__lr": 3e-3}, "optim.lr=0.01 where this run has 0.003"),
        ({"scheme": "post_ln", "optim__lr": 3e-3}, "scheme='pre_ln' where this run has 'post_ln'"),
        ({"eval__every": 5}, "eval.every=3 where this run has 5"),
        ({"norm__eps": 1e-3}, "norm.eps=None where this run has 0.001"),
        # Written differently and the same once resolved; the last key is what differs.
        ({"init__law": "xavier", "optim__lr": 3e-3}, "with optim.lr=0.01 where this run has 0.003"),
        ({"data__seed": 0, "optim__decay": 0.5, "eval__every": 5}, "with eval.every=3 where this run has 5"),
        (
            {"norm__kind": "layer", "norm__eps": 1e-5, "norm__affine": "gain"},
            "with norm.affine=None where this run has 'gain'",
        ),
        (
            {"init__std": 0.5, "model__drop_path": 0.0, "model__bias": True},
            "with model.bias=False where this run has True",
        ),
    ],
)
def test_a_folder_that_holds_another_run(changes, named, finished, data):
    before = (finished / "summary.json").read_bytes()
    with pytest.raises(UserError, match="contains another run") as caught:
        run(config(**changes), data, RunFolder(finished))
    assert named in str(caught.value)
    assert "choose another folder" in str(caught.value)
    assert (finished / "summary.json").read_bytes() == before


def test_a_file_that_was_moved_is_not_the_difference(finished, data, tmp_path):
    """The path is no part of a run's identity, so it is not what is named."""
    moved = tmp_path / "elsewhere"
    moved.write_bytes(TEXT)
    assert run(config(data__path=str(moved)), data, RunFolder(tmp_path / "run")).status == "done"
    with pytest.raises(UserError, match=r"with eval\.every=3 where this run has 5"):
        run(config(data__path="another", eval__every=5), data, RunFolder(tmp_path / "run"))


def test_other_data_other_semantics_and_a_foreign_folder(finished, data, tmp_path):
    other = corpus(tmp_path, TEXT[::-1])
    with pytest.raises(UserError, match=r"contains another run, on other data \(text\)"):
        run(config(), other, RunFolder(finished))
    folder = RunFolder(tmp_path / "old")
    folder.path.mkdir()
    folder.write_config({**RunFolder(finished).config().plain(), "semantics": 0})
    with pytest.raises(UserError, match="made under semantics 0"):
        run(config(), data, folder)
    folder.write_config({**RunFolder(finished).config().plain(), "id": "pre_ln-000000000000"})
    with pytest.raises(UserError, match="the scheme's record has changed"):
        run(config(), data, folder)
    (folder.path / "config.json").unlink()
    (folder.path / "metrics.jsonl").write_text("")
    with pytest.raises(UserError, match=r"contains metrics\.jsonl but no run"):
        run(config(), data, folder)


def test_what_cannot_be_trained_leaves_no_folder(data, tmp_path):
    """A folder would hold the person to the mistake: the mended command is another run."""
    with pytest.raises(UserError, match="is too short for seq_len=1000"):
        run(config(seq_len=1000), data, RunFolder(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_folder_that_another_process_holds(data, tmp_path, capsys):
    folder = tmp_path / "run"
    folder.mkdir()
    (tmp_path / "text").write_bytes(TEXT)
    code = f"import fcntl, sys; f = open({str(folder / 'lock')!r}, 'a'); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        with pytest.raises(Busy):
            run(config(), data, RunFolder(folder))
        with signals_restored():
            words = ["train", *flags(), f"--config.data.path={tmp_path / 'text'}", f"--workdir={folder}"]
            assert cli.main(words) == 2
        out, err = capsys.readouterr()
        assert out == ""
        (line,) = err.splitlines()
        assert line.startswith(f"error: {folder}: another process is training this run")
        holder.kill()
    assert run(config(), data, RunFolder(folder)).status == "done", "a killed holder holds nothing"


def test_a_run_holds_its_folder_from_its_first_event_to_its_last(data, tmp_path):
    refused = []

    def watch(event):
        with pytest.raises(Busy), RunFolder(tmp_path).claimed():
            pass
        refused.append(event["event"])

    run(config(), data, RunFolder(tmp_path), watch=watch)
    assert (refused[0], refused[-1]) == ("start", "done")
    with RunFolder(tmp_path).claimed():
        pass  # and no longer


def test_a_running_run_says_that_it_lives(data, tmp_path, monkeypatch):
    """Its summary, read from the disk at each chunk: status, a heartbeat that goes on, and how far it has come."""
    monkeypatch.setattr(recorder, "HEARTBEAT", 0.0)
    seen, begun = [], time.time()

    def watch(event):
        if event["event"] == "val":
            seen.append((event["step"], RunFolder(tmp_path).summary()))

    run(config(), data, RunFolder(tmp_path), watch=watch)
    assert [step for step, _ in seen] == [0, 3, 6, 9, 12]
    assert [summary.step for _, summary in seen] == [0, 3, 6, 9, 12]
    assert {summary.status for _, summary in seen} == {"running"}
    assert all(summary.finished is None and summary.reason is None for _, summary in seen)
    beats = [summary.heartbeat for _, summary in seen]
    assert beats == sorted(set(beats))
    assert begun <= beats[0]
    assert beats[-1] <= RunFolder(tmp_path).summary().finished <= time.time()


@pytest.mark.parametrize(
    "torn", ['{"step": 7, "split": "tra', '{"step": 7, "split": "train", "loss"', "\x00\x00\x00", "7"]
)
def test_a_torn_last_line_is_dropped(torn, tmp_path):
    folder = RunFolder(tmp_path)
    folder.append([{"step": step, "split": "train", "loss": 1.0} for step in range(1, 7)])
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write(torn)
    folder.rewind(5)
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3, 4, 5]
    folder.append([{"step": 6, "split": "train", "loss": float("nan")}])
    assert lines(tmp_path)[-1]["loss"] is None


def test_json_is_strict_and_replaced_whole(tmp_path):
    path = tmp_path / "summary.json"
    write_json(path, {"a": float("nan"), "b": [float("inf"), {"c": -float("inf")}], "d": 1.5})
    assert json.loads(path.read_text(), parse_constant=pytest.fail) == {"a": None, "b": [None, {"c": None}], "d": 1.5}
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text())["d"] == 1.5
    assert [entry.name for entry in tmp_path.iterdir()] == ["summary.json"]


def test_a_failure_is_recorded_and_tried_again(data, tmp_path, monkeypatch, finished):
    def broken(*_):
        raise RuntimeError("the\ncable was pulled")

    with monkeypatch.context() as patch:
        patch.setattr(Program, "attention", broken)
        asked = config(execution__attention_every=6)
        with pytest.raises(RuntimeError, match="cable"):
            run(asked, data, RunFolder(tmp_path))
    summary = RunFolder(tmp_path).summary()
    assert (summary.status, summary.reason) == ("failed", "RuntimeError: the cable was pulled")
    assert "Traceback" in (tmp_path / "failure.log").read_text()
    run(config(), data, RunFolder(tmp_path))
    assert_equal_runs(finished, tmp_path)


# --- a full disk


@pytest.fixture
def disk(tmp_path):
    """A file system of 2 MiB, for root on Linux."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(place)], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"a small file system cannot be mounted here (root on Linux can): {made.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.skipif(
    os.name != "posix" or not hasattr(os, "geteuid") or os.geteuid() != 0, reason="root can mount a small disk"
)
@pytest.mark.parametrize("free", [0, 8, 60, 300, 600], ids=lambda kib: f"{kib}KiB")
def test_a_full_disk_is_one_line_and_the_run_goes_on_when_there_is_space(free, disk, finished, data, tmp_path, capfd):
    ballast, folder, text = disk / "ballast", disk / "run", tmp_path / "text"
    text.write_bytes(TEXT)
    ballast.write_bytes(bytes((2048 - free) * 1024))
    words = ["train", *flags(), f"--config.data.path={text}", f"--workdir={folder}"]
    with signals_restored():
        assert cli.main(words) == 2
    gc.collect()
    err = capfd.readouterr().err
    *progress, line = err.splitlines()
    assert line.startswith("error: ")
    assert all(said.startswith(("compil", "step ")) for said in progress)
    assert "no space left" in line.lower()
    assert "free some space" in line
    for path in folder.glob("*.json"):
        json.loads(path.read_text())
    ballast.unlink()
    with signals_restored():
        assert cli.main(words) == 0
    assert_equal_runs(finished, folder)
    assert not list(folder.rglob(".*"))
