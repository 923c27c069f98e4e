"""A study from its file to its table: run once, run again, interrupted, filtered, with failures."""

import contextlib
import io
import json
import shutil
import signal
import time
from pathlib import Path

import pytest
from of_config import experiment
from studies import PLAN, sweep, write
from test_report_study import summary_of
from training import assert_equal_runs, held

from addnorm_exp import cli
from addnorm_exp.config import Config
from addnorm_exp.report.load import load_study
from addnorm_exp.runs.folder import FINISHED, RunFolder
from addnorm_exp.sweep.agenda import Agenda
from addnorm_exp.sweep.display import Display
from addnorm_exp.sweep.executors import here
from addnorm_exp.sweep.launchers import local
from addnorm_exp.sweep.planner import run_folders
from addnorm_exp.sweep.study import Planned
from addnorm_exp.train import programs
from addnorm_exp.train.loop import run_pack
from addnorm_exp.train.program import Program


@pytest.fixture
def trained(monkeypatch):
    """The ids of the runs that were trained in this test, which draws no pictures: those of `finished` are looked at."""
    made = []
    monkeypatch.setattr("addnorm_exp.report.figures.plot.plot", lambda folder: [])

    def train(members, corpus, **more):
        for member in members:
            before = member.folder.summary()
            if before is None or before.status not in FINISHED:
                made.append(member.folder.path.name)
        return run_pack(members, corpus, **more)

    monkeypatch.setattr(here, "train", train)
    return made


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a study file whose runs are all made, and what its command printed."""
    folder = tmp_path_factory.mktemp("study")
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        assert sweep(write(folder)) == 0
    return folder, out.getvalue(), err.getvalue()


def copied(finished, tmp_path) -> Path:
    """A finished study of the test's own; the text stays where it is."""
    shutil.copytree(finished[0] / "runs", tmp_path / "runs")
    plan = tmp_path / "runs" / "tiny" / "study.json"
    plan.write_text(json.dumps(json.loads(plan.read_text()) | {"file": str(tmp_path / "tiny.py")}))
    return Path(shutil.copy(finished[0] / "tiny.py", tmp_path / "tiny.py"))


def table(out: str) -> str:
    """What was printed, without the times and the pictures' place."""
    printed = out[out.index("### ") :].partition("pictures:")[0].splitlines()
    columns = next(line for line in printed if "ms/step" in line).split("|")
    timed = next(number for number, column in enumerate(columns) if "ms/step" in column)
    rows = [line.split("|") for line in printed]
    return "\n".join("|".join(row[:timed] + row[timed + 1 :]) if len(row) > timed else "|".join(row) for row in rows)


def plan(path: Path) -> dict:
    written = json.loads((path.parent / "runs" / "tiny" / "study.json").read_text())
    assert Path(written.pop("file")).name == "tiny.py"
    return written


@pytest.mark.core
def test_one_command_makes_the_table(finished):
    folder, out, err = finished
    assert "Pre-LN" in out or "pre_ln" in out
    assert "no_norm" in out or "No norm" in out
    assert "pictures: " in out
    assert "Traceback" not in err
    study = folder / "runs" / "tiny"
    written = json.loads((study / "study.json").read_text())
    assert [len(written["phases"][phase]) for phase in ("tune", "report")] == [4, 4]
    assert (written["tuned"], written["baseline"], written["group"]) == (["optim.lr"], "pre_ln", ["scheme"])
    ids = {entry["id"] for phase in written["phases"].values() for entry in phase}
    assert ids == {path.parent.name for path in study.glob("*/summary.json")}
    assert list(study.rglob("*.png"))
    assert list(study.rglob("*.svg"))


@pytest.mark.core
def test_the_winner_of_tuning_is_reported(finished):
    folder = finished[0]
    study = load_study(folder / "runs" / "tiny")
    assert study.name == "tiny"
    for scheme in ("pre_ln", "no_norm"):
        tried = {
            run.flat["optim.lr"]: run.number("val", "final", "loss")
            for run in study.phases["tune"]
            if run.scheme == scheme
        }
        best = min(tried, key=tried.__getitem__)
        reported = [run for run in study.phases["report"] if run.scheme == scheme]
        assert [run.flat["optim.lr"] for run in reported] == [best, best]
        assert [run.seed for run in reported] == [1, 2]


