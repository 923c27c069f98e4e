"""A study from its file to its table: run once, run again, interrupted, filtered, with failures."""

import contextlib
import io
import json
import shutil
import signal
from pathlib import Path

import pytest
from training import BASE, TEXT, assert_equal_runs, signals_restored

from addnorm_exp import cli
from addnorm_exp.report.load import load_study
from addnorm_exp.runs.folder import FINISHED
from addnorm_exp.sweep import launch
from addnorm_exp.sweep.launch import Launcher
from addnorm_exp.train import loop, program
from addnorm_exp.train.program import Program

STUDY = """
from addnorm_exp.sweep import axis, product

CONFIG = "configs/lm.py"
BASE = {base!r}
TUNED = ("optim.lr",)
BASELINE = "pre_ln"


def tune():
    return product(axis("scheme", ("pre_ln", "no_norm")), axis("optim.lr", (1e-3, 1e-2)), axis("seed", [0]))


def report(best):
    return product(best, axis("seed", (1, 2)))
"""
PLAN = 4 + 4


def write(folder: Path, source: str = STUDY, **changes) -> Path:
    """The study file `tiny.py` in a folder, on a file of text beside it."""
    (folder / "text").write_bytes(TEXT)
    base = {
        **BASE,
        "steps": 6,
        "eval.every": 6,
        "execution.checkpoint_every": 0,
        "data.path": str(folder / "text"),
        **changes,
    }
    path = folder / "tiny.py"
    path.write_text(source.replace("{base!r}", repr(base)))
    return path


def sweep(path: Path, *words: str) -> int:
    with signals_restored():
        return cli.main(["sweep", str(path), f"--runs={path.parent / 'runs'}", *words])


@pytest.fixture
def trained(monkeypatch):
    """The ids of the runs that were trained in this test."""
    made = []

    def train(config, corpus, folder, **more):
        before = folder.summary()
        if before is None or before["status"] not in FINISHED:
            made.append(folder.path.name)
        return loop.run(config, corpus, folder, **more)

    monkeypatch.setattr(launch, "train", train)
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
            run.flat["optim.lr"]: run.summary["val"]["final"]["loss"]
            for run in study.phases["tune"]
            if run.scheme == scheme
        }
        best = min(tried, key=tried.__getitem__)
        reported = [run for run in study.phases["report"] if run.scheme == scheme]
        assert [run.flat["optim.lr"] for run in reported] == [best, best]
        assert [run.seed for run in reported] == [1, 2]


@pytest.mark.core
def test_a_second_command_trains_nothing_and_prints_the_same_table(finished, tmp_path, trained, capsys):
    path = copied(finished, tmp_path)
    before = plan(path)
    assert sweep(path) == 0
    assert trained == []
    assert table(capsys.readouterr().out) == table(finished[1])
    assert plan(path) == before


@pytest.mark.core
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
    train = launch.train

    def interrupted(config, corpus, folder, **more):
        if len(trained) == 2:
            signal.raise_signal(signal.SIGTERM)
        return train(config, corpus, folder, **more)

    with monkeypatch.context() as patch:
        patch.setattr(launch, "train", interrupted)
        assert sweep(path) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "stopped; the same command goes on from here" in err
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


@pytest.mark.core
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
    assert "1 runs to go" in capsys.readouterr().err
    assert reported(path) == {"pre_ln"}, "no winner among half of the candidates"
    assert sweep(path, "--max_runs=3") == 0
    assert len(trained) == 6
    assert sweep(path) == 0
    assert len(trained) == PLAN
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


