"""Which values a config accepts: the choices and range of each key, and combinations of keys that are invalid."""

import math
import re
import struct
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from addnorm_exp.config.keys import flatten
from addnorm_exp.config.schema import Config
from addnorm_exp.errors import UserError, nearest

CHOICES: Mapping[str, tuple[str, ...]] = {
    "task": ("lm",),
    "data.name": ("enwik8", "shakespeare", "file"),
    "model.matmul_precision": ("highest", "high", "default"),
    "model.positions": ("learned", "rotary"),
    "model.activation": ("gelu", "swiglu", "relu"),
    "model.compute_dtype": ("float32", "bfloat16"),
    "init.law": ("xavier", "normal"),
    "init.multipliers": ("scheme", "none"),
    "norm.kind": (
        "layer",
        "layer_no_affine",
        "rms",
        "prms",
        "gemma_rms",
        "crms",
        "scale",
        "l2",
        "ada",
        "detach",
        "dyt",
        "derf",
        "none",
    ),
    "norm.eps_place": ("inside", "outside"),
    "norm.affine": ("full", "gain", "scalar", "none"),
    "norm.gain": ("plain", "unit_offset"),
    "attention.qk_norm": ("none", "head", "full", "l2", "cosine"),
    "attention.v_norm": ("none", "head"),
    "embedding.norm": ("layer", "rms", "gemma_rms", "scale", "l2", "none"),
    "embedding.scale": ("one", "root", "learned"),
    "optim.schedule": ("cosine", "inverse_sqrt", "constant", "wsd"),
    "execution.scan_layers": ("auto", "on", "off"),
    "execution.attention": ("einsum", "xla", "cudnn"),
    "execution.keep": ("none", "final", "best", "state"),
}


