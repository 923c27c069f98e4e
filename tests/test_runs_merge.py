"""Folders of one study joined in one: the same table as in one place, what is taken of several copies of a run, kills."""

import json
import os
import shutil
from pathlib import Path

import pytest
import studies
from merging import contents, merge, packed, refusal, table, unfinished, worse, write, write_parts
from training import signals_restored

from addnorm_exp import cli
from addnorm_exp.runs import merge as merge_room
from addnorm_exp.runs.lock import locked
from addnorm_exp.runs.status import standings


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_parts()
    return tmp_path


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
@pytest.mark.parametrize("how", [(), ("--move",)], ids=["copied", "moved"])
def test_the_union_has_the_table_of_the_study_in_one_place(order, how, home, capsys):
    """Also where neither folder has the study's order of its groups."""
    write(Path("whole/study"))
    code, out, err = merge(capsys, *order, "--into=all/study", *how)
    assert (code, err) == (0, "")
    counts = {"a": "10 from a", "b": "5 from b"}
    assert out.startswith("all/study: 15 of 15 planned runs, 15 finished; ")
    assert all(counts[folder] in out for folder in order)
    assert table(capsys, "all/study") == table(capsys, "whole/study")
    assert {path.name for path in Path("all/study").iterdir()} == {path.name for path in Path("whole/study").iterdir()}
    for name in (entry.name for entry in Path("whole/study").iterdir() if entry.is_dir()):
        ours, theirs = (contents(Path(place) / name) for place in ("all/study", "whole/study"))
        assert {**ours, "lock": b""} == theirs
    assert json.loads(Path("all/study/study.json").read_text())["waiting"] == 0
    left = {path.name for folder in order for path in Path(folder).iterdir()}
    assert (left == {"study.json"}) == bool(how)


def test_a_study_is_joined_to_one_that_is_there(home, capsys):
    before = contents(Path("a"))
    assert merge(capsys, "b", "--into=a")[:2] == (
        0,
        "a: 15 of 15 planned runs, 15 finished; 10 were there, 5 from b\n",
    )
    after = contents(Path("a"))
    assert {name: after[name] for name in before if name != "study.json"} == {
        name: content for name, content in before.items() if name != "study.json"
    }
    assert merge(capsys, "b", "--into=a")[1] == "a: 15 of 15 planned runs, 15 finished; 15 were there\n"
    assert contents(Path("a")) == after


def test_what_is_not_planned_yet_is_counted(home, capsys):
    write(Path("c"), reported=(), recorded=("post_ln",))
    out = merge(capsys, "b", "c", "--into=all")[1]
    assert out == "all: 7 of 9 planned runs (6 not planned yet), 7 finished; 2 from c, 5 from b\n"
    assert {run.id: run.status for run in standings(Path("all"))}["no_norm-t0.01"] == "missing"


def test_equal_results_of_a_run_are_one(home, capsys):
    shutil.copytree("a", "c")
    assert merge(capsys, "a", "c", "b", "--into=all")[1].endswith("; 10 from a, 5 from b\n")


def test_different_results_are_refused_unless_a_folder_is_preferred(home, capsys):
    shutil.copytree("a", "c")
    worse("c", "no_norm-r1")
    worse("c", "no_norm-r2")
    line = refusal(capsys, "a", "c", "b", "--into=all")
    assert line.startswith("no_norm-r1: is finished in a and in c, with other numbers (test.final.loss is ")
    assert line.endswith("; --prefer=a or --prefer=c says which to take (1 more runs differ)")
    assert refusal(capsys, "a", "c", "b", "--into=all", "--prefer=b") == line
    assert refusal(capsys, "a", "b", "--into=all", "--prefer=x").startswith("--prefer=x: is none of these folders")
    code, out, _ = merge(capsys, "a", "c", "b", "--into=all", "--prefer=c")
    assert code == 0
    assert out.startswith("no_norm-r1 and 1 more: has different results; those of c are taken\n")
    assert Path("all/no_norm-r1/summary.json").read_bytes() == Path("c/no_norm-r1/summary.json").read_bytes()
    assert Path("all/no_norm-r3/summary.json").read_bytes() == Path("a/no_norm-r3/summary.json").read_bytes()


def test_what_a_preferred_folder_replaces_is_put_aside(home, capsys):
    shutil.copytree("a", "c")
    worse("c", "no_norm-r1")
    former = Path("a/no_norm-r1/summary.json").read_bytes()
    assert merge(capsys, "c", "--into=a", "--prefer=c")[0] == 0
    assert Path("a/no_norm-r1/summary.json").read_bytes() == Path("c/no_norm-r1/summary.json").read_bytes()
    assert Path("a/.former-no_norm-r1-1/summary.json").read_bytes() == former


