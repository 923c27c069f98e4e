"""What libraries say over many lines is one line to the person, whoever tells it."""

import errno
import os

import pytest

from addnorm_exp.cli import main
from addnorm_exp.errors import UserError, device_trouble, disk_trouble, memory_trouble, one_line, to_stderr
from addnorm_exp.report.load import study_folders
from addnorm_exp.runs.mirror.sync import Place, sync
from addnorm_exp.runs.mirror.window import reason

MANY = "first\n  second\tthird\n\n" + "more\n" * 100


def test_one_line():
    assert one_line(ValueError("first\n  second\t third\n")) == "first second third"
    assert one_line(MANY, 12) == "first second"
    assert one_line(ValueError()) == ""


@pytest.mark.parametrize(
    ("tell", "error", "said"),
    [
        (memory_trouble, MemoryError(MANY), "does not fit in memory (first second third more"),
        (memory_trouble, MemoryError(), "does not fit in memory (of this machine)"),
        (
            device_trouble,
            RuntimeError(f"Unknown backend {MANY}"),
            "this device is not available (Unknown backend first second",
        ),
        (disk_trouble, ValueError(f"{os.strerror(errno.ENOSPC)}: {MANY}"), "no space left on device; free some space"),
        (reason, ValueError(f"{MANY}."), "first second third more"),
        (reason, ValueError(), "ValueError"),
    ],
)
def test_troubles_are_one_line(tell, error, said):
    told = tell(error)
    assert told.startswith(said)
    assert "\n" not in told
    assert len(told) < 400


def test_lines_for_the_person_leave_standard_output_alone(capsys):
    to_stderr("a line")
    assert capsys.readouterr() == ("", "a line\n")


def test_a_folder_without_runs_is_told_in_the_same_words(tmp_path, capsys):
    folder = tmp_path / "empty"  # it has no neighbours, so that none is suggested
    folder.mkdir()
    line = f"{folder}: no runs here; give a study's folder, e.g. runs/quickstart, or a run's --workdir"
    for ask in (study_folders, lambda folder: sync(folder, Place(None, None), print)):
        with pytest.raises(UserError) as caught:
            ask(folder)
        assert str(caught.value) == line
    assert main(["rerun", str(folder)]) == 2
    assert capsys.readouterr().err == f"error: {line}\n"


def test_a_file_in_the_place_of_a_folder_is_named_as_such(tmp_path):
    path = tmp_path / "text"
    path.write_text("text")
    with pytest.raises(FileExistsError) as caught:
        path.mkdir(parents=True, exist_ok=True)
    assert disk_trouble(caught.value) == f"{path} is a file, and a folder is needed; write elsewhere"
