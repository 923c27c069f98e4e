"""`runs`, `rerun`, `gc` and `diff`: what they tell, what they remove, and what they never touch."""

import csv
import io
import json
import shutil
import time
from pathlib import Path

import pytest
from of_config import run
from test_report_study import summary_of, write_plan, write_run
from training import BASE, TEXT, assert_equal_runs, config, corpus, held, interrupt, results, signals_restored

from addnorm_exp import cli
from addnorm_exp.config import Config, override
from addnorm_exp.data.corpus import load
from addnorm_exp.runs.folder import RunFolder
from addnorm_exp.runs.lock import Busy
from addnorm_exp.train.program import Program


def call(capsys, *words) -> tuple[int, str, str]:
    with signals_restored():
        code = cli.main(list(map(str, words)))
    return code, *capsys.readouterr()


# --- runs


@pytest.fixture
def every(tmp_path) -> Path:
    """A study with a run of each kind; none was trained."""
    folder, now = tmp_path / "s", time.time()
    kinds = {
        "a-done": summary_of("pre_ln", 2.0, finished=now - 200),
        "b-lost": summary_of("pre_ln", 2.0, "diverged", 40, finished=now - 7200),
        "c-held": summary_of("pre_ln", 2.0, "running", 300, heartbeat=now - 3),
        "d-dead": summary_of("pre_ln", 2.0, "running", 300, heartbeat=now + 1e6),
        "e-sick": summary_of("pre_ln", 2.0, "failed", 10, reason="ValueError: no"),
        "f-torn": summary_of("pre_ln", 2.0),
        "g-born": None,
    }
    tune = [write_run(folder / name, "pre_ln", seed, summary) for seed, (name, summary) in enumerate(kinds.items())]
    (folder / "f-torn" / "summary.json").write_text("[]")
    missing = {"id": "h-none", "overrides": {"scheme": "post_ln", "seed": 9}}
    write_plan(folder, {"tune": tune[:4], "report": [*tune[4:], tune[0], missing]})
    write_run(folder / "x-more", "no_norm", 0, summary_of("no_norm", 2.0))
    return folder


def test_every_status_is_told_apart(every, capsys):
    with held(every / "c-held"):
        code, out, err = call(capsys, "runs", every, "--format=csv")
        assert (code, err) == (0, "")
        told = {row["id"]: row for row in csv.DictReader(io.StringIO(out))}
    assert {name: (row["phase"], row["status"]) for name, row in told.items()} == {
        "a-done": ("tune", "done"),
        "b-lost": ("tune", "diverged"),
        "c-held": ("tune", "running"),
        "d-dead": ("tune", "stopped"),
        "e-sick": ("report", "failed"),
        "f-torn": ("report", "damaged"),
        "g-born": ("report", "stopped"),
        "h-none": ("report", "missing"),
        "x-more": ("–", "done"),
    }
    assert told["b-lost"]["reason"] == "loss is not finite, step 40"
    assert told["e-sick"]["reason"] == "ValueError: no"
    assert told["f-torn"]["reason"].startswith("summary.json: is not a readable JSON object")
    assert (told["h-none"]["scheme"], told["x-more"]["scheme"]) == ("post_ln", "no_norm")
    assert float(told["a-done"]["age"]) == pytest.approx(200, abs=30)
    assert float(told["d-dead"]["age"]) == 0, "a clock that was set back makes no negative age"
    assert told["g-born"]["age"] == ""


def test_table_and_plot_tell_of_a_run_what_the_list_tells(tmp_path, capsys):
    """One that has just been taken, one that is compiled for the first time and one that failed and is tried again are running."""
    folder = tmp_path / "s"
    sick = summary_of("pre_ln", 2.0, "failed", 10, reason="ValueError: no")
    plan = [write_run(folder / "new", "pre_ln", 0, None), write_run(folder / "again", "pre_ln", 1, sick)]
    plan.append({"id": "bare", "overrides": {"scheme": "pre_ln", "seed": 2}})
    (folder / "bare").mkdir()
    write_plan(folder, {"run": plan}, tuned=[])
    with held(folder / "new"), held(folder / "again"), held(folder / "bare"):
        listed, printed, drawn = (call(capsys, word, folder) for word in ("runs", "table", "plot"))
    assert "(3 running)" in listed[1]
    (told,) = [line for line in printed[1].splitlines() if "3 of 3 runs unfinished: " in line]
    for place in ("0 (before its first step)", "1 (at step 10 of 1000)", "2 (before its first step)"):
        assert f"pre_ln seed {place}" in told
    assert "3 unfinished, the most advanced at step 10 of 1000" in drawn[2]
    assert "(1 missing, 1 stopped, 1 failed)" in call(capsys, "runs", folder)[1]
    printed = call(capsys, "table", folder)
    for told in (
        "1 of 3 runs failed: pre_ln seed 1 (ValueError: no)",
        "1 of 3 runs unfinished",
        "1 of 3 runs not run yet",
    ):
        assert told in printed[1]