def test_a_finished_run_is_taken_before_an_unfinished_one(home, capsys):
    shutil.copytree("a", "c")
    unfinished("a", "no_norm-r1", 900)
    out = merge(capsys, "a", "c", "b", "--into=all")[1].splitlines()
    assert out[0] == "no_norm-r1: is finished in c and not in a; the finished one is taken"
    assert {run.id: run.status for run in standings(Path("all"))}["no_norm-r1"] == "done"
    unfinished("a", "no_norm-r2", 900)
    merge(capsys, "c", "--into=a")
    assert {run.id: run.status for run in standings(Path("a"))}["no_norm-r2"] == "done"
    assert Path("a/.former-no_norm-r2-1").is_dir()


def test_of_unfinished_runs_the_one_that_has_come_farthest_is_taken(home, capsys):
    shutil.copytree("a", "c")
    unfinished("a", "no_norm-r1", 500)
    unfinished("c", "no_norm-r1", 600)
    code, out, _ = merge(capsys, "a", "c", "b", "--into=all")
    assert code == 0
    assert out.startswith("no_norm-r1: is finished nowhere; that of c, which has come farthest, is taken\n")
    assert "14 finished" in out
    assert json.loads(Path("all/no_norm-r1/summary.json").read_text())["step"] == 600


def test_a_run_that_is_being_trained_is_left_out(home, capsys):
    unfinished("a", "no_norm-r1", 500)
    with locked(Path("a/no_norm-r1/lock")):
        code, out, _ = merge(capsys, "a", "b", "--into=all")
    assert code == 1
    assert out.startswith("no_norm-r1: is being trained in a\nall: 14 of 15 planned runs, 14 finished")
    assert not Path("all/no_norm-r1").exists()
    assert merge(capsys, "a", "b", "--into=all")[0] == 0
    assert Path("all/no_norm-r1").exists()


def test_a_run_that_is_being_trained_in_its_place_is_not_replaced(home, capsys):
    shutil.copytree("a", "all")
    unfinished("all", "no_norm-r1", 500)
    with locked(Path("all/no_norm-r1/lock")):
        line = refusal(capsys, "a", "b", "--into=all")
    assert line == "all/no_norm-r1: a process is training this run; wait until it has ended"


def test_no_process_can_begin_to_train_a_run_while_it_is_copied(home, capsys, monkeypatch):
    copy, refused = merge_room._copy, []

    def copied(source, target):
        if source.parent.name in ("a", "b"):
            with pytest.raises(Exception, match=source.name), locked(source / "lock"):
                pass
            refused.append(source.name)
        copy(source, target)

    monkeypatch.setattr(merge_room, "_copy", copied)
    assert merge(capsys, "a", "b", "--into=all")[0] == 0
    assert len(refused) == 15


def test_a_pack_is_taken_whole_or_not_at_all(home, capsys):
    """A run that two others were trained beside cannot go on without them."""
    shutil.copytree("a", "c")
    packed("c", 800)
    unfinished("a", "no_norm-r1", 100)
    out = merge(capsys, "a", "c", "--into=all")[1]
    assert (
        "no_norm-r1: is in a pack that is not taken as a whole; it is left out, and starts again from step 0\n" in out
    )
    assert not Path("all/no_norm-r1").exists()
    unfinished("a", "no_norm-r2", 100)
    assert "is in a pack" not in merge(capsys, "a", "c", "--into=both")[1]
    assert Path("both/no_norm-r1/pack.json").exists()


def test_a_run_whose_pack_is_replaced_in_its_place_is_put_aside(home, capsys):
    shutil.copytree("a", "all")
    packed("all", 800)
    shutil.rmtree("a/no_norm-r1")
    assert merge(capsys, "a", "--into=all")[0] == 0
    assert {run.id: run.status for run in standings(Path("all"))}["no_norm-r1"] == "missing"
    assert Path("all/.former-no_norm-r1-1/pack.json").exists()


class Killed(BaseException):
    pass


