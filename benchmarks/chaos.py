"""Does a small study every harm that machines do, and sees whether the same command finishes it as if nothing had been.

Command:   python benchmarks/chaos.py --kills=200            (--seed=N repeats the same choices)
Cost:      about 9 s per kill on two shared cores (200 in half an hour: NOTES.md)
Expected:  every line says `sound`; exit code 0. The counts stand in NOTES.md.

A study of five runs (two of tuning, three reported, of which one diverges) is made once undisturbed. Then it is begun anew and harmed some
times in a row, each time by one of

    event    kill -9 just before the process opens, renames, removes or makes its k-th file, k drawn from all of an undisturbed study:
             training, evaluation, checkpointing and publishing alike
    moment   kill -9 at a random time
    term     SIGTERM at a random time, which must end in exit code 0 (or in the signal, where it comes before the command has begun)
    clock    kill -9 at a random time, while the clock jumps by days at every look
    two      two launchers at once, one of which is killed at a random time
    full     a disk that takes no more from the k-th file on, which must end in exit code 2 and one line that says so
    rot      kill -9 at a random time, then a bit of the newest checkpoint flips, or its end is lost

After each, every record that is there can be read, and what had ended before is untouched to the byte. Then the same command is left
alone: it must end well, with metrics, per-layer arrays and results equal to the undisturbed ones to the last bit, nothing twice, and
nothing left over that `main.py gc` does not name. No process prints to standard error what is not a line of ours (harmed.py): no
traceback, of no thread.
"""

import argparse
import collections
import contextlib
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from harmed import Attempt, stray  # first: it sets up the environment for what follows

# isort: split
import numpy as np

from addnorm_exp.report.load import load_study
from addnorm_exp.report.run import read_layers, read_metrics
from addnorm_exp.runs.checkpoint_folders import whole
from addnorm_exp.runs.prune import leavings, remove
from addnorm_exp.runs.status import standings

STUDY = """
BASE = {base!r}
TUNED = ("optim.lr",)


def tune():
    for rate in (3e-3, 1e-2):
        yield {{"optim.lr": rate, "seed": 0}}


def report(best):
    for chosen in best:
        yield {{**chosen, "seed": 1}}
        yield {{**chosen, "seed": 2}}
        yield {{**chosen, "seed": 3, "optim.lr": 1e4}}
"""
BASE = {
    "scheme": "no_norm",  # of the fewest tensors: each process makes its programs anew
    "steps": 16,
    "batch_size": 4,
    "seq_len": 16,
    "model.depth": 1,
    "model.width": 16,
    "model.num_heads": 2,
    "model.bias": False,
    "eval.every": 8,
    "eval.sequences": 8,
    "execution.chunk_steps": 4,
    "execution.checkpoint_every": 8,
    "execution.layers_every": 2,
    "execution.attention_every": 8,
}
KINDS = ("event", "event", "event", "moment", "term", "clock", "two", "full", "rot")
IN_A_ROW = 5  # kills of one study, at most
RESULTS = ("status", "reason", "step", "val", "test", "train_loss_final", "diverged", "tokens")