def test_the_list_for_people(every, capsys):
    code, out, _ = call(capsys, "runs", every, "--status=done,failed")
    assert code == 0
    assert out.startswith(f"### {every} (1 missing, 3 stopped, 1 failed, 1 diverged, 2 done, 1 damaged)")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in out.splitlines() if line.startswith("|")]
    assert [row[0] for row in rows[2:]] == ["a-done", "e-sick", "x-more"]
    assert rows[2][5:7] == ["3 min", "1000/1000"]
    assert [row[3] for row in rows[2:]] == ["seed=0 optim.lr=0.001", "seed=4 optim.lr=0.001", ""], (
        "the plan has no x-more"
    )
    assert call(capsys, "runs", every.parent)[1].startswith(f"### {every} (")
    assert "| run   | pre_ln |          | done" in call(capsys, "runs", every / "a-done")[1]
    code, _, err = call(capsys, "runs", every, "--status=dome")
    assert (code, err) == (2, "error: --status=dome: unknown; did you mean 'done'?\n")


def test_asking_whether_a_run_is_held_takes_it_from_nobody(tmp_path):
    folder = RunFolder(tmp_path / "run")
    assert not folder.is_locked()
    assert not folder.path.exists()
    with folder.claimed():
        assert folder.is_locked()
        with pytest.raises(Busy), RunFolder(tmp_path / "run").claimed():
            pass
    assert not folder.is_locked()


# --- rerun


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A study of two finished runs, seeds 0 and 1, with its plan."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "text").write_bytes(TEXT)
    entries = []
    for seed in (0, 1):
        asked = override(Config(), {**BASE, "data.path": str(folder / "text"), "seed": seed}, "test")
        run(asked, load(asked.data), RunFolder(folder / str(seed)), study="s")
        name = json.loads((folder / str(seed) / "config.json").read_text())["id"]
        (folder / "s").mkdir(exist_ok=True)
        (folder / str(seed)).rename(folder / "s" / name)
        entries.append({"id": name, "overrides": {"seed": seed}})
    write_plan(folder / "s", {"run": entries}, tuned=[], baseline=None)
    return folder / "s"


@pytest.fixture
def study(made, tmp_path) -> tuple[Path, list[str]]:
    """A copy of it, and its ids."""
    shutil.copytree(made, tmp_path / "s")
    return tmp_path / "s", [entry["id"] for entry in json.loads((made / "study.json").read_text())["phases"]["run"]]


def test_a_rerun_is_the_same_run_and_keeps_the_former(study, capsys):
    folder, (first, second) = study
    before = (folder / second / "summary.json").read_bytes()
    code, out, err = call(capsys, "rerun", folder, first[:-3])
    assert code == 0, err
    aside = folder / f".former-{first}-1"
    assert out == f"former record: {aside}\n"
    assert_equal_runs(aside, folder / first)
    assert json.loads((folder / first / "config.json").read_text())["study"] == "s"
    assert (folder / second / "summary.json").read_bytes() == before
    assert call(capsys, "runs", folder, "--status=done")[1].count("| done") == 2
    assert call(capsys, "rerun", folder / second)[0] == 0
    assert (folder / f".former-{second}-1").is_dir()


