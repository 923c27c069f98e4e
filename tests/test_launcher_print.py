"""`--launcher=print`: a study by commands that any scheduler may run."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import toy
from processes import NET, ROOT
from studies import STUDY, sweep, write
from training import held, signals_restored

from addnorm_exp import cli
from addnorm_exp.residual import catalogue
from addnorm_exp.runs.folder import RunFolder


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """A task without a Transformer, no pictures, and the program as a user calls it."""
    toy.take_the_place_of_lm(monkeypatch)
    monkeypatch.setattr("addnorm_exp.report.figures.plot.plot", lambda folder: [])
    monkeypatch.setattr(sys, "argv", ["main.py"])
    monkeypatch.chdir(ROOT)


def printed(path: Path, capsys, *words: str) -> tuple[list[list[str]], str]:
    """The words of each command on standard output, and standard error."""
    assert sweep(path, "--launcher=print", *words) == 0
    out, err = capsys.readouterr()
    return [shlex.split(line) for line in out.splitlines()], err


def train(command: list[str]) -> int:
    assert command[:3] == [sys.executable, str(ROOT / "main.py"), "train"]
    with signals_restored():
        return cli.main(command[2:])


def ids(command: list[str]) -> list[str]:
    return [Path(file).stem for file in command[3].removeprefix("--ticket=").split(",")]


def test_the_commands_of_each_phase_make_the_table(tmp_path, monkeypatch, capsys):
    """A folder with a space and a quote; another current folder."""
    folder = tmp_path / "it's mine"
    folder.mkdir()
    path = write(folder)
    tune, err = printed(path, capsys, "--wandb=disabled")
    assert len(tune) == 4
    assert "4 commands for 4 runs (tune)" in err
    assert "this prints the next ones (4 runs to plan):" in err
    again = shlex.split(err.splitlines()[-1])
    monkeypatch.chdir("/")
    for command in tune:
        assert command[4:] == ["--wandb=disabled"]
        assert train(command) == 0
    monkeypatch.setattr(sys, "argv", [str(ROOT / "main.py")])
    capsys.readouterr()
    with signals_restored():
        assert cli.main(again[2:]) == 0
    report = [shlex.split(line) for line in capsys.readouterr().out.splitlines()]
    phases = json.loads((folder / "runs" / "tiny" / "study.json").read_text())["phases"]
    assert [name for command in report for name in ids(command)] == [entry["id"] for entry in phases["report"]]
    for command in report:
        assert train(command) == 0
    capsys.readouterr()
    with signals_restored():
        assert cli.main(again[2:]) == 0
    assert "| pre_ln" in capsys.readouterr().out


def test_packs_and_the_number_of_runs_are_as_asked(tmp_path, capsys):
    path = write(tmp_path)
    commands, _ = printed(path, capsys, "--pack=2")
    assert [len(ids(command)) for command in commands] == [2, 2]
    commands, err = printed(path, capsys, "--pack=2", "--max_runs=3")
    assert [len(ids(command)) for command in commands] == [2, 1]
    assert "the next ones (1 more run, 4 runs to plan)" in err
    assert train(commands[0]) == 0
    finished = ids(commands[0])
    capsys.readouterr()
    commands, _ = printed(path, capsys, "--pack=2")
    assert [len(ids(command)) for command in commands] == [2, 2], "tuning of one group, report of the other"
    assert not {name for command in commands for name in ids(command)} & set(finished)


def test_a_group_that_is_tuned_is_reported_while_another_is_tuned(tmp_path, capsys):
    path = write(tmp_path)
    commands, _ = printed(path, capsys)
    for command in commands:
        if ids(command)[0].startswith("pre_ln"):
            assert train(command) == 0
    capsys.readouterr()
    commands, err = printed(path, capsys)
    assert [ids(command)[0].partition("-")[0] for command in commands] == ["no_norm"] * 2 + ["pre_ln"] * 2
    assert "(2 to tune, 2 to report)" in err


def test_runs_that_a_process_trains_are_not_printed(tmp_path, capsys):
    chosen = "--filter=scheme=pre_ln"
    path = write(tmp_path)
    commands, _ = printed(path, capsys, chosen)
    folders = [tmp_path / "runs" / "tiny" / ids(command)[0] for command in commands]
    for folder in folders:
        folder.mkdir()
    with held(folders[0]):
        rest, err = printed(path, capsys, chosen)
        assert [ids(command) for command in rest] == [ids(command) for command in commands[1:]]
        assert "another process is training 1 run" in err
    for folder in folders[1:]:
        RunFolder(folder).write_summary({"status": "diverged", **ENDED})
    with held(folders[0]):
        rest, err = printed(path, capsys, chosen)
        assert rest == [], "no table, although there are results: the output may go to a scheduler"
        assert "another process is training 1 run" in err


ENDED = {
    "scheme": "pre_ln",
    "keep": "none",
    "step": 1,
    "steps": 6,
    "diverged": {"step": 1, "cause": "loss"},
    "metrics": [{"name": "loss", "label": "loss", "unit": "", "better": "lower"}],
}


def test_what_the_launcher_cannot_follow_is_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(catalogue, "_BY_NAME", dict(catalogue._BY_NAME))  # the study file enters a scheme
    path = write(tmp_path)

    def refusal(*words: str) -> str:
        assert sweep(path, "--launcher=print", *words) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        return err

    assert refusal("--workers=2") == "error: --workers has no effect under --launcher=print; omit it\n"
    assert refusal("--devices_per_run=2").startswith("error: --devices_per_run has no effect")
    own = """
from addnorm_exp.residual import catalogue
from dataclasses import replace
catalogue.add(replace(catalogue.get("pre_ln"), name="mine"))
"""
    path = write(tmp_path, own + STUDY.replace("no_norm", "mine"))
    assert "the scheme 'mine' is known only to this study file" in refusal()
    assert not (tmp_path / "runs").exists()


def test_a_machine_that_could_not_train_the_runs_prints_them(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("addnorm_exp.train.memory.host.memory", lambda: 1)
    assert sweep(write(tmp_path)) == 2
    assert "memory" in capsys.readouterr().err
    assert len(printed(write(tmp_path), capsys)[0]) == 4


@pytest.mark.full
def test_a_line_is_a_command_of_the_shell(tmp_path, capsys):
    """In a process of its own, where the task is the real one."""
    folder = tmp_path / "a $HOME; folder"
    folder.mkdir()
    path = write(folder, STUDY.replace('"pre_ln", "no_norm"', '"pre_ln",'), **{"execution.chunk_steps": 6})
    assert sweep(path, "--launcher=print", "--max_runs=1", "--wandb=disabled") == 0
    line = capsys.readouterr().out
    subprocess.run(line, shell=True, cwd="/", check=True, capture_output=True, timeout=NET)
    (summary,) = (folder / "runs" / "tiny").glob("*/summary.json")
    assert json.loads(summary.read_text())["status"] == "done"
