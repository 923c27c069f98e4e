"""What a training script in PyTorch has around its step: flags, batches, validations, the best weights
and the test. torch_train.py and nano_gpt.py bring the model and the step.

A run does the work of one of ours but for diagnostics, divergence check, record and checkpoints:
the same number of steps and evaluations, on the same windows, of the final and of the best weights.
Nothing waits for the device inside the loop, and no number is read back but for a validation.
Batches are drawn by the seed, from other random bits than ours.
"""

import argparse
import json
import math
import runpy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

keep_memory = runpy.run_path(str(Path(__file__).parents[1] / "addnorm_exp/train/platform.py"))["keep_memory"]
HELD_OUT = 20  # the validation split is one part in so many, and so is the test split

Step = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # inputs and targets → loss, detached


@dataclass(frozen=True)
class Splits:
    """train: bytes (n,); val, test: the evaluated windows, int64 (windows, length + 1)."""

    train: torch.Tensor
    val: torch.Tensor
    test: torch.Tensor


def parse(description: str | None, *flags: str) -> argparse.Namespace:
    """The flags that both scripts have, and the string `flags` of one of them. `runs` are the pairs of
    learning rate and seed."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lr", required=True, help="peak learning rate; several, with a seed each: 1e-3,3e-3")
    parser.add_argument("--seed", required=True, help="several: 0,1")
    defaults = {"depth": 4, "width": 128, "heads": 4, "batch": 12, "seq": 64, "steps": 300, "warmup": 30}
    defaults |= {"eval_every": 100, "eval_windows": 128, "threads": 1, "compile_threads": 0}
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    for name in ("corpus", *flags):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--compile", action="store_true")
    arguments = parser.parse_args()
    rates = [float(rate) for rate in arguments.lr.split(",")]
    seeds = [int(seed) for seed in arguments.seed.split(",")]
    arguments.runs = list(zip(rates, seeds, strict=True))
    return arguments


def prepare(arguments: argparse.Namespace) -> Splits:
    """Sets up the process as benchmarks/torch_step.py does, and reads the corpus."""
    keep_memory()
    torch.set_num_threads(arguments.threads)
    if arguments.compile_threads:  # 0: as PyTorch has it
        from torch._inductor import config  # here: the eager scripts start without it

        config.compile_threads = arguments.compile_threads
    torch.set_flush_denormal(True)  # XLA's threads do so
    torch.set_float32_matmul_precision("highest")  # no TF32
    data = torch.frombuffer(bytearray(Path(arguments.corpus).read_bytes()), dtype=torch.uint8)
    held_out = len(data) // HELD_OUT
    train, *others = data.split([len(data) - 2 * held_out, held_out, held_out])
    windows = (_windows(split, arguments.eval_windows, arguments.seq + 1) for split in others)
    val, test = (split.to(arguments.device) for split in windows)
    return Splits(train.to(arguments.device), val, test)


def _windows(split: torch.Tensor, count: int, length: int) -> torch.Tensor:
    """Evenly spaced windows, as `addnorm_exp.data.batches.fixed_windows` has them."""
    count = min(count, len(split) // length)
    starts = torch.arange(count) * len(split) // count
    return split[starts[:, None] + torch.arange(length)].long()


def evaluate(model: Any, windows: torch.Tensor) -> float:
    """The mean loss. Eager: a second compilation would take longer than these few passes."""
    with torch.no_grad():
        return float(model.loss(windows[:, :-1], windows[:, 1:]))


def fit(model: nn.Module, step: Step, splits: Splits, arguments: argparse.Namespace, rate: float, seed: int) -> None:
    """Trains, evaluates, and prints the results as one line of JSON."""
    steps, device = arguments.steps, arguments.device
    generator = torch.Generator(device).manual_seed(seed)
    last = len(splits.train) - arguments.seq
    starts = torch.randint(last, (steps, arguments.batch, 1), generator=generator, device=device)
    ahead = torch.arange(arguments.seq + 1, device=device)
    losses: list[torch.Tensor] = []
    validations: list[float] = []
    best: dict[str, torch.Tensor] = {}
    for number in range(steps + 1):
        if number % arguments.eval_every == 0 or number == steps:
            validations.append(evaluate(model, splits.val))
            if validations[-1] == min(validations):
                best = {name: value.clone() for name, value in model.state_dict().items()}
        if number < steps:
            windows = splits.train[starts[number] + ahead].long()
            losses.append(step(windows[:, :-1], windows[:, 1:]))
    if not all(map(math.isfinite, torch.stack(losses).tolist())):
        raise FloatingPointError("the loss is not finite, so the time says nothing")
    tests = [evaluate(model, splits.test)]
    model.load_state_dict(best)
    tests.append(evaluate(model, splits.test))
    result = {
        "lr": rate,
        "seed": seed,
        "val_loss": validations[-1],
        "test_loss": tests[0],
        "validations": len(validations),
        "tests": len(tests),
        "windows": len(splits.val),
        "steps": len(losses),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }
    print(json.dumps(result), flush=True)
