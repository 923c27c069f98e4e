"""Folders that `merge` refuses to join: one line, before anything is written."""

import json
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest
from merging import SEEDS, merge, refusal, report, summary, tuning, write_parts
from test_report_study import write_run

from addnorm_exp.runs import merge as merge_room
from addnorm_exp.runs.lock import locked


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_parts()
    return tmp_path


def plan(folder: str, **changes) -> None:
    path = Path(folder) / "study.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def planned_as(folder: str, name: str, **overrides) -> None:
    """Other overrides of a run in the plan."""
    path = Path(folder) / "study.json"
    tree = json.loads(path.read_text())
    for entry in (entry for entries in tree["phases"].values() for entry in entries if entry["id"] == name):
        entry["overrides"] |= {key.replace("__", "."): value for key, value in overrides.items()}
    path.write_text(json.dumps(tree))


def configured(folder: str, name: str, **changes) -> None:
    path = Path(folder) / name / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def with_another_base() -> None:
    """The tuning run of another number of steps."""
    write_run(Path("b/pre_ln-x"), "pre_ln", 0, None, lr=1e-3, steps=2000)
    write_run(Path("a/pre_ln-t0.001"), "pre_ln", 0, None, lr=1e-3)
    path = Path("b/study.json")
    path.write_text(path.read_text().replace("pre_ln-t0.001", "pre_ln-x"))


def on_other_data() -> None:
    for run in tuning("pre_ln") + report("pre_ln"):
        configured("b", run[0], data={"name": "mine", "sha256": "b" * 64})


APART = "a and b are not parts of one study: "
REFUSALS = {
    "name": (lambda: plan("b", name="other"), APART + "the names are study and other; merge"),
    "baseline": (lambda: plan("b", baseline=None), APART + "the baselines are pre_ln and None; merge"),
    "tuned": (lambda: plan("b", tuned=["optim.lr", "init.std"]), APART + "the tuned keys are optim.lr and optim.lr init.std"),
    "phases": (lambda: plan("b", phases={"run": []}), APART + "the phases begin with tune and run; merge"),
    "base": (
        with_another_base,
        APART + "the run scheme=pre_ln optim.lr=0.001 seed=0 is pre_ln-t0.001 and pre_ln-x, with steps=1000 and 2000; merge",
    ),
    "data": (on_other_data, "a/post_ln-t0.001 and b/pre_ln-t0.001 have different data, so their numbers cannot be compared"),
    "semantics": (lambda: configured("b", "pre_ln-r1", semantics=9), "b/pre_ln-r1 have different semantics, so"),
    "damaged config": (lambda: Path("b/pre_ln-r1/config.json").write_text("{"), "b/pre_ln-r1/config.json: is not a readable"),
    "damaged summary": (lambda: summary("b", "pre_ln-r1", step="x"), "b/pre_ln-r1/summary.json: step is "),
    "damaged plan": (lambda: Path("b/study.json").write_text("[]"), "b/study.json: is not a readable JSON object"),
    "former format": (lambda: plan("b", format=0), "b/study.json: has format 0, but this version reads format 1"),
    "former format of a run": (lambda: configured("b", "pre_ln-r1", format=0), "b/pre_ln-r1/config.json: has format 0"),
    "another run": (lambda: Path("b/pre_ln-r1").rename("b/mine"), "b/mine: contains the run pre_ln-r1; rename this folder"),
    "linked run": (
        lambda: (Path("b/pre_ln-r1").rename("mine"), Path("b/pre_ln-r1").symlink_to("../mine")),
        "b/pre_ln-r1: is a symbolic link; put what it points to in its place",
    ),
    "linked plan": (
        lambda: (Path("b/study.json").unlink(), Path("b/study.json").symlink_to("nowhere")),
        "b/study.json: cannot be found; is it a broken link?",
    ),
    "no plan": (lambda: Path("b/study.json").unlink(), "b: is no study (it has no study.json); give a study's folder"),
    "file": (lambda: (shutil.rmtree("b"), Path("b").touch()), "b: is a file; give a study's folder"),
    "absent": (lambda: shutil.rmtree("b"), "b: no such folder; "),
    "file in the place of a run": (
        lambda: (Path("all").mkdir(), shutil.copy("a/study.json", "all"), Path("all/no_norm-r1").touch()),
        "all/no_norm-r1: is in the place of a run; move it elsewhere",
    ),
    "foreign target": (lambda: (Path("all").mkdir(), Path("all/notes").touch()), "--into=all: contains notes but no study"),
    "foreign run": (
        lambda: (Path("all/no_norm-r1").mkdir(parents=True), shutil.copy("a/study.json", "all"), Path("all/no_norm-r1/x").touch()),
        "all/no_norm-r1: contains x but no run",
    ),
    "target of another study": (
        lambda: (shutil.copytree("b", "all"), plan("all", name="other")),
        "all and a are not parts of one study: the names are other and study",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS)
def test_refused_before_anything_is_written(case, home, capsys):
    harm, message = REFUSALS[case]
    harm()
    assert message in refusal(capsys, "a", "b", "--into=all")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("a", "b"), "merge needs --into=DIR: main.py merge a b --into=runs/all"),
        (("--into=all",), "merge needs DIR: main.py merge DIR [DIR…]"),
        (("a", "./a", "--into=all"), "a: is given twice; omit it"),
        (("a", "link", "--into=all"), "a: is given twice; omit it"),
        (("a", "b", "--into=a"), "a: --into=a is one of the folders to merge; omit it"),
        (("a", "b", "--into=a/all"), "give folders that lie beside each other"),
        (("a", "b", "--into=."), "give folders that lie beside each other"),
        (("a", "a/no_norm-r1", "--into=all"), "a/no_norm-r1: is a run, not a study; "),
        (
            (".", "--into=../all"),
            ".: is no study (it has no study.json); it is a folder of studies; give one of them, e.g. a",
        ),
    ],
    ids=str,
)
def test_folders_that_cannot_be_merged(words, message, home, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["main.py"])
    Path("link").symlink_to("a")
    assert message in refusal(capsys, *words)