@dataclass(frozen=True)
class Range:
    """An interval; `above` and `below` exclude their end, `minimum` and `maximum` include it."""

    minimum: float | None = None
    above: float | None = None
    maximum: float | None = None
    below: float | None = None

    def holds(self, value: float) -> bool:
        return (
            (self.minimum is None or value >= self.minimum)
            and (self.above is None or value > self.above)
            and (self.maximum is None or value <= self.maximum)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        ends = {"at least": self.minimum, "above": self.above, "at most": self.maximum, "below": self.below}
        return " and ".join(f"{words} {end}" for words, end in ends.items() if end is not None)


_SEED = Range(minimum=0, maximum=2**32 - 1)  # a uint32 inside the compiled program
_COUNT = Range(minimum=1, maximum=2**31 - 1)  # an int32 there
_COUNT_OR_OFF = Range(minimum=0, maximum=2**31 - 1)
_POSITIVE = Range(above=0)
_SIZE = Range(minimum=1, maximum=2**20)  # of one axis of an array

# Every number of the schema has a range (a test checks this).
RANGES: Mapping[str, Range] = {
    "seed": _SEED,
    "steps": _COUNT,
    "batch_size": _SIZE,
    "seq_len": _SIZE,
    "model.depth": Range(minimum=1, maximum=4096),  # each block is built before anything runs
    "model.width": _SIZE,
    "model.num_heads": _SIZE,
    "model.mlp_ratio": Range(above=0, maximum=1024),
    "model.dropout": Range(minimum=0, below=1),
    "model.drop_path": Range(minimum=0, below=1),
    "attention.soft_cap": Range(minimum=0),
    "logits.soft_cap": Range(minimum=0),
    "logits.z_loss": Range(minimum=0),
    "init.std": _POSITIVE,
    "init.gain": _POSITIVE,
    "norm.eps": Range(minimum=0),
    "norm.alpha": _POSITIVE,
    "optim.lr": _POSITIVE,
    "optim.warmup": _COUNT_OR_OFF,
    "optim.final_lr": Range(minimum=0, maximum=1),
    "optim.decay": Range(above=0, maximum=1),
    "optim.beta1": Range(minimum=0, below=1),
    "optim.beta2": Range(minimum=0, below=1),
    "optim.eps": _POSITIVE,
    "optim.weight_decay": Range(minimum=0),
    "optim.clip": Range(minimum=0),
    "optim.accumulate": _COUNT,
    "data.seed": _SEED,
    "eval.every": _COUNT,
    "eval.sequences": _COUNT,
    "divergence.bound": Range(above=1),  # the loss of an untrained model is near ln(vocabulary)
    "execution.chunk_steps": Range(minimum=1, maximum=100_000),  # the device holds every step's metrics of a chunk
    "execution.checkpoint_every": _COUNT_OR_OFF,
    "execution.keep_checkpoints": _COUNT,
    "execution.layers_every": _COUNT,
    "execution.attention_every": _COUNT_OR_OFF,
}


def check(config: Config, where: str = "config", typed: Collection[str] = ()) -> None:
    """Raises a `UserError` for the first invalid value or combination in `config`. The message begins with `where`, or with the flag if
    the problem begins with one of the keys that were `typed` on the command line."""
    flat = flatten(config)
    for key, value in flat.items():
        if value is None:
            continue
        if key in CHOICES and value not in CHOICES[key]:
            raise UserError(placed(f"{key}={value!r}: {nearest(str(value), CHOICES[key])}", where, typed))
        if key in RANGES:
            assert isinstance(value, int | float)
            problem = _range(key, value)
            if problem:
                raise UserError(placed(problem, where, typed))
    for combination in COMBINATIONS:
        problem = combination(config)
        if problem:
            raise UserError(placed(problem, where, typed))
    try:
        check_scheme(config)
    except ValueError as error:  # from `residual/`, which does not import UserError
        blamed = f"--config.scheme={config.scheme}" if "scheme" in typed else where
        raise UserError(placed(str(error), blamed, typed)) from error


def placed(problem: str, where: str, typed: Collection[str]) -> str:
    """The message of a problem. Typed keys are written as flags; if the problem begins with one, `where` is left out."""
    for key in typed:
        ends = r"(?![\w.])" if "." in key else "(?==)"  # of keys that are words too (steps, seed) only `seed=`
        problem = re.sub(rf"(?<![\w.]){re.escape(key)}{ends}", f"--config.{key}", problem)
    return problem if problem.startswith("--config.") else f"{where}: {problem}"


def _range(key: str, value: int | float) -> str | None:
    if not RANGES[key].holds(value):
        return f"{key}={value!r}: must be {RANGES[key]}"
    if isinstance(value, int):
        return None
    try:  # the run computes in float32, where 1e-60 is 0 and 0.9999999999 is 1 ("<": standard sizes, which do overflow)
        (single,) = struct.unpack("<f", struct.pack("<f", value))
    except OverflowError:
        return f"{key}={value!r}: too large for float32, the run's precision"
    if not RANGES[key].holds(single):
        return f"{key}={value!r}: must be {RANGES[key]}; it is {single:g} in float32, the run's precision"
    return None


def _heads(config: Config) -> str | None:
    width, heads = config.model.width, config.model.num_heads
    if width % heads == 0:
        return None
    return (
        f"model.num_heads={heads} does not divide model.width={width}; the nearest divisor is {_divisor(heads, width)}"
    )


def _rotary(config: Config) -> str | None:
    size = config.model.width // config.model.num_heads
    if config.model.positions != "rotary" or size % 2 == 0:
        return None
    return (
        f"model.positions='rotary' needs heads of even size; model.width={config.model.width} divided by "
        f"model.num_heads={config.model.num_heads} is {size}"
    )


def _hidden(config: Config) -> str | None:
    if config.model.mlp_ratio * config.model.width >= 1:
        return None
    return f"model.mlp_ratio={config.model.mlp_ratio} times model.width={config.model.width} gives no hidden unit"


def _accumulate(config: Config) -> str | None:
    batch, parts = config.batch_size, config.optim.accumulate
    if batch % parts == 0:
        return None
    return (
        f"optim.accumulate={parts} does not divide batch_size={batch}; the nearest divisor is {_divisor(parts, batch)}"
    )


def _warmup(config: Config) -> str | None:
    if config.optim.warmup <= config.steps:
        return None
    return f"optim.warmup={config.optim.warmup} is longer than the run (steps={config.steps})"


def _wsd(config: Config) -> str | None:
    optim, steps = config.optim, config.steps
    if optim.schedule != "wsd" or optim.warmup + optim.decay * steps <= steps:
        return None
    return (
        f"optim.schedule='wsd': optim.warmup={optim.warmup} overlaps the final decay (optim.decay={optim.decay} "
        f"of steps={steps})"
    )


def _norm(config: Config) -> str | None:
    norm = config.norm
    if norm.kind == "none":
        for name in ("eps", "eps_place", "affine", "gain", "alpha"):
            if getattr(norm, name) is not None:
                return f"norm.{name}={getattr(norm, name)!r} has no effect with norm.kind='none'; omit it"
    if norm.affine == "none" and norm.gain is not None:
        return f"norm.gain={norm.gain!r} has no effect with norm.affine='none'; omit one of them"
    return None


def _data(config: Config) -> str | None:
    if config.data.name == "file" and config.data.path is None:
        return "data.name='file' needs a path; set data.path, e.g. --config.data.path=FILE"
    return None


COMBINATIONS: tuple[Callable[[Config], str | None], ...] = (
    _heads,
    _rotary,
    _hidden,
    _accumulate,
    _warmup,
    _wsd,
    _norm,
    _data,
)


def check_scheme(config: Config) -> None:
    """Checks what only the catalogue knows: that the scheme exists and is compatible with this norm and these initial values.

    The import is here because the catalogue needs JAX; a mistyped number is reported without waiting for it.
    """
    from addnorm_exp.config import scheme

    scheme.resolve(config)


def _divisor(wanted: int, number: int) -> int:
    """The divisor of `number` nearest to `wanted`."""
    pairs = ((small, number // small) for small in range(1, math.isqrt(number) + 1) if number % small == 0)
    return min((divisor for pair in pairs for divisor in pair), key=lambda divisor: abs(divisor - wanted))
