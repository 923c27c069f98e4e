"""Are the losses of training those of another revision, bit for bit?

    python benchmarks/bits.py                          against dfa71e5
    python benchmarks/bits.py --revision=HEAD~1 "--only=pre_ln;ngpt"
    python benchmarks/bits.py --steps=200

Both revisions train the same runs through their own command line, with this interpreter: a study
whose variants cover what the training step branches on (topologies, calibration, projection,
micro-batches, noise, precision, schedules, a run that diverges). Both records are then compared.
A record holds each float32 loss in as many digits as it needs, so equal numbers are equal bits.

The table gives for each variant the steps whose loss or gradient norm differs, the first of them,
and the largest relative difference of the loss. The exit code is 1 if any differs.

Known to differ from dfa71e5: `ngpt`, whose equations were mended on 2026-11-28 (its loss by 2e-7).
"""

import argparse
import json
import math
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CORPUS_BYTES = 400_000

# Variant → the keys in which it differs from BASE. Each gets a seed of its own, by which its runs are found.
VARIANTS: dict[str, dict[str, Any]] = {
    "pre_ln": {},
    "post_ln": {"scheme": "post_ln"},
    "deepnorm": {"scheme": "deepnorm"},
    "branch_norm": {"scheme": "branch_norm"},
    "admin": {"scheme": "admin"},
    "ngpt": {"scheme": "ngpt"},
    "hyper": {"scheme": "hyper"},
    "denseformer": {"scheme": "denseformer"},
    "residual_dual": {"scheme": "residual_dual"},
    "rezero": {"scheme": "rezero"},
    "micro-batches": {"optim.accumulate": 4},
    "micro-batches, dropout": {"optim.accumulate": 2, "model.dropout": 0.1},
    "drop_path": {"model.drop_path": 0.2},
    "z-loss, no clipping": {"logits.z_loss": 1e-3, "optim.clip": 0.0},
    "bfloat16": {"model.compute_dtype": "bfloat16"},
    "scanned layers": {"execution.scan_layers": "on"},
    "tied, rotary, swiglu": {"model.tie_embeddings": True, "model.positions": "rotary", "model.activation": "swiglu"},
    "wsd": {"optim.schedule": "wsd", "optim.warmup": 5},
    "no diagnostics": {"execution.diagnostics": False},
    "diverges": {"scheme": "no_norm", "optim.lr": 3.0, "optim.clip": 0.0, "divergence.bound": 1.5},
}
BASE = {
    "batch_size": 8,
    "seq_len": 32,
    "model.depth": 3,
    "model.width": 32,
    "model.num_heads": 2,
    "init.law": "xavier",
    "optim.lr": 3e-3,
    "optim.warmup": 10,
    "eval.every": 20,
    "eval.sequences": 16,
    "execution.attention_every": 0,
}
STUDY = """
from addnorm_exp.sweep import axis

CONFIG = {config!r}
BASE = {base!r}
VARIANTS = {variants!r}


def sweep():
    for keys in VARIANTS:
        yield keys
"""


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--revision", default="dfa71e5", help="of this repository, to compare with")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--only", help="variants, separated by semicolons")
    arguments = parser.parse_args(words)
    names = arguments.only.split(";") if arguments.only else list(VARIANTS)
    if unknown := [name for name in names if name not in VARIANTS]:
        parser.error(f"no variant {unknown[0]!r}; there are {'; '.join(VARIANTS)}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "corpus").write_bytes(corpus())
        other = folder / "other"
        git("worktree", "add", "--detach", "--quiet", str(other), arguments.revision)
        try:
            theirs = records(other, folder / "theirs", names, folder / "corpus", arguments.steps)
        finally:
            git("worktree", "remove", "--force", str(other))
        ours = records(ROOT, folder / "ours", names, folder / "corpus", arguments.steps)
    differ = [name for name in names if not report(name, ours[name], theirs[name])]
    return bool(differ)


def corpus() -> bytes:
    """Words of a small vocabulary, so that there is something to learn."""
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 8))) for _ in range(200)]
    return " ".join(draw.choices(words, k=CORPUS_BYTES // 6)).encode()[:CORPUS_BYTES]


def git(*words: str) -> None:
    subprocess.run(["git", "-C", str(ROOT), *words], check=True)


def records(root: Path, runs: Path, names: Sequence[str], data: Path, steps: int) -> dict[str, list[dict[str, Any]]]:
    """Variant → the lines of its training record, as the revision checked out at `root` trains it."""
    base = {**BASE, "steps": steps, "data.path": str(data)}
    variants = [{**VARIANTS[name], "seed": seed} for seed, name in enumerate(names)]
    study = runs.parent / "bits.py"
    study.write_text(STUDY.format(config=str(root / "configs" / "lm.py"), base=base, variants=variants))
    environment = {**os.environ, "PYTHONPATH": str(root), "WANDB_MODE": "disabled"}
    command = [sys.executable, str(root / "main.py"), "sweep", str(study), f"--runs={runs}"]
    completed = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    if completed.returncode:
        sys.exit(f"benchmarks/bits.py: the study failed at {root}:\n{completed.stderr or completed.stdout}")
    by_seed = {}
    for config in runs.glob("*/*/config.json"):
        lines = map(json.loads, (config.parent / "metrics.jsonl").read_text().splitlines())
        seed = json.loads(config.read_text())["science"]["seed"]
        by_seed[seed] = [line for line in lines if line["split"] == "train"]
    return {name: by_seed[seed] for seed, name in enumerate(names)}


def report(name: str, ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> bool:
    """Prints the line of a variant; returns whether all its bits are equal."""
    if len(ours) != len(theirs):
        print(f"{name:24} {len(theirs)} steps there, {len(ours)} here")
        return False
    steps = [a["step"] for a, b in zip(ours, theirs, strict=True) if _numbers(a) != _numbers(b)]
    if not steps:
        print(f"{name:24} equal in {len(ours)} steps")
        return True
    changes = [
        abs(a["loss"] / b["loss"] - 1) if a["loss"] and b["loss"] else math.inf * (a["loss"] != b["loss"])
        for a, b in zip(ours, theirs, strict=True)
    ]
    largest = max(0.0 if math.isnan(change) else change for change in changes)
    print(f"{name:24} {len(steps)} of {len(ours)} steps differ, first {steps[0]}; loss by {largest:.1e} at most")
    return False


def _numbers(line: dict[str, Any]) -> tuple[Any, ...]:
    return line["loss"], line["grad_norm"], line["lr"]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