def test_failed_and_diverged_are_chosen_by_status(study, capsys, monkeypatch):
    folder, (first, second) = study
    reference = results(folder / first)
    for name, changes in ((first, {"status": "failed", "reason": "x"}), (second, {"status": "running"})):
        path = folder / name / "summary.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    code, _, err = call(capsys, "rerun", folder, "--diverged")
    assert (code, err) == (0, f"{folder}: no run has diverged\n")

    def broken(*_):
        raise RuntimeError("again")

    with monkeypatch.context() as patch:
        patch.setattr(Program, "train", broken)
        code, _, err = call(capsys, "rerun", folder, "--failed", "--diverged")
    assert code == 1
    assert "failed: pre_ln optim.lr=0.01 seed=0 (see " in err
    assert call(capsys, "rerun", folder, "--failed")[0] == 0
    assert results(folder / first) == reference
    assert sorted(path.name for path in folder.glob(".former-*")) == [f".former-{first}-1", f".former-{first}-2"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "no runs are named; give their ids, --failed or --diverged"),
        (["pre_ln"], "matches 2 runs"),
        (["post_ln-000000000000"], "no such run here"),
    ],
)
def test_a_rerun_of_nothing_clear(words, told, study, capsys):
    folder, _ = study
    code, out, err = call(capsys, "rerun", folder, *words)
    assert (code, out) == (2, "")
    assert told in err
    assert not list(folder.glob(".former-*"))


def test_a_rerun_that_would_be_another_run_touches_nothing(study, capsys, tmp_path):
    folder, (first, second) = study
    path = folder / first / "config.json"
    record = json.loads(path.read_text())
    text = tmp_path / "other"
    text.write_bytes(TEXT[::-1])
    record["science"]["data"]["path"] = str(text)
    path.write_text(json.dumps(record))
    code, _, err = call(capsys, "rerun", folder, second, first)
    assert code == 2
    assert f"{folder / first}: its data, its scheme's record or the semantics" in err
    text.unlink()
    assert call(capsys, "rerun", folder, second, first)[0] == 2
    assert not list(folder.glob(".former-*"))


def test_a_run_that_is_being_trained_is_left_alone(study, capsys):
    folder, (first, _) = study
    with held(folder / first):
        code, out, err = call(capsys, "rerun", folder, first)
    assert (code, out) == (1, "")
    assert "another process is training" in err
    assert (folder / first / "summary.json").exists()


# --- gc

LEFT = (
    ".summary.json.abcdefgh.writing",
    "checkpoints/.final.npz.abcdefgh.writing",
    "layers/.00000009.npz.abcdefgh.writing",
    "layers/.index.json.abcd_123.writing",
)
HALF = ("checkpoints/.00000012.abcdefgh.writing", "checkpoints/.best-00000004.4711.removing")


def litter(run: Path) -> set[Path]:
    """What killed attempts leave, and beside it files that look alike and are somebody's own."""
    made = {run / name for name in LEFT}
    for path in made:
        path.write_text("half")
    for name in HALF:
        (run / name).mkdir(parents=True)
        (run / name / "arrays.npz").write_text("half")
        made.add(run / name)
    for name in (".env-abcdefgh", ".summary.json-mybackup", "layers/.9.npz", "checkpoints/.cache", "checkpoints/2026"):
        (run / name).write_text("mine")
    return made


def test_gc_lists_then_removes_what_dead_attempts_left(study, capsys):
    folder, (first, second) = study
    expected = litter(folder / first)
    (folder / ".study.json.abcdefgh.writing").write_text("half")
    for name in ("pre_ln-000000000000", "own"):
        (folder / name).mkdir()
        (folder / name / "lock").touch()
    (folder / "own" / "notes").write_text("mine")
    expected |= {folder / ".study.json.abcdefgh.writing", folder / "pre_ln-000000000000"}
    mine = litter(folder / second)
    before = set(folder.rglob("*"))
    with held(folder / second):
        code, out, _ = call(capsys, "gc", folder)
        assert code == 0
        lines = out.splitlines()
        assert lines[-1].startswith(f"{len(expected)} to remove, ")
        assert {Path(line.split("B  ")[1].partition("  (")[0]) for line in lines[:-1]} == expected
        assert set(folder.rglob("*")) == before, "nothing goes without --yes"
        assert call(capsys, "gc", folder, "--yes")[0] == 0
    gone = before - set(folder.rglob("*"))
    assert gone == {path for path in before if any(path == left or left in path.parents for left in expected)}
    assert all(path.exists() for path in mine)
    call(capsys, "gc", folder / second, "--yes")
    assert not any(path.exists() for path in mine)
    assert call(capsys, "gc", folder)[1] == "nothing to remove\n"


