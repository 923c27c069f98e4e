"""How long does a whole grid take, from the shell to its last number? Ours against PyTorch, in one
run.

    python benchmarks/grid.py --torch=PYTHON                     all of it: hours on two cores
    python benchmarks/grid.py --torch=PYTHON --resume            goes on after an interruption
    python benchmarks/grid.py --torch=PYTHON --runs=8 --sizes=2x32 --arrangements=ours,eager-2,loop-2
    python benchmarks/grid.py --torch=PYTHON --runs=2 --steps=20 --no-trial      does it work?

PyTorch is no dependency of ours and lives in an environment of its own: `python -m venv DIR &&
DIR/bin/pip install torch numpy`, then `--torch=DIR/bin/python`. Without the flag only ours is
measured.

What is measured. A grid of 4 learning rates × 8 seeds, 300 steps each, of a Pre-LN decoder on
bytes, in three sizes (depth × width on batch × length). The arrangements:

    ours            `main.py sweep FILE` with its default flags; diagnostics, record and checkpoints are on
    ours-1          the same with `--workers=1`, where this revision has that flag
    eager-N         PyTorch eager, the same model: one process a run, N at a time, as a shell loop starts them (torch_train.py)
    compile-N       the same with torch.compile
    nano-N          a script in the manner of nanoGPT, smaller and faster than our model, one process a run (nano_gpt.py)
    loop-N          the same script; N processes loop over the runs by themselves
    loop-compile-N  the same with torch.compile, once a process

All sides read the same file, train the same number of steps with the same optimiser, schedule and
clipping, validate at the same steps on the same windows, and test the final and the best weights.
The script checks these counts. After 300 steps it also checks that the final losses are in the
range of ours; exit code 1 where they are not.

Each script of PyTorch has its best settings. Before the measurement a trial looks for the fastest
attention, AdamW and number of threads at each size; its time is counted nowhere. N processes at a
time divide the cores.

The clock starts before the first process. It stops when the last line of results is on standard
output: the table in ours, the last run's line in the others. The results file has the end of the
last process as well; ours draws pictures after the table. An arrangement that compiles begins with
an empty cache folder of its own, and is then repeated with that cache (warm). A ratio compares with
the fastest PyTorch arrangement of the same repetition, cold with cold and warm with warm: 2.00 × is
half of its time.
"""

import argparse
import datetime
import json
import os
import re
import shlex
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from grid_measure import HERE, Bench, text
from grid_plan import LEARNING_RATES, SEEDS, SIZES, STEPS, Workload, arrangements, runs_of
from grid_table import Measurement, losses, table
from step import BUSY, positive, torch_python
from worker import WorkerError, cores

ALL = SEEDS * len(LEARNING_RATES)
CORPUS_BYTES = 4_000_000
TITLES = {key: size.title for key, size in SIZES.items()}


def main(words: Sequence[str]) -> int:
    arguments = parse(words)
    with tempfile.TemporaryDirectory(prefix="grid-") as folder:
        try:
            return Grid(arguments, Path(folder)).run()
        except WorkerError as error:
            print(f"benchmarks/grid.py: {error}", file=sys.stderr)
            return 1