def test_a_second_command_trains_nothing_and_prints_the_same_table(finished, tmp_path, trained, capsys):
    path = copied(finished, tmp_path)
    before = plan(path)
    assert sweep(path) == 0
    assert trained == []
    assert table(capsys.readouterr().out) == table(finished[1])
    assert plan(path) == before


def test_what_is_missing_is_made(finished, tmp_path, trained, capsys):
    path = copied(finished, tmp_path)
    lost = plan(path)["phases"]["report"][1]["id"]
    shutil.move(path.parent / "runs" / "tiny" / lost, tmp_path / "before")
    assert sweep(path) == 0
    assert trained == [lost]
    assert_equal_runs(tmp_path / "before", path.parent / "runs" / "tiny" / lost)


def reported(path: Path) -> set[str]:
    """The schemes whose winners the plan reports."""
    return {entry["id"].partition("-")[0] for entry in plan(path)["phases"].get("report", ())}


def test_an_interrupted_study_goes_on(finished, tmp_path, trained, capsys, monkeypatch):
    """SIGTERM in the third run, after its first chunk."""
    path = copied(finished, tmp_path)
    shutil.rmtree(path.parent / "runs")
    dispatch = Program.train

    def interrupted(self, state, hypers, held, recorded):
        if len(trained) == 3 and int(state.step) + len(recorded) == 4:
            signal.raise_signal(signal.SIGTERM)
        return dispatch(self, state, hypers, held, recorded)

    with monkeypatch.context() as patch:
        patch.setattr(Program, "train", interrupted)
        assert sweep(path) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "stopped; run the same command again to continue" in err
    assert len(trained) == 3
    assert reported(path) == {"pre_ln"}, "the group whose tuning has ended"
    stopped = trained[-1]
    assert json.loads((path.parent / "runs" / "tiny" / stopped / "summary.json").read_text())["step"] == 4
    trained.clear()
    assert sweep(path) == 0
    out, err = capsys.readouterr()
    assert trained[0] == stopped
    assert "resumed after step 4" in err
    assert len(trained) == PLAN - 2
    assert table(out) == table(finished[1])


def test_failed_runs_are_told_and_tried_again(finished, tmp_path, trained, capsys, monkeypatch):
    path = copied(finished, tmp_path)
    phases = plan(path)["phases"]
    lost = phases["report"][3]["id"]
    shutil.rmtree(path.parent / "runs" / "tiny" / lost)

    def broken(*_):
        raise RuntimeError("the cable was pulled")

    with monkeypatch.context() as patch:
        patch.setattr(Program, "train", broken)
        assert sweep(path) == 1
    trained.clear()
    err = capsys.readouterr().err
    assert "the cable was pulled" in err
    assert "failed in report" in err
    assert "failure.log" in err
    assert "Traceback" not in err
    summary = json.loads((path.parent / "runs" / "tiny" / lost / "summary.json").read_text())
    assert (summary["status"], summary["reason"]) == ("failed", "RuntimeError: the cable was pulled")
    assert sweep(path) == 0
    assert trained == [lost]
    assert table(capsys.readouterr().out) == table(finished[1])


def test_max_runs_bounds_all_phases_together(finished, tmp_path, trained, capsys):
    path = copied(finished, tmp_path)
    shutil.rmtree(path.parent / "runs")
    assert sweep(path, "--max_runs=3") == 0
    assert len(trained) == 3
    assert "1 run to go" in capsys.readouterr().err
    assert reported(path) == {"pre_ln"}, "no winner among half of the candidates"
    assert cli.main(["runs", str(path.parent / "runs" / "tiny")]) == 0
    heading = capsys.readouterr().out.splitlines()[0]
    assert heading.endswith("(3 missing, 3 done, 2 not planned yet)"), "all 8 of the plan"
    assert sweep(path, "--max_runs=3") == 0
    assert len(trained) == 6
    assert sweep(path) == 0
    assert len(trained) == PLAN
    assert plan(path)["waiting"] == 0
    assert table("### " + capsys.readouterr().out.rpartition("### ")[2]) == table(finished[1])


