"""What the W&B mirror costs training: `python benchmarks/mirror.py [--rounds N] [--steps N] [--modes M,M]`.

The same run is trained in turn without a mirror, with one that writes offline, with one that is online (against the stand-in server of the
tests, whose work is on this machine too and so counts against us), and with W&B's client fed by a thread of the training process. One
process, one compiled program, a fresh run each time; the time is that of the steps after the first dispatch, so compilation is not in it.
The first mirrored run, in which the agent and the client start, is told apart. A ratio is to the unmirrored run of the same round.

Ratios of wall time move by several per cent with the machine. What does not is the processor time that the agent and its client take while
a run is trained: beside it stands the share that this is of all cores over that time, which bounds what it can take from training.
"""

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import numpy as np  # noqa: E402
from processes import wait  # noqa: E402
from wandb_server import Server  # noqa: E402
from worker import cores  # noqa: E402

from addnorm_exp.config import Config, override  # noqa: E402
from addnorm_exp.data.corpus import Corpus, load  # noqa: E402
from addnorm_exp.runs.folder import RunFolder  # noqa: E402
from addnorm_exp.runs.mirror.mirror import Mirror  # noqa: E402
from addnorm_exp.runs.mirror.settings import Place  # noqa: E402
from addnorm_exp.runs.mirror.window import Window, read_ledger  # noqa: E402
from addnorm_exp.train.loop import run  # noqa: E402

MODES = ("none", "offline", "online", "thread")
MODEL = {"batch_size": 12, "seq_len": 64, "eval.every": 10**6, "eval.sequences": 12, "execution.checkpoint_every": 0}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--modes", default=",".join(MODES[1:]), help="what to compare with no mirror")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Server() as server:
        os.environ |= {**server.environment, "WANDB_SILENT": "true"}
        os.environ.pop("WANDB_MODE")
        measure(Path(folder), arguments.rounds, arguments.steps, ("none", *arguments.modes.split(",")))


def measure(folder: Path, rounds: int, steps: int, modes: tuple[str, ...]) -> None:
    (folder / "text").write_bytes(np.random.default_rng(0).integers(97, 123, 10**6, np.uint8).tobytes())
    config = override(Config(), {**MODEL, "steps": steps, "data.path": str(folder / "text")}, "benchmark")
    corpus = load(config.data)
    train(config, corpus, folder / "warm", contextlib.nullcontext())
    times: dict[str, list[float]] = {mode: [] for mode in modes}
    spent: dict[str, list[float]] = {mode: [] for mode in modes}
    with contextlib.ExitStack() as open_mirrors:
        mirrors = {
            mode: open_mirrors.enter_context(Mirror(mode, Place(), lambda line: print(f"# {line}")))
            for mode in ("offline", "online")
        }
        for number in range(rounds):
            for mode in modes[number % len(modes) :] + modes[: number % len(modes)]:  # each mode has each place
                place = folder / f"{mode}-{number}"
                # Another seed a round: a run of its own on the server.
                seeded = override(config, {"seed": number}, "benchmark")
                seconds, processor = train(seeded, corpus, place, mirrors.get(mode) or thread(place, mode))
                times[mode].append(seconds)
                spent[mode].append(processor)
    print(
        f"{rounds} rounds of {steps} steps; ms a step without a mirror: {told([1e3 * t / steps for t in times['none']])}"
    )
    for mode in modes[1:]:
        ratios = [mirrored / plain for mirrored, plain in zip(times[mode], times["none"], strict=True)]
        print(f"{mode:>8}: first run × {ratios[0]:.3f}; the others × {told(ratios[1:], 3)}")
        if mode in ("offline", "online"):
            shares = [100 * own / (cores() * whole) for own, whole in zip(spent[mode], times[mode], strict=True)]
            print(
                f"          the agent took {spent[mode][0]:.2f} s of processor time in the first run, then {told(spent[mode][1:])} s"
            )
            print(f"          of all cores: {shares[0]:.2f} %, then {told(shares[1:])} %")


def train(config: Config, corpus: Corpus, place: Path, mirror) -> tuple[float, float]:
    """Trains; seconds from the end of the first dispatch to the end of the last, and the agent's processor time in them."""
    moments, spent = [], []

    def watch(event) -> None:
        if event["event"] == "train":
            moments.append(time.perf_counter())
            spent.append(processor_time(mirror.process.pid) if isinstance(mirror, Mirror) and mirror.process else 0.0)

    if isinstance(mirror, Mirror):
        run(config, corpus, RunFolder(place), watch=mirror.watch(place, watch))
        mirror.end()
        wait(lambda: read_ledger(place).get("step") == config.steps)
        time.sleep(3.0)  # for the agent to close the run: the next one is measured without it
    else:
        with mirror:
            run(config, corpus, RunFolder(place), watch=watch)
    return moments[-1] - moments[0], spent[-1] - spent[0]


def processor_time(root: int) -> float:
    """Seconds of user and system time of a process and its descendants so far (those that are still there, and those waited for)."""
    parent, ticks = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # it ended meanwhile
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                parent[int(entry.name)], ticks[int(entry.name)] = int(fields[1]), sum(map(int, fields[11:15]))

    def below(pid: int) -> bool:
        return pid == root or (pid in parent and below(parent[pid]))

    return sum(ticks[pid] for pid in ticks if below(pid)) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def thread(place: Path, mode: str):
    """The client in this process, fed by a thread once a second; nothing where `mode` is none."""
    if mode == "none":
        yield
        return
    over = threading.Event()

    def feed() -> None:
        wait(lambda: (place / "summary.json").exists())
        window = Window(place, Place(), "online")
        while not over.wait(1.0):
            window.feed()
        window.close(ended=True)

    worker = threading.Thread(target=feed)
    worker.start()
    try:
        yield
    finally:
        over.set()
        worker.join()


def told(values: list[float], places: int = 2) -> str:
    if not values:
        return "not measured"
    return (
        f"{statistics.median(values):.{places}f} ({min(values):.{places}f}–{max(values):.{places}f}), n = {len(values)}"
    )


if __name__ == "__main__":
    main()