class Trouble(Exception):
    """What should not be."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument(
        "--seconds", type=float, default=None, help="begin no study after so long, and tell what was done"
    )
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--dir", type=Path, default=None, help="where to work; default: a temporary folder")
    arguments = parser.parse_args()
    seed = random.randrange(10**6) if arguments.seed is None else arguments.seed
    print(f"seed {seed}", flush=True)
    with contextlib.ExitStack() as stack:
        if arguments.dir is None:
            arguments.dir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        return Chaos(arguments.dir, random.Random(seed)).run(arguments.kills, arguments.seconds)


class Chaos:
    def __init__(self, folder: Path, rng: random.Random):
        self.folder, self.rng = folder, rng
        folder.mkdir(parents=True, exist_ok=True)
        text = np.random.default_rng(7).choice(np.frombuffer(b"abcdefgh    the of", np.uint8), size=20_000)
        (folder / "text").write_bytes(bytes(text))
        (folder / "tiny.py").write_text(STUDY.format(base={**BASE, "data.path": str(folder / "text")}))
        self.counts: collections.Counter[str] = collections.Counter()
        self.deck: list[str] = []

    def draw(self) -> str:
        """The next kind: all of them before any comes again more often than it should."""
        if not self.deck:
            self.deck = self.rng.sample(KINDS, len(KINDS))
        return self.deck.pop()

    def run(self, kills: int, seconds: float | None) -> int:
        begun = time.monotonic()
        Attempt(self.folder, "undisturbed").wait()  # compiles
        shutil.rmtree(self.folder / "undisturbed")
        first = Attempt(self.folder, "undisturbed", "count")
        self.ended(first, (0,))
        self.seconds, self.events = first.seconds, int((self.folder / "undisturbed.count").read_text())
        self.expected = results(self.folder / "undisturbed" / "tiny")
        print(f"undisturbed: {len(self.expected)} runs, {self.seconds:.1f} s, {self.events} file events", flush=True)
        done = number = 0
        while done < kills and (seconds is None or time.monotonic() - begun < seconds):
            number += 1
            made = self.disturb(f"study-{number}", min(kills - done, self.rng.randint(1, IN_A_ROW)))
            done += made
            print(f"{done}/{kills}: sound", flush=True)
        told = ", ".join(f"{count} {kind}" for kind, count in sorted(self.counts.items()))
        print(f"{done} kills in {number} studies, all sound ({told})")
        return 0

    def disturb(self, name: str, kills: int) -> int:
        """Harms one study so often, or until it is finished; then has it finished, and looks at it. Returns how often it did."""
        folder, made, ended, rotten = self.folder / name / "tiny", 0, {}, None
        for _ in range(kills):
            kind = self.draw()
            if not self.harm(name, kind):
                rotten = None
                self.deck.append(kind)
                break  # the study was faster
            made += 1
            self.counts[kind] += 1
            rotten = self.rot(folder) if kind == "rot" else None
            self.readable(folder)
            self.untouched(folder, ended)
            ended = {
                run.path.name: (run.path / "summary.json").read_bytes()
                for run in (standings(folder) if folder.is_dir() else ())
                if run.finished
            }
        last = Attempt(self.folder, name)
        self.ended(last, (0,))
        if rotten is not None and f"{rotten}: " not in last.errors():
            raise Trouble(f"{rotten}: was damaged, and that was not told: {last.errors()}")
        self.compare(folder)
        self.untouched(folder, ended)
        shutil.rmtree(self.folder / name)
        return made

    def harm(self, name: str, kind: str) -> bool:
        """One attempt with one harm done to it; False where the study was finished before that."""
        at = self.rng.randint(1, self.events) if kind in ("event", "full") else None
        attempt = Attempt(self.folder, name, kind, at)
        other = Attempt(self.folder, name, "two", log="-second") if kind == "two" else None
        if kind not in ("event", "full"):
            attempt.send(signal.SIGTERM if kind == "term" else signal.SIGKILL, self.rng.uniform(0, self.seconds))
        harmed = {"term": -signal.SIGTERM, "full": 2}.get(kind, -signal.SIGKILL)
        code = self.ended(attempt, (0, harmed))
        if other is not None:
            self.ended(other, (0,))  # it waits for what the first trains, and goes on from where that was killed
        return code != 0 or (kind == "term" and "stopped; " in attempt.errors())

    def ended(self, attempt: Attempt, codes: tuple[int, ...]) -> int:
        """Waits for its end: the exit code, which must be one of these, and nothing on standard error but lines of ours."""
        code, errors = attempt.wait(), attempt.errors()
        if code not in codes:
            raise Trouble(f"{attempt.name}: exit code {code}, expected {codes}: {errors}")
        if found := stray(errors, code):
            raise Trouble(f"{attempt.name}: exit code {code}, and on standard error {found[0]!r} in {errors}")
        return code

    def rot(self, folder: Path) -> Path | None:
        """Damages the newest state of a run that is not finished; its path, None where there is none."""
        going = [run for run in standings(folder) if run.status == "stopped"] if folder.is_dir() else []
        found = [path for run in going for path in whole(run.path / "checkpoints") if path.name.isdigit()]
        if not found:
            return None
        newest = found[-1]
        path = max((p for p in newest.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
        held = bytearray(path.read_bytes())
        held[self.rng.randrange(len(held))] ^= 1 << self.rng.randrange(8)
        path.write_bytes(held if self.rng.random() < 0.5 else held[:-10])
        return newest

    def untouched(self, folder: Path, ended: dict[str, bytes]) -> None:
        for run, summary in ended.items():
            if (folder / run / "summary.json").read_bytes() != summary:
                raise Trouble(f"{folder / run}: had ended, and was made again")

    def readable(self, folder: Path) -> None:
        """Raises UserError where a kill left something that cannot be read."""
        if not (folder / "study.json").exists():
            return
        for run in load_study(folder).runs:
            if run.recorded:
                read_layers(run)
                read_metrics(run, "train")
        damaged = [run for run in standings(folder) if run.status in ("damaged", "failed", "running")]
        if damaged:
            raise Trouble(f"{damaged[0].path}: {damaged[0].status}: {damaged[0].reason}")

    def compare(self, folder: Path) -> None:
        found = results(folder)
        if found.keys() != self.expected.keys():
            raise Trouble(f"{folder}: holds the runs {sorted(found)}, expected {sorted(self.expected)}")
        for run, parts in self.expected.items():
            for part, value in parts.items():
                if found[run][part] != value:
                    raise Trouble(f"{folder / run}: its {part} differ from the undisturbed ones")
        for left in list(leavings(folder)):
            remove(left)
        hidden = list(folder.rglob(".*"))
        if hidden:
            raise Trouble(f"{hidden[0]}: was left over")


def results(study: Path) -> dict[str, dict[str, object]]:
    """What must be equal to the last bit, run by run: metric lines as written, per-layer arrays, results."""
    found = {}
    for run in load_study(study).runs:
        summary = json.loads((run.path / "summary.json").read_text())
        rows = {}
        for kind in ("", "attention-"):
            layers = read_layers(run, kind)
            assert layers is not None
            rows[kind] = {name: array.tobytes() for name, array in layers.arrays.items()} | {
                "step": layers.step.tolist()
            }
        found[run.id] = {
            "metrics": (run.path / "metrics.jsonl").read_bytes(),
            "per-layer arrays": rows,
            "results": {name: summary[name] for name in RESULTS},
        }
    return found


if __name__ == "__main__":
    sys.exit(main())
