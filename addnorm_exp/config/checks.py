"""Which values a config accepts: each key its choices or range, as the schema says, and all of them together."""

import math
import re
import struct
from collections.abc import Callable, Collection, Iterator, Mapping

from addnorm_exp import hints
from addnorm_exp.config.key import Range
from addnorm_exp.config.keys import Leaf, Own, leaves
from addnorm_exp.config.optimisers import MuonConfig, SgdConfig
from addnorm_exp.config.schema import Config
from addnorm_exp.errors import nearest


def values(flat: Mapping[str, object]) -> Iterator[str]:
    """What is wrong with single values of a config, each by itself. Lengths that are not in steps yet pass."""
    for key, value in flat.items():
        problem = None if value is None or _is_length(leaves()[key], value) else _value(leaves()[key], value)
        if problem:
            yield problem


def combinations(config: Config) -> Iterator[str]:
    """What is wrong with values that do not go together."""
    for combination in COMBINATIONS:
        problem = combination(config)
        if problem:
            yield problem


def placed(problem: str, where: str, typed: Collection[str]) -> str:
    """The message of a problem. Typed keys are written as flags; if the problem begins with one, `where` is left out."""
    for key in typed:
        ends = r"(?![\w.])" if "." in key else "(?==)"  # of keys that are words too (steps, seed) only `seed=`
        problem = re.sub(rf"(?<![\w.]){re.escape(key)}{ends}", f"--config.{key}", problem)
    return problem if problem.startswith("--config.") else f"{where}: {problem}"


def _is_length(leaf: Leaf, value: object) -> bool:
    return bool(leaf.units) and isinstance(value, str)


def _value(leaf: Leaf, value: object) -> str | None:
    """What is wrong with the value of one key."""
    if leaf.choices and value not in leaf.choices:
        return f"{leaf.key}={value!r}: {nearest(str(value), leaf.choices)}"
    if leaf.said.range is None:
        return None
    assert isinstance(value, int | float)
    return _number(leaf.key, value, leaf.said.range)


def variants(flat: Mapping[str, object]) -> Iterator[str]:
    """What is wrong with the keys of variants in these flat values: an unknown variant, or a key or choice that the variant
    named there does not have."""
    for key, leaf in leaves().items():
        if leaf.own is None:
            continue
        by, name, value = leaf.own.by, str(flat[leaf.own.by]), flat[key]
        problem = _value(leaves()[by], name)
        if problem:
            yield problem
        elif value is not None and name not in leaf.own.defaults:
            yield f"{key}={value!r} has no effect with {by}='{name}'; {_remedy(key, leaf.own, name)}"
        elif value is not None and value in leaf.choices and value not in leaf.own.choices[name]:
            others = [variant for variant, choices in leaf.own.choices.items() if value in choices]
            listed = ", ".join(leaf.own.choices[name])
            yield f"{key}={value!r} goes with {by}={' or '.join(map(repr, others))}, not with '{name}', which has {listed}"


def _remedy(key: str, owner: Own, name: str) -> str:
    """What to set in the place of a key that the variant `name` of its group does not have."""
    group = key.rpartition(".")[0]
    members = {other: leaf.own for other, leaf in leaves().items() if other.startswith(f"{group}.")}
    valid = [other for other, own in members.items() if own is None or name in own.defaults]
    meant = hints.keys(key, valid, fuzzy=False)
    if meant:
        return f"did you mean {' or '.join(meant)}?"
    count = len({variant for own in members.values() if own for variant in own.defaults})
    apart = [other for other in valid if (own := members[other]) and len(own.defaults) < count]
    return f"{name} has {', '.join(apart)}" if apart else f"it is a key of {' and '.join(owner.defaults)}"


def _number(key: str, value: int | float, limits: Range) -> str | None:
    if not limits.holds(value):
        return f"{key}={value!r}: must be {limits}"
    if isinstance(value, int):
        return None
    try:  # the run computes in float32, where 1e-60 is 0 and 0.9999999999 is 1 ("<": standard sizes, which do overflow)
        (single,) = struct.unpack("<f", struct.pack("<f", value))
    except OverflowError:
        return f"{key}={value!r}: too large for float32, the run's precision"
    if not limits.holds(single):
        return f"{key}={value!r}: must be {limits}; it is {single:g} in float32, the run's precision"
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


def _nesterov(config: Config) -> str | None:
    optim = config.optim
    if not (isinstance(optim, SgdConfig | MuonConfig) and optim.nesterov and optim.momentum == 0):
        return None
    return "optim.nesterov=True has no effect with optim.momentum=0; set optim.nesterov=false as well"


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
    _nesterov,
    _norm,
    _data,
)


def _divisor(wanted: int, number: int) -> int:
    """The divisor of `number` nearest to `wanted`."""
    pairs = ((small, number // small) for small in range(1, math.isqrt(number) + 1) if number % small == 0)
    return min((divisor for pair in pairs for divisor in pair), key=lambda divisor: abs(divisor - wanted))
