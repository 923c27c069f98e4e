"""Tickets: the plan of each run as a file, from which `main.py train` trains it anywhere."""

import json
import shutil
from pathlib import Path

import pytest
import toy
from studies import STUDY, read_study, sweep, write
from training import TEXT, lines, results, signals_restored

from addnorm_exp import cli
from addnorm_exp.runs.folder import RunFolder
from addnorm_exp.runs.tickets import ticket_file
from addnorm_exp.sweep.record import write_plan


@pytest.fixture(scope="module", autouse=True)
def a_task_without_a_transformer():
    with pytest.MonkeyPatch.context() as patch:
        toy.take_the_place_of_lm(patch)
        yield


def planned(folder: Path, source: str = STUDY, **changes) -> list[Path]:
    """The tickets of the tuning runs of the tiny study, which nobody has trained."""
    study, runs = read_study(str(write(folder, source, **changes))), folder / "runs" / "tiny"
    tuning = study.tune()
    write_plan(runs, study, {"tune": tuning})
    return [ticket_file(runs, run.id) for run in tuning]


def train(*words) -> int:
    with signals_restored():
        return cli.main(["train", *map(str, words), "--wandb=disabled"])


def changed(ticket: Path, place: str, value) -> None:
    """Sets a dotted key of a ticket; None removes it."""
    record = json.loads(ticket.read_text())
    *path, last = place.split(".")
    inner = record
    for key in path:
        inner = inner[key]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    ticket.write_text(json.dumps(record))


def test_a_ticket_alone_trains_the_run_of_the_sweep(tmp_path, monkeypatch, capsys):
    """On what might be another machine, from another folder, with the data at their place."""
    monkeypatch.setattr("addnorm_exp.report.figures.plot.plot", lambda folder: [])
    monkeypatch.chdir(tmp_path)
    file = write(tmp_path, **{"data.path": "text"})
    assert sweep(file, "--workers=1", "--wandb=disabled") == 0
    study = tmp_path / "runs" / "tiny"
    plan = json.loads((study / "study.json").read_text())["phases"]
    monkeypatch.chdir("/")
    for phase, kept in (("tune", []), ("report", ["final.npz"])):
        run = plan[phase][1]["id"]
        ticket = tmp_path / f"elsewhere-{phase}" / "tiny" / "plan" / f"{run}.json"
        ticket.parent.mkdir(parents=True)
        shutil.copy(ticket_file(study, run), ticket)
        assert train(f"--ticket={ticket}") == 0
        folder = ticket.parents[1] / run
        assert str(folder) in capsys.readouterr().out
        assert (lines(study / run), results(study / run)) == (lines(folder), results(folder))
        assert RunFolder(folder).config().id == run
        assert RunFolder(folder).config().study == "tiny"
        assert [path.name for path in folder.glob("checkpoints/*")] == kept, phase
        assert train(f"--ticket={ticket}") == 0
        assert "already finished; nothing was run" in capsys.readouterr().err
        assert train(f"--ticket={ticket}", f"--workdir={tmp_path / 'own' / phase}") == 0
        assert RunFolder(tmp_path / "own" / phase).config().id == run


def test_tickets_together_are_a_pack(tmp_path, capsys):
    tickets = planned(tmp_path)[:2]
    assert train("--ticket=" + ",".join(map(str, tickets))) == 0
    out = capsys.readouterr().out
    for ticket in tickets:
        folder = RunFolder(ticket.parents[1] / ticket.stem)
        assert folder.pack() == [other.stem for other in tickets]
        assert folder.summary().status == "done"
        assert out.count(f"({folder.path})") == 1
    assert train(f"--ticket={tickets[0]}") == 0, "a finished run of a pack is finished"


def test_a_run_that_diverges_is_told_by_the_exit_code(tmp_path, capsys):
    tickets = planned(tmp_path, STUDY.replace("1e-3, 1e-2", "1e30, 1e31"))[:2]
    assert train("--ticket=" + ",".join(map(str, tickets))) == 1
    assert capsys.readouterr().out.count("diverged: ") == 2


