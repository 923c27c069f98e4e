"""Two folders of one study, for the tests of `merge`, and what they do with them."""

import json
import os
from pathlib import Path

from test_report_study import summary_of, write_plan, write_run

from addnorm_exp import cli

SCHEMES = ("post_ln", "pre_ln", "no_norm")
RATES, SEEDS = (1e-3, 1e-2), (1, 2, 3)


def tuning(scheme: str) -> list[tuple]:
    return [(f"{scheme}-t{rate}", scheme, 0, rate) for rate in RATES]


def report(scheme: str) -> list[tuple]:
    return [(f"{scheme}-r{seed}", scheme, seed, 1e-2) for seed in SEEDS]


def score(name: str, rate: float) -> float:
    """A number of a run's own, with all its digits."""
    return 2.5 + sum(map(ord, name)) / 7919 - rate


def write(folder: Path, tuned=SCHEMES, reported=SCHEMES, recorded=None, **more) -> Path:
    """A study whose tuning is planned in full. `tuned`, `reported`: schemes that are planned there; `recorded`: those with runs."""
    phases: dict[str, list[tuple]] = {"tune": [run for scheme in tuned for run in tuning(scheme)]}
    if reported:
        phases["report"] = [run for scheme in reported for run in report(scheme)]
    entries = {phase: [] for phase in phases}
    for phase, runs in phases.items():
        for name, scheme, seed, rate in runs:
            entry = {"id": name, "overrides": {"scheme": scheme, "optim.lr": rate, "seed": seed}}
            if scheme in (reported if recorded is None else recorded):
                write_run(folder / name, scheme, seed, summary_of(scheme, score(name, rate)), lr=rate)
                (folder / name / "checkpoints").mkdir(exist_ok=True)
                (folder / name / "checkpoints" / "final.npz").write_bytes(name.encode())
                (folder / name / "lock").touch()
            entries[phase].append(entry)
    name = {"name": "study", "waiting": 3 * (len(SCHEMES) - len(reported))} | more
    write_plan(folder, entries, **name)
    return folder


def write_parts() -> None:
    """Two folders of a study in the current one: the first has post_ln and no_norm, the second pre_ln."""
    write(Path("a"), reported=("post_ln", "no_norm"))
    write(Path("b"), reported=("pre_ln",))


def merge(capsys, *words: str) -> tuple[int, str, str]:
    code = cli.main(["merge", *words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def refusal(capsys, *words: str) -> str:
    """The one line of a refusal, after which every file is as before."""
    before = contents(Path())
    code, out, err = merge(capsys, *words)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert contents(Path()) == before
    return err.removeprefix("error: ").rstrip("\n")


def contents(folder: Path) -> dict[str, bytes | str]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        if path.is_file()
        else os.readlink(path)
        if path.is_symlink()
        else ""
        for path in folder.rglob("*")
    }


def table(capsys, folder: str) -> str:
    assert cli.main(["table", folder]) == 0
    return capsys.readouterr().out.replace(folder, "FOLDER")


def summary(folder: str, name: str, **changes) -> None:
    path = Path(folder) / name / "summary.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def unfinished(folder: str, name: str, step: int) -> None:
    summary(folder, name, status="running", step=step, val=None, test=None)


def worse(folder: str, name: str) -> None:
    """Another last digit of the test loss."""
    path = Path(folder) / name / "summary.json"
    plain = json.loads(path.read_text())
    plain["test"]["final"]["loss"] *= 1 + 2**-50
    path.write_text(json.dumps(plain))


def packed(folder: str, step: int) -> None:
    """Makes two runs a pack that has come to this step."""
    pack = ["no_norm-r1", "no_norm-r2"]
    for name in pack:
        (Path(folder) / name / "pack.json").write_text(json.dumps({"format": 1, "ids": pack}))
        unfinished(folder, name, step)
