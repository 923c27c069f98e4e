"""How fast is a training step? Ours against PyTorch on the same machine, in one run.

    python benchmarks/step.py --torch-python=PATH     the table (about ten minutes on two cores, half of it compilation)
    python benchmarks/step.py --quick                 a rough one (about two minutes)
    python benchmarks/step.py --check --torch-python=PATH    is the PyTorch step the same step? (no timing)
    python benchmarks/step.py --dtype=bfloat16 --depth=12 --width=768 --heads=12 --batch=32 --seq=512    on an accelerator

PyTorch is no dependency of ours and may live in an environment of its own: `python -m venv DIR && DIR/bin/pip install torch`, then
`--torch-python=DIR/bin/python`. Without the flag this interpreter's is taken; where there is none its rows are left out.

What is timed. `ours` is `pre_ln` as `main.py train` runs it: 20 steps a dispatch, batches drawn from the corpus inside the program, AdamW,
clipping, divergence check, per-layer diagnostics on (attention statistics every 100 steps as there, so leave --steps a multiple of 100
where diagnostics matter), metrics read back. Each row below it differs from it in one thing. The PyTorch rows do the same step
without diagnostics and divergence check (benchmarks/torch_step.py): of two attentions and two or three forms of AdamW the fastest.
Both processes use all cores and the same malloc settings, are compiled and warm before the first round, and wait while another computes.

Both sides compute in `--dtype`: float32 means float32 on accelerators too (no TF32), bfloat16 is `model.compute_dtype` here and autocast
there. On an accelerator there are rows for the kernels of attention, too.

How. A round times every row once, `--steps` steps each, and the peak: a square matrix product of the same type in JAX (2048 a side, 8192 on
an accelerator). Times are medians over rounds, with the least and the greatest in brackets.
Ratios and shares are taken round by round, so that a machine that slows down for a while moves both sides; the table gives their median
and, in brackets, the least and the greatest. A ratio is a speed: 1.60 in the column "× eager" means 1.6 times as many tokens a second
as PyTorch eager. FLOPs are those of the matrix products, attention counted whole; a busy machine shows in the brackets.
"""

import argparse
import datetime
import os
import random
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from worker import Worker, WorkerError, cores

HERE = Path(__file__).resolve().parent
OURS, EAGER, COMPILE = "ours", "PyTorch eager", "PyTorch compile"
TORCH = {EAGER: "eager", COMPILE: "compile"}  # row → the worker's name for it
CORPUS_BYTES = 8_000_000
CHECK_STEPS = 5
BUSY = 0.3  # load a core
# Logits are O(1) and absolute; the others are relative.
TOLERANCE = {"logits": 1e-4, "loss": 1e-4, "grad_norm": 1e-3, "weights": 1e-3}


def main(words: Sequence[str]) -> int:
    arguments = parse(words)
    shape = {name: getattr(arguments, name) for name in ("depth", "width", "heads", "batch", "seq")}
    workers: list[Worker] = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            return compare(arguments, shape, Path(folder), workers)
        except WorkerError as error:
            print(f"benchmarks/step.py: {error}", file=sys.stderr)
            return 1
        finally:
            for worker in workers:
                worker.close()


def compare(arguments: argparse.Namespace, shape: dict[str, int], folder: Path, workers: list[Worker]) -> int:
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")  # before our own compilation
    corpus = folder / "corpus"
    corpus.write_bytes(random.Random(0).randbytes(CORPUS_BYTES))
    root = os.pathsep.join(filter(None, (str(HERE.parent), os.environ.get("PYTHONPATH"))))
    ours = Worker([sys.executable, str(HERE / "our_step.py")], {"PYTHONPATH": root})
    workers.append(ours)
    us = ours.ask("hello", shape=shape, dtype=arguments.dtype, corpus=str(corpus))
    torch, them = None, None
    python = torch_python(arguments.torch_python)
    if python is not None:
        torch = Worker([python, str(HERE / "torch_step.py")])
        workers.append(torch)
        platform = us["device"]["platform"]
        try:
            them = torch.ask(
                "hello",
                platform=platform,
                shape=shape,
                dtype=arguments.dtype,
                optim=us["optim"],
                corpus=str(corpus),
            )
        except WorkerError as error:
            print(f"PyTorch is left out: {error}")
            torch = None
    if them and them["parameters"] != us["parameters"]:
        raise WorkerError(f"the PyTorch twin has {them['parameters']:,} parameters and ours {us['parameters']:,}")
    if arguments.check:
        return check(ours, torch, folder)
    rows = {row: (ours, row) for row in us["rows"]}
    if torch is not None:
        # Beside what they are compared with: a round's ratio then spans little time.
        rows = {OURS: rows[OURS], **{row: (torch, name) for row, name in TORCH.items()}, **rows}
    wanted = arguments.rows or rows
    if unknown := set(wanted) - set(rows):
        raise WorkerError(f"--rows: there is no {', '.join(sorted(unknown))} here; there are {', '.join(rows)}")
    rows = {row: at for row, at in rows.items() if row == OURS or row in wanted}
    notes = prepare(rows, arguments.quick)
    times: dict[str, list[float]] = {row: [] for row in rows}
    peaks: list[float] = []
    for number in range(arguments.rounds):
        say(f"round {number + 1} of {arguments.rounds}")
        for row, (worker, name) in rows.items():
            times[row].append(worker.ask("run", row=name, steps=arguments.steps)["seconds"] / arguments.steps)
        peaks.append(ours.ask("peak")["flops"])
    tokens = shape["batch"] * shape["seq"]
    print(header(shape, us, them, arguments, load))
    print(table(times, peaks, tokens, us["flops_per_token"] * tokens))
    print("\n".join(["", *findings(times, peaks), *notes]))
    return 0


