"""What benchmarks/grid.py measures: the sizes, the runs, and each arrangement's commands. Nothing here
starts a process, and both sides read it: standard library only.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

LEARNING_RATES = (3e-4, 1e-3, 3e-3, 1e-2)
SEEDS = 8
STEPS = 300
WINDOWS = 128  # of the validation and of the test split that are evaluated
# Of all sides. The scripts of benchmarks/torch_loop.py read this, and ours gets it as overrides.
OPTIM = {
    "final_lr": 0.1,
    "weight_decay": 0.1,
    "clip": 1.0,
    "beta1": 0.9,
    "beta2": 0.95,
    "eps": 1e-8,
}

Setting = dict[str, Any]  # attention, optimiser and threads: flags of a script
Run = tuple[float, int]  # learning rate and seed


@dataclass(frozen=True)
class Size:
    """A model and its batches. The model has 4 heads, the default of `model.num_heads`."""

    depth: int
    width: int
    batch: int
    seq: int
    heads: int = 4

    @property
    def key(self) -> str:
        return f"{self.depth}x{self.width}"

    @property
    def title(self) -> str:
        return f"{self.depth} × {self.width} on {self.batch} × {self.seq}"


SIZES = {size.key: size for size in (Size(2, 32, 8, 32), Size(2, 64, 8, 64), Size(4, 128, 12, 64))}


@dataclass(frozen=True)
class Workload:
    """The runs of one size, the same for all arrangements."""

    size: Size
    runs: tuple[Run, ...]
    steps: int
    corpus: str
    windows: int = WINDOWS

    @property
    def warmup(self) -> int:
        return self.steps // 10

    @property
    def eval_every(self) -> int:
        return max(1, self.steps // 3)

    @property
    def validations(self) -> int:
        """Of one run: before the first step, every `eval_every` steps, and after the last."""
        return len({*range(0, self.steps, self.eval_every), self.steps})


def runs_of(count: int) -> tuple[Run, ...]:
    """The first `count` runs of the grid: seed by seed, each with all learning rates."""
    grid = [(rate, seed) for seed, rate in itertools.product(range(SEEDS), LEARNING_RATES)]
    return tuple(grid[:count])


@dataclass(frozen=True)
class Arrangement:
    """A way to get the numbers of all runs.

    kind: ours, a PyTorch twin of our model (eager, compile), or the nanoGPT-like script.
    at_once: how many processes run at a time. Threads are divided between them.
    loops: whether a process trains its share of the runs, rather than one run.
    compiled: `torch.compile`. caches: whether programs that it compiles are kept on disk.
    """

    key: str
    title: str
    kind: Literal["ours", "twin", "nano"]
    at_once: int = 1
    loops: bool = True
    compiled: bool = False
    workers: int | None = None

    @property
    def caches(self) -> bool:
        return self.kind == "ours" or self.compiled

    @property
    def options(self) -> str:
        """The name of the settings among which the fastest is looked for (`OPTIONS`)."""
        return "nano" if self.kind == "nano" else "compile" if self.compiled else "eager"


def arrangements(at_once: Sequence[int]) -> dict[str, Arrangement]:
    """By key, in the order of the table."""
    ours = [
        Arrangement("ours", "ours", "ours"),
        Arrangement("ours-1", "ours, one worker", "ours", workers=1),
    ]
    scripts: list[tuple[str, str, Literal["twin", "nano"], bool, bool]] = [
        ("eager", "PyTorch eager, shell loop", "twin", False, False),
        ("compile", "PyTorch compile, shell loop", "twin", False, True),
        ("nano", "nanoGPT-like, shell loop", "nano", False, False),
        ("loop", "nanoGPT-like, a process loops", "nano", True, False),
        ("loop-compile", "nanoGPT-like, a process loops, compiled", "nano", True, True),
    ]
    rivals = [
        Arrangement(f"{key}-{count}", f"{title}, {count} at a time", kind, count, loops, compiled)
        for (key, title, kind, loops, compiled), count in itertools.product(scripts, at_once)
    ]
    return {each.key: each for each in (*ours, *rivals)}


def options(cores: int) -> dict[str, dict[str, tuple[Any, ...]]]:
    """The settings of the scripts among which a trial finds the fastest; the first is where it begins."""
    threads = (cores, 1) if cores > 1 else (1,)
    attention = ("sdpa", "plain")
    return {
        "eager": {"attention": attention, "optimiser": ("fused", "foreach"), "threads": threads},
        "compile": {
            "attention": attention,
            "optimiser": ("fused", "foreach", "compiled"),
            "threads": threads,
            "compile_threads": threads,  # of the compiler: more than one is a pool that has to start
        },
        "nano": {"attention": attention, "threads": threads},
    }


def fastest(
    options: Mapping[str, Sequence[Any]], seconds: Callable[[Setting], float]
) -> tuple[Setting, list[tuple[Setting, float]]]:
    """The fastest setting, changing one option after the other, and all that were tried with their
    seconds. A setting that this build lacks takes `inf`."""
    best = {name: values[0] for name, values in options.items()}
    tried = [(best, seconds(best))]
    shortest = tried[0][1]
    for name, values in options.items():
        for value in values[1:]:
            setting = best | {name: value}
            tried.append((setting, seconds(setting)))
            if tried[-1][1] < shortest:
                best, shortest = tried[-1]
    return best, tried


def study(workload: Workload) -> str:
    """The text of our study file. What it does not set has the default of the schema: diagnostics are on."""
    size = workload.size
    base = {
        "scheme": "pre_ln",
        "steps": workload.steps,
        "batch_size": size.batch,
        "seq_len": size.seq,
        "model.depth": size.depth,
        "model.width": size.width,
        "model.num_heads": size.heads,
        "init.law": "xavier",
        "optim.warmup": workload.warmup,
        **{f"optim.{name}": value for name, value in OPTIM.items()},
        "eval.every": workload.eval_every,
        "eval.sequences": workload.windows,
        "data.path": workload.corpus,
    }
    runs = [{"optim.lr": rate, "seed": seed} for rate, seed in workload.runs]
    return f"BASE = {base!r}\n\n\ndef sweep():\n    return {runs!r}\n"


def script_commands(
    arrangement: Arrangement, workload: Workload, setting: Setting, cores: int, device: str = "cpu"
) -> list[list[str]]:
    """The commands of a PyTorch arrangement without the interpreter: a script of this folder and its flags.
    Several processes at a time have `cores / at_once` threads each; one has those of the setting."""
    setting = dict(setting)
    if arrangement.at_once > 1:
        setting["threads"] = max(1, cores // arrangement.at_once)
    size = workload.size
    flags = {
        "depth": size.depth,
        "width": size.width,
        "heads": size.heads,
        "batch": size.batch,
        "seq": size.seq,
        "steps": workload.steps,
        "warmup": workload.warmup,
        "eval_every": workload.eval_every,
        "eval_windows": workload.windows,
        "corpus": workload.corpus,
        "device": device,
        **setting,
    }
    words = [f"--{name}={value}" for name, value in flags.items()]
    if arrangement.compiled:
        words.append("--compile")
    script = "nano_gpt.py" if arrangement.kind == "nano" else "torch_train.py"
    shares: list[Sequence[Run]] = [[run] for run in workload.runs]
    if arrangement.loops:
        count = min(arrangement.at_once, len(workload.runs))
        shares = [workload.runs[number::count] for number in range(count)]
    return [
        [
            script,
            f"--lr={','.join(str(rate) for rate, _ in share)}",
            f"--seed={','.join(str(seed) for _, seed in share)}",
            *words,
        ]
        for share in shares
    ]
