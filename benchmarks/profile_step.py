"""Where does a training step's time go? Our step of benchmarks/step.py under the profiler, on CPU.

    python benchmarks/profile_step.py [ROW]        ROW as in benchmarks/step.py's table: ours, "diagnostics off", post_ln, …

Prints milliseconds of a step by kind of operation. Where two operations run at once each is charged half of that time; `idle` is
time when none runs. `matrix products` are the fusions that hold one, whatever else they do.
"""

import collections
import re
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np
import our_step

SHAPE = {"batch": 12, "seq": 64, "depth": 4, "width": 128, "heads": 4}
STEPS = 100
# Host events that are no operation of the program: Python frames, the executor's bookkeeping, what only contains others.
NO_OPERATION = re.compile(r"\$|np\.|end: |.*::|(ThunkExecutor|SlinkyThreadPool|call|while|cond)\b")


def main(row: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus"
        corpus.write_bytes(np.random.default_rng(0).integers(32, 128, 1_000_000, np.uint8).tobytes())
        our_step.hello(SHAPE, str(corpus))
        if row not in our_step.STATE["rows"]:
            sys.exit(f"no row {row!r}; there are {', '.join(our_step.STATE['rows'])}")
        our_step.prepare(row, quick=False)
        plain = our_step.run(row, STEPS)["seconds"]
        with jax.profiler.trace(folder):
            traced = our_step.run(row, STEPS)["seconds"]
        (trace,) = Path(folder).glob("**/*.xplane.pb")
        events = [
            (event.name, event.start_ns, event.start_ns + event.duration_ns)
            for plane in jax.profiler.ProfileData.from_file(str(trace)).planes
            for line in plane.lines
            for event in line.events
            if not NO_OPERATION.match(event.name)
        ]
    executables = our_step.STATE[row][1].compiler.executables
    (program,) = [executable for key, executable in executables.items() if key[0] == "train"]
    products = holding_products(program.as_text())
    by_kind: collections.Counter[str] = collections.Counter()
    for name, nanoseconds in share(events).items():
        kind = "matrix products" if name in products else re.sub(r"[.\d]+$", "", name)
        by_kind[kind] += nanoseconds / 1e6 / STEPS
    print(f"{row}: {plain / STEPS * 1e3:.1f} ms a step, {traced / STEPS * 1e3:.1f} under the profiler")
    for kind, milliseconds in by_kind.most_common(16):
        print(f"{milliseconds:8.2f}  {kind}")


def holding_products(text: str) -> set[str]:
    """Operations of an optimised HLO module that are or hold a matrix product."""
    holding, inside = set(), ""
    for line in text.splitlines():
        if opens := re.match(r"%?([\w.\-]+) \(.*\{$", line.strip()):
            inside = opens.group(1)
        elif " dot(" in line:
            holding |= {inside, line.split("=")[0].replace("ROOT", "").strip(" %")}
    calls = re.findall(r"%([\w.\-]+) = .*? fusion\(.*calls=%([\w.\-]+)", text)
    return holding | {name for name, computation in calls if computation in holding}


def share(events: list[tuple[str, float, float]]) -> dict[str, float]:
    """Nanoseconds of each operation, the time of several at once divided among them; `idle` is that of none."""
    edges = sorted([(start, 1, name) for name, start, _ in events] + [(end, -1, name) for name, _, end in events])
    shares: collections.Counter[str] = collections.Counter()
    running: collections.Counter[str] = collections.Counter()
    before = edges[0][0]
    for now, change, name in edges:
        busy = running.total()
        for other, count in running.items():
            shares[other] += (now - before) * count / busy if busy else 0
        if not busy:
            shares["idle"] += now - before
        running[name] += change
        running = +running
        before = now
    return shares


if __name__ == "__main__":
    main(" ".join(sys.argv[1:]) or "ours")