def prepare(rows: dict[str, tuple[Worker, str]], quick: bool) -> list[str]:
    """Compiles and warms up each row; one that cannot be had is taken out. → notes for below the table."""
    notes = []
    for row, (worker, name) in list(rows.items()):
        say(f"preparing {row}")
        try:
            answer = worker.ask("prepare", row=name, quick=quick)
        except WorkerError as error:
            if row == OURS:
                raise
            del rows[row]
            notes.append(f"- {row} is left out: {error}")
            continue
        if "way" in answer:
            tried = ", ".join(f"{way} {ms:.1f}" for way, ms in answer["tried_ms"].items())
            notes.append(f"- {row}: {answer['way']} (warm-up, best ms a step: {tried})")
            notes += [f"- {row}, {way} failed: {error}" for way, error in answer["failed"].items()]
    return notes


def header(
    shape: dict[str, int], us: dict[str, Any], them: dict[str, Any] | None, arguments: argparse.Namespace, load: float
) -> str:
    """The command, where and when it ran, and what a step is."""
    found = [f"{name} {us['versions'][name]}" for name in ("python", "jax", "flax") if name in us["versions"]]
    if them:
        found.append(f"PyTorch {them['version']} ({them['threads']} threads)")
    commit, _, changes = (us["git"] or "unknown").partition("+")
    device, cores_, execution = us["device"], cores(), us["execution"]
    size = "{depth} layers, width {width}, {heads} heads, {batch} × {seq} tokens".format(**shape)
    work = us["flops_per_token"] * shape["batch"] * shape["seq"] / 1e9
    lines = [
        f"    {shlex.join(['python', 'benchmarks/step.py', *arguments.words])}",
        "",
        f"- {datetime.datetime.now():%Y-%m-%d %H:%M}, {device['count']} × {device['kind']}, {cores_} cores, load {load:.1f} at the start",
        f"- {', '.join(found)}; revision {commit[:12]}{' with changes' if changes else ''}",
        f"- {arguments.dtype}, {size}; {us['parameters']:,} parameters, {work:,.2f} GFLOP a step",
        f"- {arguments.rounds} rounds of {arguments.steps} steps; ours: {execution['chunk_steps']} steps a dispatch, diagnostics on",
    ]
    if load > BUSY * cores_:
        lines.append(
            f"- THE MACHINE WAS BUSY before this began (load {load:.1f} on {cores_} cores): do not rely on these numbers"
        )
    return "\n".join([*lines, ""])


def table(times: dict[str, list[float]], peaks: list[float], tokens: int, flops: float) -> str:
    """Markdown: a row a step."""
    against = [row for row in (EAGER, COMPILE, OURS) if row in times]
    titles = {EAGER: "× eager", COMPILE: "× compile", OURS: "× ours"}
    lines = [
        ["step", "ms a step", "tokens/s", "of matmul peak", *(titles[row] for row in against)],
        ["---", *["---:"] * (3 + len(against))],
    ]
    for row, seconds in times.items():
        middle = statistics.median(seconds)
        lines.append(
            [
                row,
                f"{1e3 * middle:.2f} ({1e3 * min(seconds):.2f}–{1e3 * max(seconds):.2f})",
                f"{tokens / middle:,.0f}",
                spread([flops / one / peak for one, peak in zip(seconds, peaks, strict=True)], "{:.0%}"),
                *("" if other == row else spread(speed(times[other], seconds)) for other in against),
            ]
        )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def findings(times: dict[str, list[float]], peaks: list[float]) -> list[str]:
    """What the benchmark is asked for, in a line each."""
    lines = []
    torch = [times[row] for row in TORCH if row in times]
    if torch:
        fastest = [min(one) for one in zip(*torch, strict=True)]
        lines.append(
            f"- ours over the faster PyTorch of each round: {spread(speed(fastest, times[OURS]))} times the speed"
        )
    if "diagnostics off" in times:
        cost = [on / off - 1.0 for on, off in zip(times[OURS], times["diagnostics off"], strict=True)]
        lines.append(f"- diagnostics cost {spread(cost, '{:+.1%}')} of a step")
    lines.append(f"- matmul peak: {spread([peak / 1e9 for peak in peaks], '{:,.0f}')} GFLOP/s")
    return lines