def test_gc_takes_more_only_when_asked(study, capsys):
    folder, (first, second) = study
    path = folder / second / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"status": "running"}))
    former = folder / f".former-{first}-1"
    shutil.copytree(folder / first, former)
    _, out, _ = call(capsys, "gc", folder, "--keep=none", "--former")
    listed = [line for line in out.splitlines() if line.startswith("would free")]
    checkpoints = list((folder / first / "checkpoints").iterdir())
    assert len(listed) == len(checkpoints) + 1
    assert call(capsys, "gc", folder, "--keep=none", "--former", "--yes")[0] == 0
    assert not list((folder / first / "checkpoints").iterdir())
    assert not former.exists()
    assert list((folder / second / "checkpoints").iterdir()), "a run that is not finished needs its checkpoints"
    assert call(capsys, "table", folder)[0] == 0


# --- diff


def test_diff_of_runs(study, tmp_path, data, capsys):
    folder, (first, second) = study
    shutil.copytree(folder / first, tmp_path / "copy")
    code, out, _ = call(capsys, "diff", folder / first, tmp_path / "copy")
    assert (code, out) == (0, "the same config and the same numbers, to the last bit\n")
    path = tmp_path / "copy" / "metrics.jsonl"
    lines = path.read_text().splitlines()
    record = json.loads(lines[7])
    lines[7] = json.dumps(record | {"loss": record["loss"] * (1 + 1e-12)})
    path.write_text("\n".join(lines) + "\n")
    code, out, _ = call(capsys, "diff", folder / first, tmp_path / "copy")
    assert code == 1
    assert f"{record['split']} loss  differs at 1 of " in out
    code, out, _ = call(capsys, "diff", folder / first, folder / second)
    assert code == 1
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.startswith("  ")}
    assert rows["seed"] == ["0", "1"]
    assert out.splitlines()[0] == "config"
    assert out.splitlines()[1].split() == [first, second], "the heads of the columns of values"
    assert "val.final.loss" in rows
    assert "optim.lr" not in rows


def test_what_does_not_count_is_told(study, tmp_path, data, capsys):
    folder, (first, _) = study
    other = config(execution__chunk_steps=3, data__path=str(tmp_path / "text"))
    (tmp_path / "text").write_bytes(TEXT)
    run(other, corpus(tmp_path), RunFolder(tmp_path / "run"))
    code, out, _ = call(capsys, "diff", folder / first, tmp_path / "run")
    assert code == 0, out
    assert "chunk_steps  4" in out
    assert "data.path" not in out


def test_diff_of_an_unfinished_run(study, tmp_path, data, capsys):
    folder, (first, _) = study
    interrupt(config(), data, tmp_path / "run", chunks=3)
    code, out, _ = call(capsys, "diff", folder / first, tmp_path / "run")
    assert code == 1
    assert "done" in out
    assert "steps in the first" in out


def test_diff_of_studies(study, tmp_path, capsys):
    folder, (first, second) = study
    other = tmp_path / "t"
    shutil.copytree(folder, other)
    plan = json.loads((other / "study.json").read_text())
    (other / "study.json").write_text(json.dumps(plan | {"name": "t"}))
    code, out, _ = call(capsys, "diff", folder, other)
    assert (code, "the same plan and the same results of every run" in out) == (0, True)
    path = other / first / "summary.json"
    summary = json.loads(path.read_text())
    summary["test"]["final"]["loss"] += 1e-9
    path.write_text(json.dumps(summary))
    plan["phases"]["run"] = plan["phases"]["run"][:1]
    (other / "study.json").write_text(json.dumps(plan))
    code, out, _ = call(capsys, "diff", folder, other)
    assert code == 1
    assert f"only in {folder}\n  {second}" in out
    assert f"results of 1 of the 1 runs that both have\n  {first}  test.final.loss" in out
    code, _, err = call(capsys, "diff", folder, other / first)
    assert code == 2
    assert f"{other / first} is a run and {folder} is not" in err
    assert call(capsys, "diff", folder, tmp_path / "none")[0] == 2