def test_winners_that_differ_are_refused_unless_a_folder_is_preferred(home, capsys):
    shutil.copytree("a", "c")
    for seed in SEEDS:
        name = f"no_norm-r{seed}"
        Path("c", name).rename(f"c/other-{name}")
        configured("c", f"other-{name}", id=f"other-{name}")
        Path("c/study.json").write_text(Path("c/study.json").read_text().replace(f'"{name}"', f'"other-{name}"'))
        planned_as("c", f"other-{name}", optim__lr=1e-3)
    line = refusal(capsys, "a", "c", "b", "--into=all")
    assert line.startswith(
        'a and c: tuning chose {"optim.lr": 0.01} and {"optim.lr": 0.001} for {"scheme": "no_norm"}; '
    )
    assert line.endswith("--prefer=a or --prefer=c says which to take")
    for preferred, kept, dropped in (("a", "no_norm-r1", "other-no_norm-r1"), ("c", "other-no_norm-r1", "no_norm-r1")):
        assert merge(capsys, "a", "c", "b", f"--into=all-{preferred}", f"--prefer={preferred}")[0] == 0
        assert Path(f"all-{preferred}", kept).exists()
        assert not Path(f"all-{preferred}", dropped).exists()


def test_two_merges_into_one_folder(home, capsys):
    shutil.copytree("a", "all")
    with locked(Path("all") / merge_room.HALF):
        assert refusal(capsys, "b", "--into=all").startswith("all: another process is merging into this folder; wait")


def test_moving_needs_one_file_system(home, capsys, monkeypatch):
    real = Path.stat

    @contextmanager
    def apart():
        def look(path, **keywords):
            result = real(path, **keywords)
            if path.parts[:1] == ("b",):
                return os.stat_result((*result[:2], result.st_dev + 1, *result[3:]))
            return result

        with monkeypatch.context() as patch:
            patch.setattr(Path, "stat", look)
            yield

    with apart():
        code, _, err = merge(capsys, "a", "b", "--into=all", "--move")
    assert code == 2
    assert err == "error: --move: b and all are on different file systems; omit --move to copy the runs\n"
    assert not Path("all").exists()