def speed(other: list[float], seconds: list[float]) -> list[float]:
    """How many times as fast as the other, round by round."""
    return [theirs / ours for theirs, ours in zip(other, seconds, strict=True)]


def spread(values: list[float], form: str = "{:.2f}") -> str:
    """median (least–greatest)"""
    middle, least, most = (form.format(value) for value in (statistics.median(values), min(values), max(values)))
    return f"{middle} ({least}–{most})"


def check(ours: Worker, torch: Worker | None, folder: Path) -> int:
    """Compares the twin with us on copied weights. Exit code 1 where they differ."""
    if torch is None:
        print("--check compares with PyTorch, and there is none")
        return 2
    told = ours.ask("check", folder=str(folder), steps=CHECK_STEPS)
    print(
        "our loss "
        + " ".join(f"{x:.5f}" for x in told["loss"])
        + ", gradient norm "
        + " ".join(f"{x:.4f}" for x in told["grad_norm"])
    )
    sound = True
    for way, differences in torch.ask("check", folder=str(folder))["ways"].items():
        far = [name for name, value in differences.items() if not value <= TOLERANCE[name]]  # NaN is far too
        sound = sound and not far
        shown = ", ".join(f"{name} {value:.1e}" for name, value in differences.items())
        print(f"{'same' if not far else 'DIFFERENT in ' + ' and '.join(far)}: {way}: {shown}")
    return 0 if sound else 1


def torch_python(given: str | None) -> str | None:
    """The interpreter that has PyTorch; None, and one line on standard output, where there is none."""
    python = given or sys.executable
    try:
        found = subprocess.run([python, "-c", "import torch"], capture_output=True).returncode == 0
    except OSError:
        found = False
    if found:
        return python
    where = f"at --torch-python={given}" if given else "for this interpreter"
    print(
        f"PyTorch is not installed {where}, so its rows and columns are left out. To have them: "
        "python -m venv DIR && DIR/bin/pip install torch, then --torch-python=DIR/bin/python\n"
    )
    return None


def parse(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks/step.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    sizes = {"depth": 4, "width": 128, "heads": 4, "batch": 12, "seq": 64}
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=positive, default=default, metavar="N", help=f"default {default}")
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16"), default="float32", help="what both compute in; default float32"
    )
    parser.add_argument(
        "--rows",
        type=lambda text: text.split(","),
        metavar="ROW,ROW",
        help="rows of the table beside ours; default all",
    )
    parser.add_argument("--steps", type=positive, metavar="N", help="steps a row and round; default 100, quick 20")
    parser.add_argument("--rounds", type=positive, metavar="N", help="default 7, quick 3")
    parser.add_argument("--quick", action="store_true", help="fewer steps, rounds and ways to try in PyTorch")
    parser.add_argument(
        "--check", action="store_true", help="compare the PyTorch step with ours on copied weights; no timing"
    )
    parser.add_argument("--torch-python", metavar="PATH", help="the interpreter that has PyTorch; default: this one")
    arguments = parser.parse_args(words, argparse.Namespace(words=list(words)))
    if arguments.width % arguments.heads:
        parser.error(f"--heads={arguments.heads} does not divide --width={arguments.width}; take a divisor")
    if arguments.check and arguments.dtype != "float32":
        parser.error("--check compares in float32; leave --dtype out")
    arguments.steps = arguments.steps or (20 if arguments.quick else 100)
    arguments.rounds = arguments.rounds or (3 if arguments.quick else 7)
    return arguments


def positive(word: str) -> int:
    if not word.isdigit() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"{word!r} is not a whole number of at least 1")
    return int(word)


def say(line: str) -> None:
    """Progress, on standard error: standard output holds nothing but the result."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