class Grid:
    """The measurements of all chosen sizes and arrangements, and their results file."""

    def __init__(self, arguments: argparse.Namespace, folder: Path):
        self.arguments = arguments
        self.load = os.getloadavg()[0]
        python = torch_python(arguments.torch) if arguments.torch else None
        self.bench = Bench(folder, python, arguments.warm, arguments.trial)
        self.chosen = [
            each
            for key, each in arguments.known.items()
            if key in arguments.arrangements and (each.kind == "ours" or python)
        ]
        corpus = arguments.corpus or folder / "corpus"
        if not arguments.corpus:
            corpus.write_text(text(CORPUS_BYTES))
        self.workloads = {
            size: Workload(SIZES[size], runs_of(arguments.runs), arguments.steps, str(corpus))
            for size in arguments.sizes
        }
        self.measurements: list[Measurement] = []
        self.file = arguments.out
        if self.file is None and self.is_whole and arguments.corpus is None:
            self.file = HERE / "results" / f"{slug(self.bench.about['device'], cores())}.json"

    @property
    def is_whole(self) -> bool:
        return (self.arguments.runs, self.arguments.steps) == (ALL, STEPS)

    def run(self) -> int:
        if self.arguments.resume:
            self._resume()
        print(self._header(), flush=True)
        measured = {each.unit for each in self.measurements}
        for repetition in range(self.arguments.repetitions):
            for size, workload in self.workloads.items():
                for arrangement in self.chosen:
                    if (size, arrangement.key, repetition) not in measured:
                        self.measurements += self.bench.measure(arrangement, workload, repetition)
                        self._write()
        known, checked = self.arguments.known, self.arguments.steps >= STEPS
        lines, sound = losses(self.measurements, known, TITLES, checked)
        print(table(self.measurements, known, TITLES))
        print("\n".join(["", *self._settings(), "", "Mean test loss (nats) of the final weights:", "", *lines]))
        return 0 if sound else 1

    def _header(self) -> str:
        about, arguments = self.bench.about, self.arguments
        revision, _, changes = (about["revision"] or "unknown").partition("+")
        versions = [
            f"{name} {about['versions'][name]}" for name in ("python", "jax", "torch") if name in about["versions"]
        ]
        device, load = about["device"], f"load {self.load:.1f}"
        lines = [
            f"- {datetime.datetime.now():%Y-%m-%d %H:%M}, {device['count']} × {device['kind']}, {cores()} cores, {load} at the start",
            f"- {', '.join(versions)}; revision {revision[:12]}{' with changes' if changes else ''}",
            f"- {arguments.runs} runs of {arguments.steps} steps",
        ]
        if not self.is_whole:
            lines.append(f"- not the whole grid of {ALL} runs of {STEPS} steps: nothing is extrapolated to it")
        if self.load > BUSY * cores():
            lines.append(f"- THE MACHINE WAS BUSY before this began ({load}): do not rely on these numbers")
        if self.bench.python is None:
            lines.append("- without PyTorch: only ours is measured")
        if not self.bench.has_workers:
            lines.append("- this revision has no --workers: ours and ours with one worker are the same command")
        return "\n".join([*lines, ""])

    def _settings(self) -> list[str]:
        return [
            f"- {TITLES[size]}, settings of {name}: "
            + ", ".join(f"{key} {value}" for key, value in entry["best"].items())
            for size, entries in self.bench.settings.items()
            for name, entry in entries.items()
        ]

    def _plan(self) -> dict[str, Any]:
        """What a resumed measurement has to agree with."""
        return {"runs": self.arguments.runs, "steps": self.arguments.steps, "cores": cores(), **self.bench.about}

    def _write(self) -> None:
        if self.file is None:
            return
        words = [word for word in self.arguments.words if not word.startswith(("--torch", "--out", "--corpus"))]
        record = {
            "command": shlex.join(["benchmarks/grid.py", *words]),
            "date": f"{datetime.datetime.now():%Y-%m-%d %H:%M}",
            "load": self.load,
            "plan": self._plan(),
            "settings": self.bench.settings,
            "measurements": [each.as_json() for each in self.measurements],
        }
        self.file.parent.mkdir(parents=True, exist_ok=True)
        part = self.file.with_suffix(".part")
        part.write_text(json.dumps(record, indent=1) + "\n")
        part.replace(self.file)

    def _resume(self) -> None:
        """Takes over the measurements of the results file. Raises WorkerError if they are of something else."""
        if self.file is None or not self.file.exists():
            raise WorkerError("--resume: there is no results file of this measurement; leave the flag out")
        record = json.loads(self.file.read_text())
        if committed(record["plan"]) != committed(self._plan()):
            raise WorkerError(
                f"--resume: {self.file.name} is of another revision, version or grid; leave the flag out to measure anew"
            )
        self.bench.about["revision"] = record["plan"]["revision"]
        self.bench.settings = record["settings"]
        self.measurements = [Measurement(**each) for each in record["measurements"]]


def committed(plan: Mapping[str, Any]) -> dict[str, Any]:
    """The plan with its revision as committed: the results file itself is a change of the checkout."""
    return {**plan, "revision": (plan["revision"] or "").partition("+")[0]}


def slug(device: Mapping[str, Any], cores: int) -> str:
    """A file name for a device: `cpu-amd-epyc-2-cores`."""
    count = f"{cores} cores" if device["platform"] == "cpu" else f"{device['count']}"
    return re.sub(r"[^a-z0-9]+", "-", f"{device['kind']} {count}".lower()).strip("-")


def parse(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks/grid.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )

    def several(word: str) -> list[str]:
        return word.split(",")

    parser.add_argument("--torch", metavar="PYTHON", help="the interpreter that has PyTorch")
    parser.add_argument("--sizes", type=several, default=list(SIZES), help=f"default {','.join(SIZES)}")
    parser.add_argument("--arrangements", type=several, help="keys as above, comma-separated; default all")
    parser.add_argument("--at_once", type=several, default=["1", "2"], help="values of N, default 1,2")
    parser.add_argument(
        "--runs", type=positive, default=ALL, metavar="N", help=f"the first N runs of the grid, default {ALL}"
    )
    parser.add_argument("--steps", type=positive, default=STEPS, metavar="N", help=f"of a run, default {STEPS}")
    parser.add_argument("--repetitions", type=positive, default=1, metavar="N", help="default 1")
    parser.add_argument("--corpus", type=Path, metavar="FILE", help="default: invented words")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="the results file; default benchmarks/results/DEVICE.json for the whole grid on invented words, else none",
    )
    parser.add_argument("--resume", action="store_true", help="keep what the results file has, measure the rest")
    parser.add_argument("--no-warm", dest="warm", action="store_false", help="no repetition with a warm cache")
    parser.add_argument(
        "--no-trial", dest="trial", action="store_false", help="SDPA, fused AdamW and all cores in place of a trial"
    )
    arguments = parser.parse_args(words, argparse.Namespace(words=list(words)))
    try:
        arguments.known = arrangements([positive(word) for word in arguments.at_once])
    except argparse.ArgumentTypeError as error:
        parser.error(f"--at_once: {error}")
    arguments.arrangements = arguments.arrangements or list(arguments.known)
    for flag, given, known in (
        ("sizes", arguments.sizes, SIZES),
        ("arrangements", arguments.arrangements, arguments.known),
    ):
        if unknown := [key for key in given if key not in known]:
            parser.error(f"--{flag}: there is no {', '.join(unknown)}; there are {', '.join(known)}")
    if arguments.runs > ALL:
        parser.error(f"--runs={arguments.runs}: the grid has {ALL} runs; take {ALL} or fewer")
    if arguments.corpus:
        arguments.corpus = arguments.corpus.resolve()
        if not arguments.corpus.is_file():
            parser.error(f"--corpus={arguments.corpus}: no such file; name a text")
    return arguments


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as an exception, which ends the processes first
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
