"""Files that are not ours survive: whatever stands in a folder that is given as a run's, and beside our own files in a run's folder."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from of_config import run
from studies import read_study
from training import BASE, ROOT, TEXT, assert_equal_runs, config, flags, interrupt, signals_restored

from addnorm_exp import cli
from addnorm_exp.errors import UserError
from addnorm_exp.runs.folder import RunFolder
from addnorm_exp.sweep.record import check_folder, write_plan
from addnorm_exp.sweep.study import Study

# Names that resemble ours, in each of our folders.
FOREIGN = {
    "": (".config.json-old", ".summary.json-2026-11-24", ".git-x", ".a-b", "notes.txt", "2026/x", ".cache/x", ".metrics.jsonl-ABCDEFGH",
         ".metrics.jsonl-mybackup", ".summary.json.mybackup", ".config.json.writing"),
    "checkpoints": ("2026/x", "12345678/x", "best-of/x", "best-00000004x/x", ".keep", ".00000004/x", ".venv-3.11/x", "readme",
                    ".20261124-backup/x", ".20261124-mybackup/x", ".removed-20261124-1/x", "20251124/meta.json", "20251124/arrays/x",
                    "20251125/manifest.json", "best-20251124/meta.json", "20251126/arrays.npz", "final.npz.old", ".best.npz-mybackup"),
    "layers": ("1.npz", "20.npz", ".keep", ".20.npz", "best-20.npz", "2026.csv", "20241124", "notes-20.txt", ".20251124.npz"),
}  # fmt: skip


def scatter(folder: Path) -> dict[Path, bytes]:
    made = {}
    for place, names in FOREIGN.items():
        for name in names:
            path = folder / place / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f'{{"mine": "{name}"}}')
            made[path] = path.read_bytes()
    return made


def held(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("notes.txt",), "contains notes.txt but no run"),
        ((".a-b", "lock"), "contains .a-b but no run"),
        (("checkpoints/1000/model.bin", "layers/7.npz"), "contains checkpoints but no run"),
        (("study.json",), "this is a study's folder"),
        (("study.json", "config.json"), "this is a study's folder"),
        (("config.json", "model.safetensors"), "unrecognised file"),
    ],
)
def test_a_folder_that_is_no_runs_is_refused_untouched(names, told, tmp_path, capsys):
    (tmp_path / "text").write_bytes(TEXT)
    folder = tmp_path / "precious"
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('{"architectures": ["GPT2"]}')
    before = held(folder)
    with signals_restored():
        assert cli.main(["train", *flags(), f"--config.data.path={tmp_path / 'text'}", f"--workdir={folder}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {folder}")
    assert told in line
    assert held(folder) == before


def test_foreign_files_beside_a_run_survive_it(data, tmp_path):
    """Through a stop, a resume that falls back over a damaged state, and the end."""
    run(config(), data, RunFolder(tmp_path / "undisturbed"))
    folder = tmp_path / "run"
    interrupt(config(), data, folder, chunks=4)
    made = scatter(folder)
    newest = max(
        path for path in (folder / "checkpoints").iterdir() if path.name.isdigit() and (path / "arrays.npz").exists()
    )
    # A copy of a state under a date, and a chunk of arrays: whole, and yet no part of the run.
    shutil.copytree(newest, folder / "checkpoints" / "20261124")
    np.savez(folder / "layers" / "20251124.npz", weights=np.arange(3))
    for path in (*(folder / "checkpoints" / "20261124").rglob("*"), folder / "layers" / "20251124.npz"):
        made |= {path: path.read_bytes()} if path.is_file() else {}
    (newest / "manifest.json").write_text("{}")
    (folder / "layers" / ".00000099.npz.abcdefgh.writing").write_bytes(b"half")
    shutil.copytree(newest, folder / "checkpoints" / ".00000012.abcdefgh.writing")
    shutil.copytree(newest, folder / "checkpoints" / ".best-00000008.4711.removing")
    run(config(), data, RunFolder(folder))
    for path, content in made.items():
        assert path.read_bytes() == content
    assert not list(folder.rglob("*.writing"))[1:], "but for the foreign .config.json.writing"
    assert not list(folder.rglob("*.removing"))
    for path in made:
        path.unlink()
    for name in ("2026", "12345678", "20251124", "20251125", "20251126", "20261124"):
        shutil.rmtree(folder / "checkpoints" / name)
    assert_equal_runs(tmp_path / "undisturbed", folder)


def test_a_file_inside_a_checkpoint_does_not_spoil_it(data, tmp_path):
    step = interrupt(config(), data, tmp_path, chunks=4)
    (tmp_path / "checkpoints" / f"{step:08d}" / ".nfs0001").write_text("a network file system's")
    events = []
    run(config(), data, RunFolder(tmp_path), watch=events.append)
    assert (events[0]["event"], events[0]["step"]) == ("start", step)


def test_a_foreign_folder_in_the_way_of_a_checkpoint(data, tmp_path):
    interrupt(config(), data, tmp_path, chunks=2)
    (tmp_path / "checkpoints" / "00000012").mkdir()
    with pytest.raises(UserError, match="has the name of a checkpoint, but is not one"):
        run(config(), data, RunFolder(tmp_path))


def test_two_study_files_of_one_stem(tmp_path, capsys):
    """They would share a folder, and each would call the other's runs strangers."""

    def sweep(path: Path, *words: str) -> int:
        with signals_restored():
            return cli.main(["sweep", str(path), f"--runs={tmp_path / 'runs'}", *words])

    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.py").write_text(f"def sweep():\n    yield {{'seed': {ord(name)}}}\n")
    (tmp_path / "runs" / "x").mkdir(parents=True)
    plan = {"format": 1, "name": "x", "file": str(tmp_path / "a" / "x.py"), "phases": {}, "tuned": [], "group": []}
    (tmp_path / "runs" / "x" / "study.json").write_text(json.dumps(plan))
    assert sweep(tmp_path / "b" / "x.py", "--dry_run") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"contains the study {tmp_path / 'a' / 'x.py'}, not {tmp_path / 'b' / 'x.py'}" in line
    (tmp_path / "a" / "x.py").rename(tmp_path / "a" / "y.py")
    shutil.copy(tmp_path / "b" / "x.py", tmp_path / "a" / "x.py")
    (tmp_path / "runs" / "x" / "config.json").write_text("{}")
    assert sweep(tmp_path / "b" / "x.py", "--dry_run") == 2
    assert "is a run's folder" in capsys.readouterr().err