@pytest.mark.parametrize(
    ("place", "value", "line"),
    [
        ("semantics", 0, "was planned under semantics 0, but the meaning of training has changed (semantics 1)"),
        ("scheme_digest", "0" * 64, "the record of the scheme pre_ln has changed since this run was planned"),
        ("data.sha256", "0" * 64, "the data {text} have another checksum on this machine"),
        ("science.optim.momentums", 1, "this version does not know the key optim.momentums"),
        ("science.optim.lr", 0.5, "its settings are not those of the run"),
        ("science.optim.lr", "much", 'science.optim.lr is "much", expected a number'),
        ("science.data.path", "/no/such", "data.path=/no/such: no such file"),
        ("execution", None, "execution is missing; run the sweep that planned it again"),
        ("phase", "tuning", "phase is 'tuning', expected one of tune, report, run, rerun"),
        ("format", 9, "has format 9"),
    ],
)
def test_a_ticket_of_another_run_is_refused_in_one_line(tmp_path, capsys, place, value, line):
    ticket = planned(tmp_path)[0]
    changed(ticket, place, value)
    assert train(f"--ticket={ticket}") == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: {ticket}: "), err
    assert line.format(text=tmp_path / "text") in err
    assert err.count("\n") == 1
    assert not (ticket.parents[1] / ticket.stem).exists()


def test_other_data_are_refused(tmp_path, capsys):
    """As on a machine where a file of the same name has another content."""
    ticket = planned(tmp_path)[0]
    (tmp_path / "text").write_bytes(TEXT[::-1])
    assert train(f"--ticket={ticket}") == 2
    assert "have another checksum on this machine" in capsys.readouterr().err


def test_what_cannot_be_trained_together_is_refused(tmp_path, capsys):
    first, second, *_ = planned(tmp_path)
    (tmp_path / "wide").mkdir()
    (wide, *_) = planned(tmp_path / "wide", **{"model.width": 32})

    def refusal(*words: str) -> str:
        assert train(*words) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        return err

    assert f"{wide}: has another shape than {first}" in refusal(f"--ticket={first},{wide}")
    assert "is given twice" in refusal(f"--ticket={first},{second},{first}")
    assert "omit it" in refusal(f"--ticket={first},{second}", f"--workdir={tmp_path / 'x'}")
    assert "omit --config\n" in refusal(f"--ticket={first}", "--config=configs/lm.py")
    assert "omit --config.steps\n" in refusal(f"--ticket={first}", "--config.steps=5")
    assert "no such file" in refusal(f"--ticket={tmp_path / 'plan' / 'x.json'}")
    changed(second, "study", "another")
    assert "has another study than" in refusal(f"--ticket={first},{second}")
    first.write_text("{")
    assert "is not a readable JSON object" in refusal(f"--ticket={first}")
    bare = Path(shutil.copy(second, tmp_path / "bare.json"))
    assert "name the run's folder by --workdir=DIR" in refusal(f"--ticket={bare}")


def test_only_tickets_that_are_missing_or_differ_are_written(tmp_path):
    tickets = planned(tmp_path)
    lost, edited, *rest = tickets
    before = {ticket: ticket.stat().st_ino for ticket in tickets}
    lost.unlink()
    changed(edited, "study", "another")
    planned(tmp_path)
    assert json.loads(edited.read_text())["study"] == "tiny"
    assert lost.exists()
    assert all(ticket.stat().st_ino == before[ticket] for ticket in rest)
    assert not [path for path in lost.parent.iterdir() if path.suffix != ".json"]


def test_a_study_has_a_ticket_for_each_planned_run(tmp_path, monkeypatch):
    """Also for those that the filter leaves out; a run of both phases has the ticket of tuning."""
    monkeypatch.setattr("addnorm_exp.report.figures.plot.plot", lambda folder: [])
    file = write(tmp_path)
    assert sweep(file, "--filter=scheme=pre_ln", "--workers=1", "--wandb=disabled") == 0
    study = tmp_path / "runs" / "tiny"
    phases = json.loads((study / "study.json").read_text())["phases"]
    of_phase = {phase: {entry["id"] for entry in entries} for phase, entries in phases.items()}
    assert {path.stem for path in (study / "plan").iterdir()} == of_phase["tune"] | of_phase["report"]
    for path in (study / "plan").iterdir():
        assert path.stem in of_phase[json.loads(path.read_text())["phase"]]


def test_gc_removes_what_a_kill_left_of_a_ticket(tmp_path, capsys):
    ticket = planned(tmp_path)[0]
    half = ticket.parent / f".{ticket.name}.a1b2c3d4.writing"
    half.touch()
    own = ticket.parent / ".notes.writing"
    own.touch()
    assert cli.main(["gc", str(ticket.parents[1]), "--yes"]) == 0
    assert (half.exists(), own.exists(), ticket.exists()) == (False, True, True)
