"""Makes a study of many finished runs, without training them: the material of shell.py.

    python benchmarks/many_runs.py DIR --runs=20000        # DIR/study.py, and its runs in DIR/runs/study
    python benchmarks/many_runs.py DIR --plan_only         # the study file alone

One run of 20 steps is trained; the others are copies of its record under their own ids, settings and results, written through the
writers of `addnorm_exp/runs`. Half of the runs are tuning. Rows differ in scheme and weight decay; `--rows` is about their number.
"""

import argparse
import json
import math
import os
import random
import shutil
import sys
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from addnorm_exp.runs.folder import RunFolder  # noqa: E402
from addnorm_exp.runs.records import Summary  # noqa: E402
from addnorm_exp.sweep.agenda import Agenda  # noqa: E402
from addnorm_exp.sweep.display import Display  # noqa: E402
from addnorm_exp.sweep.launchers.launcher import Launcher  # noqa: E402
from addnorm_exp.sweep.phases import agenda_of, plan  # noqa: E402
from addnorm_exp.sweep.study import Planned  # noqa: E402
from addnorm_exp.sweep.study_file import read_studies  # noqa: E402
from addnorm_exp.train.entry import enter  # noqa: E402
from addnorm_exp.train.loop import run as train  # noqa: E402

RATES, DECAYS = (1e-3, 3e-3, 1e-2, 3e-2), (0.0, 0.03, 0.1, 0.3)
STUDY = """
from addnorm_exp.residual import catalogue
from addnorm_exp.sweep import axis, product

CONFIG = "configs/lm.py"
BASE = {base!r}
TUNED = ("optim.lr",)
BASELINE = "pre_ln"
ROWS = product(axis("scheme", catalogue.names()[:{schemes}]), axis("optim.weight_decay", {decays}))


def tune():
    return product(ROWS, axis("optim.lr", {rates}), axis("seed", range({tuned})))


def report(best):
    return product(best, axis("seed", range({tuned}, {tuned} + {reported})))
"""
BASE = {
    "steps": 20,
    "batch_size": 8,
    "seq_len": 32,
    "model.width": 32,
    "optim.warmup": 4,
    "eval.every": 10,
    "eval.sequences": 16,
    "execution.attention_every": 0,
    "execution.layers_every": 5,
    "execution.keep": "none",
}
DATA = 200_000  # bytes


class Copying(Launcher):
    """Gives each run the record of one that was trained, with results of its own."""

    def launch(self, agenda: Agenda) -> None:
        first = next(iter(agenda.open.values()))
        data = self.trainer.data(first.config)
        original = RunFolder(agenda.place(first).path.parent.with_name("original"))
        train(first.experiment, data, original)
        while joined := agenda.take():
            for run in joined:
                folder = agenda.place(run)
                folder.path.mkdir()
                enter(folder, run.experiment, data.spec, agenda.name)
                agenda.end(run, results(original, folder, run))
                shutil.copytree(original.path / "layers", folder.path / "layers")
                (folder.path / "lock").touch()


def results(original: RunFolder, folder: RunFolder, run: Planned) -> Summary:
    """Writes summary and metrics. Final values depend on scheme, learning rate and seed; some runs at the largest rate diverge."""
    optim, noise = run.config.optim, random.Random(run.id)
    valley = 0.2 * (math.log10(optim.lr) + 2.2) ** 2
    shift = 0.1 * random.Random(run.config.scheme).random() + valley + noise.gauss(0, 0.02)

    def shifted(numbers: dict[str, Any]) -> dict[str, Any]:
        return numbers | {name: numbers[name] + shift for name in ("loss", "bpb")}

    summary = json.loads((original.path / "summary.json").read_text())
    del summary["format"]
    summary |= {"id": run.id, "scheme": run.config.scheme, "title": run.experiment.scheme.title}
    summary |= {
        split: {name: shifted(each) for name, each in summary[split].items() if each} for split in ("val", "test")
    }
    if optim.lr == max(RATES) and noise.random() < 0.3:
        summary |= {"status": "diverged", "diverged": {"step": 15, "cause": "non-finite loss", "value": None}}
        summary |= {"test": None, "val": {**summary["val"], "final": None}}
    folder.write_summary(summary)
    lines = (original.path / "metrics.jsonl").read_text().splitlines()
    folder.append(shifted(json.loads(line)) for line in lines)
    read = folder.summary()
    assert read is not None
    return read


def write_study(path: Path, runs: int, rows: int) -> None:
    """A study file of about so many runs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = path.with_name("text")
    data.write_bytes(random.Random(0).randbytes(DATA))
    schemes = -(-rows // len(DECAYS))
    rows = schemes * len(DECAYS)
    seeds = {"tuned": -(-runs // (2 * rows * len(RATES))), "reported": -(-runs // (2 * rows))}
    base = {**BASE, "data.path": str(data)}
    path.write_text(STUDY.format(base=base, schemes=schemes, decays=DECAYS, rates=RATES, **seeds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dir", type=Path)
    parser.add_argument("--runs", type=int, default=20_000)
    parser.add_argument("--rows", type=int, default=80)
    parser.add_argument("--plan_only", action="store_true", help="write the study file, and no runs")
    given = parser.parse_args()
    path = given.dir.resolve() / "study.py"
    os.chdir(ROOT)
    write_study(path, given.runs, given.rows)
    if not given.plan_only:
        (study,) = read_studies(str(path))
        with mock.patch.object(os, "fsync"), Copying(Display(), lambda: False) as launcher:  # nothing of it must last
            launcher.launch(agenda_of(study, study.folder(path.with_name("runs")), {}, plan(study, {}), launcher))


if __name__ == "__main__":
    main()