def test_whose_study_a_folder_is(tmp_path, monkeypatch):
    """Two files of one stem that are named from their own folders; one study that was edited, copied, or moved and edited."""
    monkeypatch.chdir(tmp_path)
    folder, text = tmp_path / "runs" / "x", tmp_path / "text"
    text.write_bytes(TEXT)

    def study(place: str, *seeds: int) -> Study:
        (tmp_path / place).mkdir(exist_ok=True)
        base = {**BASE, "data.path": str(text)}
        settings = f"CONFIG = {str(ROOT / 'configs' / 'lm.py')!r}\nBASE = {base!r}\n"
        code = f"{settings}def sweep():\n    for seed in {seeds!r}:\n        yield {{'seed': seed}}\n"
        (tmp_path / place / "x.py").write_text(code)
        monkeypatch.chdir(tmp_path / place)
        return read_study("x.py")

    first = study("a", 1, 2)
    write_plan(folder, first, {"run": first.sweep()})
    other = study("b", 3)
    with pytest.raises(UserError, match=f"contains the study {tmp_path / 'a' / 'x.py'}, not {tmp_path / 'b' / 'x.py'}"):
        check_folder(folder, other)
    check_folder(folder, study("b", 1, 2))  # the same from another checkout
    check_folder(folder, study("a", 3))  # edited
    (tmp_path / "a" / "x.py").unlink()
    check_folder(folder, study("c", 2, 3))  # moved and edited
    with pytest.raises(UserError, match="contains the study"):
        check_folder(folder, study("c", 3))
    plan = json.loads((folder / "study.json").read_text())
    (folder / "study.json").write_text(json.dumps({**plan, "file": "x.py"}))  # as it was written before
    with pytest.raises(UserError, match="contains the study"):
        check_folder(folder, study("b", 3))
    check_folder(folder, study("b", 1))


def test_names_that_could_be_steps(data, tmp_path):
    """A copy of a state under a date is not the newest state, and a folder under the number of a step not the oldest."""
    asked = config(execution__keep_checkpoints=1, execution__keep="state")
    folder = tmp_path / "checkpoints"
    step = interrupt(asked, data, tmp_path, chunks=2)
    shutil.copytree(folder / f"{step:08d}", folder / "20261124")
    (folder / "00000001").mkdir()
    (folder / "00000001" / "meta.json").write_text('{"mine": 1}')
    run(asked, data, RunFolder(tmp_path))
    assert [path.name for path in sorted(folder.iterdir()) if path.name.isdigit()] == [
        "00000001",
        "00000012",
        "20261124",
    ]
