"""The program outside of its checkout: started as a module, and installed from a wheel."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from processes import ROOT, run
from studies import read_study

from addnorm_exp.config import Flag, files, load, parse


def test_the_module_is_the_same_program_under_its_own_name():
    as_file, as_module = run("main.py", "--help"), run("-m", "addnorm_exp", "--help")
    assert as_module.returncode == 0
    assert as_module.stdout == as_file.stdout.replace("main.py", "python -m addnorm_exp")
    wrong = run("-m", "addnorm_exp", "diff", "a")
    assert (wrong.returncode, wrong.stderr) == (2, "error: diff needs B: python -m addnorm_exp diff A B\n")


def test_configs_and_sweeps_of_the_program_are_there_in_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load("configs/lm.py:post_ln").scheme == "post_ln"
    arguments = parse(["--config=configs/lm.py"], [Flag("workdir")], command="train", config="required")
    assert arguments.config is not None
    monkeypatch.setattr("addnorm_exp.sweep.study.spec", lambda config: SimpleNamespace(sha256="0" * 64))
    study = read_study("sweeps/quickstart.py")
    assert (study.name, len(study.tune())) == ("quickstart", 12)
    assert study.path.is_file()


def test_those_of_the_folder_come_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    mine = (ROOT / "configs" / "lm.py").read_text().replace("config.scheme = scheme", "config.scheme = 'rezero'")
    (tmp_path / "configs" / "lm.py").write_text(mine)
    assert load("configs/lm.py").scheme == "rezero"
    (tmp_path / "configs" / "lm.py").unlink()
    assert load("configs/lm.py").scheme == "pre_ln"


def test_other_files_are_not_looked_for_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert files.located("tests/processes.py") == Path("tests/processes.py")
    assert files.located("configs/none.py") == Path("configs/none.py")


@pytest.mark.full
def test_a_wheel_brings_command_configs_and_sweeps(tmp_path):
    """Built without a network, and put on the path of a process that knows nothing of the checkout."""
    pytest.importorskip("hatchling")
    build = [
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--disable-pip-version-check",
        "--wheel-dir",
    ]
    subprocess.run([sys.executable, "-m", *build, str(tmp_path), str(ROOT)], check=True, timeout=300)
    (wheel,) = tmp_path.glob("*.whl")
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
        names = set(archive.namelist())
        (entry_points,) = (name for name in names if name.endswith(".dist-info/entry_points.txt"))
        assert "addnorm_exp = addnorm_exp.__main__:main" in archive.read(entry_points).decode()
    for folder in ("configs", "sweeps"):
        for file in (ROOT / folder).rglob("*.py"):
            assert f"addnorm_exp/shipped/{file.relative_to(ROOT)}" in names
    assert not [name for name in names if name.startswith(("tests/", "docs/", "configs/", "sweeps/"))]

    def installed(*words):
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        code = f"import sys; sys.path.insert(0, {str(site)!r}); sys.argv[0] = '/bin/addnorm_exp'; " \
               "from addnorm_exp.__main__ import main; main()"  # fmt: skip
        return subprocess.run(
            [sys.executable, "-P", "-c", code, *words],
            cwd=elsewhere,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )

    assert "usage: addnorm_exp COMMAND" in installed("--help").stdout
    (elsewhere / "text").write_bytes(bytes(range(256)) * 400)
    small = ["--config.model.depth=1", "--config.model.width=16", "--config.model.num_heads=2", "--config.seq_len=16"]
    small += [
        "--config.batch_size=2",
        "--config.steps=2",
        "--config.eval.sequences=4",
        "--workdir=run",
        "--wandb=disabled",
    ]
    trained = installed("train", "--config=configs/lm.py", "--config.data.path=text", *small)
    assert trained.returncode == 0, trained.stderr
    planned = installed("sweep", "sweeps/quickstart.py", "--dry_run")
    assert planned.returncode == 0, planned.stderr
    assert "to do: 24 runs" in planned.stdout
    assert str(ROOT) not in trained.stdout + trained.stderr + planned.stdout + planned.stderr