@pytest.mark.parametrize("how", [(), ("--move",)], ids=["copied", "moved"])
def test_a_kill_leaves_no_half_of_a_run_and_the_next_try_goes_on(how, home, capsys, monkeypatch):
    """At each file that is copied and at each rename, one kill after the other in one folder."""
    write(Path("whole/study"))
    rename, copy, calls = Path.rename, merge_room.copy2, []

    def killing(function, every):
        def call(*arguments, **keywords):
            calls.append(None)
            if len(calls) % every == 0:
                raise Killed
            return function(*arguments, **keywords)

        return call

    monkeypatch.setattr(Path, "rename", killing(rename, 3))
    monkeypatch.setattr(merge_room, "copy2", killing(copy, 7))
    kills = 0
    for _ in range(60):
        try:
            code = cli.main(["merge", "a", "b", "--into=all/study", *how])
            break
        except Killed:
            kills += 1
        for path in Path("all/study").iterdir():
            assert (
                path.name.startswith(".")
                or path.is_file()
                or {"config.json", "summary.json", "checkpoints"} <= {entry.name for entry in path.iterdir()}
            )
        assert {run.status for run in standings(Path("all/study"))} <= {"done", "missing"}
    assert code == 0
    assert kills > 3
    monkeypatch.undo()
    os.chdir(home)
    capsys.readouterr()
    assert table(capsys, "all/study") == table(capsys, "whole/study")
    assert not [path for path in Path("all/study").iterdir() if path.name.startswith(".")]


def test_tickets_are_carried_along(home, capsys):
    for folder, names in {"a": ("no_norm-r1", "pre_ln-r1", "else"), "b": ("pre_ln-r1", "pre_ln-r2")}.items():
        (Path(folder) / "plan").mkdir()
        for name in names:
            (Path(folder) / "plan" / f"{name}.json").write_text(f"{folder} {name}")
    merge(capsys, "a", "b", "--into=all")
    assert contents(Path("all/plan")) == {
        "no_norm-r1.json": b"a no_norm-r1",
        "pre_ln-r1.json": b"a pre_ln-r1",
        "pre_ln-r2.json": b"b pre_ln-r2",
    }
    shutil.copytree("b", "c")
    (Path("c/plan/pre_ln-r1.json")).write_text("another path of the data")
    merge(capsys, "b", "--into=c")
    assert Path("c/plan/pre_ln-r1.json").read_text() == "another path of the data"


def test_links_and_what_is_no_file_within_a_run(home, capsys):
    run = Path("a/no_norm-r1")
    (run / "wandb").mkdir()
    (run / "wandb" / "latest").symlink_to("run-1")
    os.mkfifo(run / "wandb" / "pipe")
    (run / ".summary.json.a1b2c3d4.writing").touch()
    assert merge(capsys, "a", "b", "--into=all")[0] == 0
    assert contents(Path("all/no_norm-r1/wandb")) == {"latest": "run-1"}
    assert not Path("all/no_norm-r1/.summary.json.a1b2c3d4.writing").exists()


def test_runs_that_no_plan_names_stay(home, capsys):
    shutil.copytree("a/no_norm-r1", "a/other")
    path = Path("a/other/config.json")
    path.write_text(path.read_text().replace("no_norm-r1", "other"))
    out = merge(capsys, "a", "b", "--into=all")[1]
    assert out.startswith("1 run that no plan names, e.g. other: left where they are\n")
    assert not Path("all/other").exists()


@pytest.mark.full
def test_a_sweep_goes_on_in_the_union(tmp_path, capsys):
    """Two machines with a scheme each; the union lacks a run, which alone is trained, and then is the study of one machine."""
    path = studies.write(tmp_path)

    def sweep(folder: str, *words: str) -> None:
        with signals_restored():
            assert cli.main(["sweep", str(path), f"--runs={tmp_path / folder}", *words]) == 0

    sweep("a", "--filter=scheme=pre_ln")
    sweep("b", "--filter=scheme=no_norm")
    sweep("whole")
    (missing,) = [run.path for run in standings(tmp_path / "b" / "tiny") if "seed=2" in run.settings]
    shutil.rmtree(missing)
    union = tmp_path / "union" / "tiny"
    assert merge(capsys, str(tmp_path / "a" / "tiny"), str(tmp_path / "b" / "tiny"), f"--into={union}")[0] == 0
    before = {file: file.stat().st_mtime_ns for file in union.glob("*/metrics.jsonl")}
    assert len(before) == studies.PLAN - 1
    sweep("union")
    after = {file: file.stat().st_mtime_ns for file in union.glob("*/metrics.jsonl")}
    assert after.items() >= before.items()
    assert [file.parent.name for file in after.keys() - before.keys()] == [missing.name]
    capsys.readouterr()
    assert cli.main(["diff", str(union), str(tmp_path / "whole" / "tiny")]) == 0
