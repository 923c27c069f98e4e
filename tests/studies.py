"""A tiny study for the tests of sweeps: two schemes at two learning rates, then two report seeds each, on a file of text."""

from pathlib import Path

from training import BASE, TEXT, signals_restored

from addnorm_exp import cli
from addnorm_exp.sweep.study import Study
from addnorm_exp.sweep.study_file import read_studies

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


def read_study(path: str) -> Study:
    """The study in a file that has one config."""
    (study,) = read_studies(path)
    return study


def sweep(path: Path, *words: str) -> int:
    """The exit code of the command. Runs are trained in this process if the words do not say otherwise."""
    here = [] if any(word.startswith(("--workers", "--launcher")) for word in words) else ["--workers=1"]
    with signals_restored():
        return cli.main(["sweep", str(path), f"--runs={path.parent / 'runs'}", *here, *words])