def test_filter_takes_a_part_and_keeps_the_plan(finished, tmp_path, trained, capsys):
    path = copied(finished, tmp_path)
    before = plan(path)
    shutil.rmtree(path.parent / "runs")
    assert sweep(path, "--filter=scheme=no_norm") == 0
    assert len(trained) == 4
    assert all(name.startswith("no_norm-") for name in trained)
    assert sweep(path) == 0
    assert len(trained) == PLAN
    assert plan(path) == before
    assert sweep(path, "--filter=scheme=no_norm") == 0
    assert plan(path) == before, "a filter chooses what runs, not what the study is"


def test_a_filter_on_a_tuned_key_chooses_no_winner(finished, tmp_path, trained, capsys):
    path = copied(finished, tmp_path)
    shutil.rmtree(path.parent / "runs")
    assert sweep(path, "--filter=optim.lr=1e-3") == 0
    assert len(trained) == 2
    assert reported(path) == set(), "a winner chosen among half of the candidates is none"


def test_a_dry_run_of_a_finished_study_has_nothing_to_do(finished, tmp_path, capsys):
    path = copied(finished, tmp_path)
    assert sweep(path, "--dry_run") == 0
    out = capsys.readouterr().out
    assert out.count("  done\n") == PLAN
    assert "nothing to do" in out


def test_a_plain_sweep(tmp_path, trained):
    path = write(tmp_path, "BASE = {base!r}\n\ndef sweep():\n    for seed in (0, 1):\n        yield {'seed': seed}\n")
    assert sweep(path) == 0
    assert len(trained) == 2
    assert plan(path)["phases"].keys() == {"run"}
    study = load_study(path.parent / "runs" / "tiny")
    assert [run.seed for run in study.phases["run"]] == [0, 1]


def test_runs_of_one_shape_are_made_together_and_share_one_compilation(tmp_path, trained, monkeypatch):
    """The plan takes turns between two schemes, and one program is kept at a time: in its order there would be four compilations."""
    monkeypatch.setattr(programs, "_PROGRAMS", {})
    monkeypatch.setattr(programs, "_KEPT", 1)
    order = "BASE = {base!r}\n\ndef sweep():\n    for seed in (0, 1):\n        for scheme in ('pre_ln', 'no_norm'):\n            "
    small = {"execution.diagnostics": False, "model.depth": 1}
    path = write(tmp_path, order + "yield {'scheme': scheme, 'seed': seed}\n", **small)
    assert sweep(path) == 0
    assert [name.partition("-")[0] for name in trained] == ["pre_ln", "pre_ln", "no_norm", "no_norm"]
    compiled = [json.loads((tmp_path / "runs" / "tiny" / name / "summary.json").read_text()) for name in trained]
    assert [summary["compile_time_s"] > 0.0 for summary in compiled] == [True, False, True, False]


@pytest.mark.parametrize(
    ("yielded", "told"),
    [("{**b, 'seed': 0}", "which tuning has used"), ("{**b, 'seed': 9, 'seq_len': 1000}", "seq_len=1000")],
)
def test_a_report_is_checked_once_more_when_the_winners_are_known(yielded, told, finished, tmp_path, trained, capsys):
    """The stand-ins of the check before tuning have the first learning rate; what is wrong here is wrong for the second alone."""
    path = copied(finished, tmp_path)
    said = f"return [{yielded} if b['optim.lr'] == 1e-2 else {{**b, 'seed': 9}} for b in best]"
    path.write_text(path.read_text().replace('return product(best, axis("seed", (1, 2)))', said))
    assert said in path.read_text()
    for words in (("--dry_run",), ()):
        assert sweep(path, *words) == 2
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
        assert told in line
    assert trained == []


@contextlib.contextmanager
def trained_elsewhere(monkeypatch, run: Path, ends):
    """While the sweep runs, another process holds this run until the sweep looks a second time; then `ends` does what it does last."""
    other = contextlib.ExitStack()
    other.enter_context(held(run))
    looks, pause = [], time.sleep

    def sleep(seconds):
        if seconds != local.INTERVAL:  # somebody else's
            pause(seconds)
            return
        looks.append(seconds)
        if len(looks) == 2:
            ends()
            other.close()

    monkeypatch.setattr(local.time, "sleep", sleep)
    yield
    assert len(looks) == 2
    monkeypatch.undo()


