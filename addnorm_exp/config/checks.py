"""Which values a config accepts: each key its choices or range, as the schema says, and all of them together."""

import math
import re
import struct
from collections.abc import Collection, Iterator, Mapping

from addnorm_exp import hints
from addnorm_exp.config.key import Range
from addnorm_exp.config.keys import Leaf, Own, leaves
from addnorm_exp.config.optimisers import MuonConfig, SgdConfig
from addnorm_exp.config.schema import Config, NormConfig
from addnorm_exp.errors import nearest


def values(flat: Mapping[str, object]) -> Iterator[str]:
    """What is wrong with single values of a config, each by itself. Lengths that are not in steps yet pass."""
    for key, value in flat.items():
        problem = None if value is None or _is_length(leaves()[key], value) else _value(leaves()[key], value)
        if problem:
            yield problem


def combinations(config: Config) -> Iterator[str]:
    """What is wrong with values that do not go together."""
    yield from _sizes(config)
    yield from _optimiser(config)
    yield from _norm(config.norm)
    if config.data.name == "file" and config.data.path is None:
        yield "data.name='file' needs a path; set data.path, e.g. --config.data.path=FILE"


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


def _sizes(config: Config) -> Iterator[str]:
    model, parts = config.model, config.optim.accumulate
    size, rest = divmod(model.width, model.num_heads)
    if rest:
        yield (
            f"model.num_heads={model.num_heads} does not divide model.width={model.width}; the nearest divisor is "
            f"{_divisor(model.num_heads, model.width)}"
        )
    if model.positions == "rotary" and size % 2:
        yield (
            f"model.positions='rotary' needs heads of even size; model.width={model.width} divided by "
            f"model.num_heads={model.num_heads} is {size}"
        )
    if model.mlp_ratio * model.width < 1:
        yield f"model.mlp_ratio={model.mlp_ratio} times model.width={model.width} gives no hidden unit"
    if config.batch_size % parts:
        yield (
            f"optim.accumulate={parts} does not divide batch_size={config.batch_size}; the nearest divisor is "
            f"{_divisor(parts, config.batch_size)}"
        )


def _optimiser(config: Config) -> Iterator[str]:
    optim, steps = config.optim, config.steps
    if optim.warmup > steps:
        yield f"optim.warmup={optim.warmup} is longer than the run (steps={steps})"
    if optim.schedule == "wsd" and optim.warmup + optim.decay * steps > steps:
        yield (
            f"optim.schedule='wsd': optim.warmup={optim.warmup} overlaps the final decay (optim.decay={optim.decay} "
            f"of steps={steps})"
        )
    if isinstance(optim, SgdConfig | MuonConfig) and optim.nesterov and optim.momentum == 0:
        yield "optim.nesterov=True has no effect with optim.momentum=0; set optim.nesterov=false as well"


def _norm(norm: NormConfig) -> Iterator[str]:
    if norm.kind == "none":
        for name in ("eps", "eps_place", "affine", "gain", "alpha"):
            if getattr(norm, name) is not None:
                yield f"norm.{name}={getattr(norm, name)!r} has no effect with norm.kind='none'; omit it"
    if norm.affine == "none" and norm.gain is not None:
        yield f"norm.gain={norm.gain!r} has no effect with norm.affine='none'; omit one of them"


def _divisor(wanted: int, number: int) -> int:
    """The divisor of `number` nearest to `wanted`."""
    pairs = ((small, number // small) for small in range(1, math.isqrt(number) + 1) if number % small == 0)
    return min((divisor for pair in pairs for divisor in pair), key=lambda divisor: abs(divisor - wanted))