@pytest.mark.core
def test_a_dry_run_writes_and_runs_nothing(tmp_path, trained, capsys):
    path = write(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert sweep(path, "--dry_run") == 0
    out, err = capsys.readouterr()
    assert sorted(entry for entry in tmp_path.rglob("*") if "__pycache__" not in entry.parts) == before
    assert trained == []
    assert err == ""
    assert "tune: 4 runs" in out
    assert "report: 4 runs (2 groups not tuned yet" in out
    assert out.count(" parameters ") == PLAN
    assert "2 compilations" in out


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
    monkeypatch.setattr(program, "_PROGRAMS", {})
    monkeypatch.setattr(program, "_KEPT", 1)
    order = "BASE = {base!r}\n\ndef sweep():\n    for seed in (0, 1):\n        for scheme in ('pre_ln', 'no_norm'):\n            "
    small = {"execution.diagnostics": False, "model.depth": 1}
    path = write(tmp_path, order + "yield {'scheme': scheme, 'seed': seed}\n", **small)
    assert sweep(path) == 0
    assert [name.partition("-")[0] for name in trained] == ["pre_ln", "pre_ln", "no_norm", "no_norm"]
    compiled = [json.loads((tmp_path / "runs" / "tiny" / name / "summary.json").read_text()) for name in trained]
    assert [summary["compile_time_s"] > 0.0 for summary in compiled] == [True, False, True, False]


SWEEP = "def sweep():\n    "
WRONG = {
    "yields nothing": (SWEEP + "return []", "sweep() yields no run"),
    "the same run twice": (
        SWEEP + "return [{'seed': 1}, {'seed': 1}]",
        "run 2 of sweep() is the same as an earlier one",
    ),
    "the same by another name": (SWEEP + "return [{}, {'seed': 0}]", "run 2 of sweep() is the same as an earlier one"),
    "raises": (SWEEP + "return [{'seed': 1 / 0}]", "division by zero"),
    "raises on import": ("import nowhere_at_all", "nowhere_at_all"),
    "does not parse": ("def sweep(:", "tiny.py"),
    "a misspelt key": (SWEEP + "return [{'optim.warmpu': 1}]", "did you mean 'optim.warmup'?"),
    "a wrong value": (SWEEP + "return [{'steps': 'many'}]", "expected a whole number"),
    "a number that is none": (SWEEP + "return [{'optim.lr': float('nan')}]", "expected a finite number"),
    "no mapping": (SWEEP + "return [3]", "yield dicts of overrides"),
    "an impossible combination": (SWEEP + "return [{'model.num_heads': 3}]", "does not divide"),
    "no function": ("SEED = 1", "defines none of them"),
    "both kinds": (
        "def sweep(): ...\ndef tune(): ...\ndef report(best): ...",
        "defines tune() and report() and sweep()",
    ),
    "no report": ("def tune(): ...", "defines tune()"),
    "an unknown setting": (SWEEP + "return [{}]\nBASES = {}", "BASES has no meaning"),
    "TUNED as text": ("TUNED = 'optim.lr'\ndef tune(): ...\ndef report(best): ...", "write a tuple of keys"),
    "a seed as a choice": (
        "TUNED = ('seed',)\ndef tune():\n    return [{'seed': 0}]\ndef report(best): ...",
        "TUNED names seed, which is no choice that tuning may make",
    ),
    "an unknown key as a choice": (
        "TUNED = ('optim.warmpu',)\ndef tune():\n    return [{'seed': 0}]\ndef report(best): ...",
        "did you mean 'optim.warmup'?",
    ),
    "TUNED that is never set": (
        "TUNED = ('optim.lr',)\ndef tune():\n    return [{'seed': 0}]\ndef report(best): ...",
        "tune() never sets",
    ),
    "a reported seed that tuning used": (
        "TUNED = ('optim.lr',)\ndef tune():\n    return [{'seed': 0, 'optim.lr': 1e-3}]\n"
        "def report(best):\n    return [{**b, 'seed': s} for b in best for s in (1, 0)]",
        "report() yields seed 0 of pre_ln, which tuning has used",
    ),
    "a seed that tuning used, under an axis that tuning had not": (
        "TUNED = ('optim.lr',)\ndef tune():\n    return [{'seed': 0, 'optim.lr': 1e-3}]\n"
        "def report(best):\n    return [{**b, 'seed': 0, 'optim.warmup': 5} for b in best]",
        "report() yields seed 0 of pre_ln, which tuning has used",
    ),
    "a baseline that no run has": (
        "BASELINE = 'post_lm'\n" + SWEEP + "return [{'scheme': 'post_ln'}]",
        "BASELINE = 'post_lm' is no row; did you mean 'post_ln'?",
    ),
    "a report that raises": (
        "TUNED = ('optim.lr',)\ndef tune():\n    return [{'seed': 0, 'optim.lr': 1e-3}]\ndef report(best):\n    return best[7]",
        "report()",
    ),
    "BASE as a list": (SWEEP + "return [{}]\nBASE = [1]", "write a dict of overrides"),
}


@pytest.mark.core
@pytest.mark.parametrize("case", WRONG)
def test_a_study_file_that_is_wrong(case, tmp_path, monkeypatch, capsys):
    source, told = WRONG[case]
    monkeypatch.setattr(Launcher, "check", lambda *_: pytest.fail("taken for a plan that can be run"))
    path = tmp_path / "tiny.py"
    path.write_text(source + "\n")
    assert sweep(path) == 2
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert line.startswith("error: ")
    assert "tiny.py" in line
    assert told in line
    assert out == ""
    assert not (tmp_path / "runs").exists()


@pytest.mark.core
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--filter=scheme=post_ln",), "no run of the plan has these values"),
        (("--filter=shceme=pre_ln",), "did you mean 'scheme'?"),
        (("--filter=pre_ln",), "is no KEY=VALUE"),
        (("--max_runs=0",), "max_runs"),
        (("--dryrun",), "dry_run"),
    ],
)
def test_flags_that_are_wrong(words, told, tmp_path, capsys):
    path = write(tmp_path)
    assert sweep(path, *words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
    assert not (tmp_path / "runs").exists()


@pytest.mark.core
def test_a_missing_file_and_data_that_do_not_fit(tmp_path, capsys):
    assert sweep(tmp_path / "none.py") == 2
    assert "none.py" in capsys.readouterr().err
    path = write(tmp_path, **{"eval.sequences": 500})
    assert sweep(path) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "eval.sequences=500" in line
    assert not (tmp_path / "runs").exists()


def test_what_a_plain_sweep_has_wrong_is_told_before_anything_is_written(tmp_path, capsys):
    path = write(tmp_path, "BASE = {base!r}\n\ndef sweep():\n    return [{}, {'eval.sequences': 500}]\n")
    assert sweep(path) == 2
    assert "eval.sequences=500" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.core
def test_a_seed_is_used_up_for_the_group_that_was_tuned_on_it(tmp_path, capsys):
    """Each scheme may be reported on the seed that the other was tuned on."""
    seeds = (
        "SEEDS_ = {'pre_ln': 0, 'no_norm': 1}\n\ndef tune():\n"
        "    return [{'scheme': s, 'seed': n, 'optim.lr': 1e-3} for s, n in SEEDS_.items()]\n"
    )
    report = "\ndef report(best):\n    return [{**b, 'seed': 1 - SEEDS_[b['scheme']]} for b in best]\n"
    assert sweep(write(tmp_path, seeds + report), "--dry_run") == 0
    assert sweep(write(tmp_path, seeds + report.replace("1 - ", "")), "--dry_run") == 2
    assert "which tuning has used" in capsys.readouterr().err


@pytest.mark.core
@pytest.mark.parametrize(
    ("yielded", "told"),
    [("{**b, 'seed': 0}", "which tuning has used"), ("{**b, 'seed': 9, 'eval.sequences': 500}", "eval.sequences=500")],
)
def test_a_report_is_checked_once_more_when_the_winners_are_known(yielded, told, finished, tmp_path, trained, capsys):
    """The stand-ins of the check before tuning have the first learning rate; what is wrong here is wrong for the second alone."""
    path = copied(finished, tmp_path)
    said = f"return [{yielded} if b['optim.lr'] == 1e-2 else {{**b, 'seed': 9}} for b in best]"
    path.write_text(path.read_text().replace('return product(best, axis("seed", (1, 2)))', said))
    assert said in path.read_text()
    assert sweep(path, "--dry_run") == (2 if "used" in told else 0)
    capsys.readouterr()
    assert sweep(path) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert told in line
    assert trained == []


def test_a_report_that_does_not_fit_the_data_is_told_before_tuning_is_paid_for(tmp_path, capsys):
    later = STUDY.replace("product(best, ", "product(best, axis('eval.sequences', (500,)), ")
    assert later != STUDY
    assert sweep(write(tmp_path, later)) == 2
    assert "eval.sequences=500" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