def test_what_another_launcher_finishes_counts(finished, tmp_path, trained, monkeypatch, capsys):
    """The report phase, which needs all of tuning, waits for it and goes on."""
    path = copied(finished, tmp_path)
    study = tmp_path / "runs" / "tiny"
    tune, report = (plan(path)["phases"][phase][0]["id"] for phase in ("tune", "report"))
    summary = (study / tune / "summary.json").read_bytes()
    (study / tune / "summary.json").unlink()
    shutil.rmtree(study / report)
    with trained_elsewhere(monkeypatch, study / tune, lambda: (study / tune / "summary.json").write_bytes(summary)):
        assert sweep(path) == 0
    assert trained == [tune, report]  # the first in vain
    assert (study / tune / "summary.json").read_bytes() == summary
    out, err = capsys.readouterr()
    assert table(out) == table(finished[1])
    assert "another process is training it" in err
    assert "waiting for 1 run that another process is training" in err
    assert "tune 4/4" in err


@pytest.mark.full
def test_what_another_launcher_leaves_is_trained(finished, tmp_path, trained, monkeypatch, capsys):
    path = copied(finished, tmp_path)
    study = tmp_path / "runs" / "tiny"
    tune = plan(path)["phases"]["tune"][0]["id"]
    shutil.rmtree(study / tune)
    (study / tune).mkdir()
    with trained_elsewhere(monkeypatch, study / tune, lambda: None):
        assert sweep(path) == 0
    assert trained[-1] == tune
    assert set(trained) == {tune}
    assert table(capsys.readouterr().out) == table(finished[1])


@pytest.mark.full
def test_a_bound_on_runs_is_no_reason_to_wait(finished, tmp_path, trained, monkeypatch, capsys):
    path = copied(finished, tmp_path)
    study = tmp_path / "runs" / "tiny"
    one, other = (entry["id"] for entry in plan(path)["phases"]["tune"][:2])
    for run in (one, other):
        shutil.rmtree(study / run)
    (study / one).mkdir()
    with held(study / one):
        assert sweep(path, "--max_runs=1") == 1
    assert other in trained
    assert "; run the same command again later" in capsys.readouterr().err


def test_runs_that_another_process_finishes_meanwhile_count(finished, tmp_path, trained, capsys, monkeypatch):
    """They are missing when the phase begins, and there when their turn comes."""
    path = copied(finished, tmp_path)
    now, asked = Agenda.finished, set()

    def late(self, run):
        first = run.id not in asked
        asked.add(run.id)
        return None if first else now(self, run)

    monkeypatch.setattr(Agenda, "finished", late)
    assert sweep(path) == 0
    assert trained == []
    assert table(capsys.readouterr().out) == table(finished[1])


def test_the_runs_of_a_pack_that_was_waited_for_count_once(tmp_path, monkeypatch):
    """Another process had begun the pack and left it: it is trained here as a whole, once."""
    runs = [Planned(name, experiment(Config()), {}) for name in ("a", "b")]
    for run in runs:
        (tmp_path / run.id).mkdir()
        RunFolder(tmp_path / run.id).write_pack(["a", "b"])
    begun, ended, busy = [], [], [True, False]

    def train(self, work, watcher, stop):
        begun.append([run.id for run in work.pack.runs])
        if busy.pop(0):
            return "busy"
        for folder in work.folders.values():
            folder.write_summary(summary_of("pre_ln", 2.0))
        return "trained"

    monkeypatch.setattr(here.Trainer, "train", train)
    agenda = Agenda(runs, run_folders(tmp_path), "s")
    launcher = local.Local(Display(), lambda: False)
    monkeypatch.setattr(launcher.display, "end", lambda run, *_: ended.append(run.id))
    launcher.launch(agenda)
    assert begun == [["a", "b"]] * 2
    assert ended == ["a", "b"]
    assert agenda.summaries.keys() == {"a", "b"}
    assert agenda.busy == []
