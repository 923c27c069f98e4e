"""Measures an arrangement of benchmarks/grid.py: runs its processes, looks for its best settings, and
reads the results of its runs.
"""

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from grid_plan import (
    Arrangement,
    Setting,
    Workload,
    arrangements,
    fastest,
    options,
    runs_of,
    script_commands,
    study,
)
from grid_shell import Timing, environment, run_all
from grid_table import Measurement, check_work
from step import say
from worker import WorkerError, cores

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
OURS = (
    "import json; from addnorm_exp.runs import machine as m; "
    "print(json.dumps({'device': m.device(), 'versions': m.versions(), 'revision': m.revision()}))"
)
TORCH = "import json, torch; print(json.dumps({'torch': torch.__version__}))"
FONTS = "import matplotlib.font_manager; print('{}')"  # makes the list of fonts


class Bench:
    """Both sides on this machine. `python` has PyTorch, or is None. `settings` are the best ones of the
    scripts, by size and name of options, as far as they are known."""

    def __init__(self, folder: Path, python: str | None, warm: bool, trial: bool):
        self.folder, self.python, self.warm, self.trial = folder, python, warm, trial
        self.settings: dict[str, dict[str, Any]] = {}
        # What runs once before any measurement: the files of both sides are in the system's memory then.
        self.about = self._ask(sys.executable, "-c", OURS)
        if python:
            self.about["versions"] |= self._ask(python, "-c", TORCH)
        self._ask(sys.executable, "-c", FONTS)
        self.device = "cpu" if self.about["device"]["platform"] == "cpu" else "cuda"
        self.has_workers = "--workers" in self._output(sys.executable, "main.py", "sweep", "--help")

    def _environment(self, cache: str) -> dict[str, str]:
        return environment(os.environ, self.folder / cache, self.folder / "fonts")

    def _output(self, *command: str) -> str:
        process = subprocess.run(command, cwd=ROOT, env=self._environment("cache"), capture_output=True, text=True)
        if process.returncode:
            raise WorkerError((process.stderr.strip().splitlines() or ["a process failed"])[-1])
        return process.stdout

    def _ask(self, *command: str) -> dict[str, Any]:
        return json.loads(self._output(*command).splitlines()[-1])

    def measure(self, arrangement: Arrangement, workload: Workload, repetition: int) -> list[Measurement]:
        """With a cold cache and a warm one, where the arrangement has a cache."""
        run: Callable[[Mapping[str, str]], tuple[Timing, list[dict[str, Any]]]]
        if arrangement.kind == "ours":

            def run(variables):
                return self._ours(arrangement, workload, variables)
        else:
            commands = self._commands(arrangement, workload, self._setting(arrangement, workload))

            def run(variables):
                timing = run_all(commands, arrangement.at_once, variables, HERE)
                return timing, [json.loads(line) for line in timing.lines]

        states = (("cold", "warm") if self.warm else ("cold",)) if arrangement.caches else ("none",)
        measurements = []
        try:
            for state in states:
                say(f"{workload.size.title}, {arrangement.title}, repetition {repetition + 1}, cache {state}")
                load = os.getloadavg()[0]
                timing, results = run(self._environment("compiled"))
                measurement = Measurement(
                    workload.size.key, arrangement.key, state, repetition, timing.numbers, timing.end, load, results
                )
                if problem := check_work(measurement, workload):
                    raise WorkerError(problem)
                say(f"  {timing.numbers:.1f} s")
                measurements.append(measurement)
        finally:
            shutil.rmtree(self.folder / "compiled", ignore_errors=True)
        return measurements

    def _ours(
        self, arrangement: Arrangement, workload: Workload, variables: Mapping[str, str]
    ) -> tuple[Timing, list[dict[str, Any]]]:
        """The timing of `main.py sweep`, and the results in its record."""
        file, runs = self.folder / f"grid_{workload.size.key}.py", self.folder / "runs"
        file.write_text(study(workload))
        command = [sys.executable, "main.py", "sweep", str(file), f"--runs={runs}"]
        if arrangement.workers is not None and self.has_workers:
            command.append(f"--workers={arrangement.workers}")
        try:
            timing = run_all([command], 1, variables, ROOT, lambda line: line.startswith("|"))
            return timing, [recorded(path.parent) for path in sorted(runs.glob("*/*/summary.json"))]
        finally:
            shutil.rmtree(runs, ignore_errors=True)

    def _commands(self, arrangement: Arrangement, workload: Workload, setting: Setting) -> list[Sequence[str]]:
        commands = script_commands(arrangement, workload, setting, cores(), self.device)
        return [[str(self.python), *words] for words in commands]

    def _setting(self, arrangement: Arrangement, workload: Workload) -> Setting:
        """The fastest setting of a script at a size: a trial takes the shorter of two times, of which
        the second has a warm cache."""
        choices = options(cores())[arrangement.options]
        if not self.trial:
            return {name: values[0] for name, values in choices.items()}
        settings = self.settings.setdefault(workload.size.key, {})
        if arrangement.options not in settings:
            # A process that loops is timed over several runs, so that its steps outweigh its start.
            loops = arrangement.options == "nano"
            alone = arrangements([1])["loop-1" if loops else f"{arrangement.options}-1"]
            few = Workload(workload.size, runs_of(4 if loops else 1), workload.steps, workload.corpus)

            def seconds(setting: Setting) -> float:
                say(f"{workload.size.title}, trial of {arrangement.options}: {setting}")
                commands = self._commands(alone, few, setting)
                try:
                    return min(run_all(commands, 1, self._environment("trial"), HERE).end for _ in range(2))
                except WorkerError as error:  # a setting that this build lacks; the others stand
                    say(f"  {error}")
                    return float("inf")

            best, tried = fastest(choices, seconds)
            settings[arrangement.options] = {"best": best, "tried": tried}
        return settings[arrangement.options]["best"]


def recorded(folder: Path) -> dict[str, Any]:
    """The results of one of our runs, in the form of the scripts'."""
    summary, config = (json.loads((folder / name).read_text()) for name in ("summary.json", "config.json"))
    if summary["status"] != "done":
        raise WorkerError(f"a run of ours is {summary['status']}: {summary['reason']}")
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    splits = [json.loads(line)["split"] for line in lines]
    return {
        "lr": config["science"]["optim"]["lr"],
        "seed": config["science"]["seed"],
        "val_loss": summary["val"]["final"]["loss"],
        "test_loss": summary["test"]["final"]["loss"],
        "validations": splits.count("val"),
        "tests": splits.count("test"),
        "windows": summary["examples"]["val"],
        "steps": splits.count("train"),
        "parameters": summary["parameters"],
    }


def text(size: int) -> str:
    """So many characters of invented words, drawn by Zipf's law: a text from which something can be learnt."""
    rng = random.Random(0)
    words = ["".join(rng.choices("etaoinshrdlcumwfgypb", k=rng.randint(2, 9))) for _ in range(5000)]
    weights = [1.0 / rank for rank in range(1, len(words) + 1)]
    return " ".join(rng.choices(words, weights, k=size // 3))[:size]
