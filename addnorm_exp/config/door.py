"""The only place where a ConfigDict or dotted overrides become a `Config`. The rest of the program trusts a `Config`.

ml_collections accepts values that no experiment should have: an int field takes True, any field takes None, and assigning a
dict to a subtree drops the keys that the dict lacks. Each such mistake becomes one line here, with key, value and remedy.
"""

import dataclasses
import functools
import math
import numbers
import typing
from collections.abc import Collection, Iterable, Mapping

from ml_collections import ConfigDict

from addnorm_exp.config import checks, lengths, slips
from addnorm_exp.config.keys import Leaf, groups, leaves, unknown, unresolved
from addnorm_exp.config.lengths import MeasureSizes, Sizes
from addnorm_exp.config.schema import Config
from addnorm_exp.config.tasks import DATA
from addnorm_exp.errors import UserError, check_text

_TRUE, _FALSE = ("true", "t", "1"), ("false", "f", "0")  # as absl reads them


def read(
    config: ConfigDict, where: str = "config", typed: Collection[str] = (), measure: MeasureSizes | None = None
) -> Config:
    """The `Config` of a ConfigDict, checked in full.

    `where` names the source in messages; `typed` are the keys that the user typed on the command line. Messages write them as flags.
    `measure` returns the sizes of the data (`tasks.sizes`); lengths such as "3epochs" need it.
    """
    return _build(values(config, where), where, typed, typed, measure)


def values(config: ConfigDict, where: str = "config") -> dict[str, object]:
    """The flat values of a ConfigDict, each with its type checked; `read` checks whether they fit together."""
    flat = {}
    for key, value in _walk(config, "", where).items():
        flat[key] = convert(leaves()[key], value, f"{where}: {key}")
    for key in leaves():
        if key not in flat:
            group = key.rpartition(".")[0]
            remedy = (
                f"'{group}' was replaced as a whole; set its keys one at a time" if group else "start from Config()"
            )
            raise UserError(f"{where}: {key} is missing: {remedy}, e.g. config.{key} = …")
    return flat


def override(
    config: Config | Mapping[str, object],
    overrides: Mapping[str, object],
    where: str = "config",
    measure: MeasureSizes | None = None,
) -> Config:
    """A copy of `config` with flat dotted keys replaced, checked as in `read`.

    `config` may also be flat values (`values`). Lengths still have their units there, so they follow an override of `steps` or of
    `batch_size`. `where` names the source of the overrides in messages, e.g. "sweeps/quickstart.py".
    """
    return _build(overridden(config, overrides, where), where, overrides.keys(), measure=measure)


def overridden(
    config: Config | Mapping[str, object], overrides: Mapping[str, object], where: str = "config"
) -> dict[str, object]:
    """The flat values of `config` with these overrides, each with its type checked; `override` checks whether they fit together."""
    flat = unresolved(config) if isinstance(config, Config) else dict(config)
    for key, value in overrides.items():
        if not isinstance(key, str) or key not in leaves():
            raise unknown(str(key), f"{where}: {key}")
        flat[key] = convert(leaves()[key], value, f"{where}: {key}")
    return flat


def convert(leaf: Leaf, value: object, label: str) -> object:
    """`value` as the leaf's type. Text is parsed as a user types it; if that fails, the message begins with `label`."""
    if isinstance(value, str) and leaf.optional and value.lower() == "none":
        # For some keys 'none' is a choice (norm.kind: no norm at all) and None means "the scheme's own": do not guess.
        if "none" not in leaf.choices:
            return None
        if value != "none":
            raise UserError(f"{label}={value}: write 'none' to use none, or omit the key to use the scheme's own")
    if value is None and leaf.optional:
        return None
    return _sequence(leaf, value, label) if leaf.sequence else _scalar(leaf, value, label)


def _scalar(leaf: Leaf, value: object, label: str) -> object:
    wrong = UserError(f"{label}={abbreviated(value)}: expected {leaf.expected}{slips.of_value(leaf, value)}")
    if leaf.type is str:
        if not isinstance(value, str):
            raise wrong
        if not value.strip():
            raise UserError(f"{label} is empty: expected {leaf.expected}")
        check_text(value, f"{label}={value}")
        return value
    if leaf.type is bool:
        if isinstance(value, str) and value.lower() in _TRUE + _FALSE:
            return value.lower() in _TRUE
        if not isinstance(value, bool):
            raise wrong
        return value
    if isinstance(value, bool):
        raise wrong
    if leaf.units and isinstance(value, str) and not value.strip().lstrip("+-").isdecimal():
        length = lengths.read(value, leaf.units)
        if length is None:
            raise wrong
        return length
    try:
        if leaf.type is int:
            if not isinstance(value, (str, numbers.Integral)):
                raise wrong
            return int(value)
        number = _number(value)
    except (ValueError, OverflowError):
        raise wrong from None
    if number is None:
        raise wrong
    if not math.isfinite(number):
        raise UserError(f"{label}={abbreviated(value)}: expected a finite number")
    return number + 0.0  # -0.0 is 0.0: one value, one identity


def _number(value: object) -> float | None:
    """The number of a value, or None if it is not a number.

    A number of float32 or less, such as an element of a NumPy or JAX grid, is read as the shortest decimal that rounds to it:
    np.float32(1e-3) is 0.001 and not 0.0010000000474974513.
    """
    if isinstance(value, str | float):
        return float(value)
    if isinstance(value, numbers.Real):  # a NumPy scalar has `dtype`; its text is the shortest decimal
        return float(str(value)) if hasattr(value, "dtype") else float(value)
    if getattr(value, "shape", None) == () and "float" in str(getattr(value, "dtype", "")):  # an array of one number
        return float(str(value))
    return None


def _sequence(leaf: Leaf, value: object, label: str) -> tuple:
    if isinstance(value, str):
        value = [part.strip() for part in value.strip().strip("()[]").split(",") if part.strip()]
    if not isinstance(value, (list, tuple)):
        raise UserError(f"{label}={abbreviated(value)}: expected {leaf.expected}")
    return tuple(_scalar(leaf, part, label) for part in value)


def abbreviated(value: object) -> str:
    """A value in a message: its repr on one line, cut after 60 characters."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}…"


def _walk(tree: Mapping, prefix: str, where: str) -> dict[str, object]:
    flat: dict[str, object] = {}
    for name in tree:
        key, value = f"{prefix}{name}", tree[name]
        if key in leaves():
            flat[key] = value
        elif key not in groups():
            raise unknown(key, f"{where}: {key}")
        elif not isinstance(value, Mapping | ConfigDict):
            raise unknown(key, f"{where}: {key}={abbreviated(value)}")
        else:
            flat |= _walk(value, f"{key}.", where)
    return flat


def _build(
    flat: Mapping[str, object],
    where: str,
    explicit: Collection[str],
    typed: Collection[str] = (),
    measure: MeasureSizes | None = None,
) -> Config:
    """`explicit`: keys that an override sets; `typed`: those of them that the user typed on the command line."""

    def refuse(problems: Iterable[str]) -> None:
        for problem in problems:
            raise UserError(checks.placed(problem, where, typed))

    refuse(checks.variants(flat))
    own = {key: leaf.own for key, leaf in leaves().items() if leaf.own}
    defaults = {key: each.defaults.get(str(flat[each.by])) for key, each in own.items()}
    whole = {key: defaults[key] if key in own and value is None else value for key, value in flat.items()}
    if whole["data.path"] is not None:
        name = whole["data.name"]
        if name != "file" and ("data.name" in explicit or name != defaults["data.name"]):
            refuse(
                [f"data.name={abbreviated(name)} and data.path={abbreviated(whole['data.path'])}: set only one of them"]
            )
        whole["data.name"] = "file"
    refuse(checks.values(whole))
    counted = _settled(whole, where, measure)
    refuse(checks.values({key: value for key, value in counted.items() if value != whole[key]}))
    config = _nest(Config, "", counted)
    refuse(checks.combinations(config))
    return config


def _settled(flat: Mapping[str, object], where: str, measure: MeasureSizes | None) -> dict[str, object]:
    """The flat values of a config with every length in steps."""

    @functools.cache
    def sizes() -> Sizes:
        if measure is None:
            raise UserError(
                f"{where}: epochs, examples and tokens cannot be counted without the data; write steps, or pass measure=tasks.sizes"
            )
        task, seq_len = str(flat["task.name"]), flat["seq_len"]
        assert isinstance(seq_len, int)
        return measure(task, _nest(DATA[task], "data.", flat), seq_len)

    batch_size = flat["batch_size"]
    assert isinstance(batch_size, int)
    steps = lengths.in_steps(flat["steps"], 0, batch_size, sizes)
    assert isinstance(steps, int)
    return {
        key: lengths.in_steps(value, steps, batch_size, sizes) if leaves()[key].units else value
        for key, value in flat.items()
    }


def _nest(schema: type, prefix: str, flat: Mapping[str, object]) -> typing.Any:
    parts = {}
    for item in dataclasses.fields(schema):
        key = f"{prefix}{item.name}"
        if key in flat:
            parts[item.name] = flat[key]
        elif variants := item.metadata.get("variants"):
            parts[item.name] = _nest(variants.classes[str(flat[variants.by])], f"{key}.", flat)
        else:
            assert isinstance(item.type, type)
            parts[item.name] = _nest(item.type, f"{key}.", flat)
    return schema(**parts)
