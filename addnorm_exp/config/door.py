"""The only place where a ConfigDict or dotted overrides become a `Config`. The rest of the program trusts a `Config`.

ml_collections accepts values that no experiment should have: an int field takes True, any field takes None, and assigning a
dict to a subtree drops the keys that the dict lacks. Each such mistake becomes one line here, with key, value and remedy.
"""

import dataclasses
import math
import numbers
import typing
from collections.abc import Collection, Mapping
from fractions import Fraction

from ml_collections import ConfigDict

from addnorm_exp.config import checks, slips
from addnorm_exp.config.keys import Leaf, groups, leaves, unknown, unresolved
from addnorm_exp.config.schema import Config, DataConfig
from addnorm_exp.errors import UserError, check_text

_TRUE, _FALSE = ("true", "t", "1"), ("false", "f", "0")  # as absl reads them


def read(config: ConfigDict, where: str = "config", typed: Collection[str] = ()) -> Config:
    """The `Config` of a ConfigDict, checked in full.

    `where` names the source in messages; `typed` are the keys that the user typed on the command line. Messages write them as flags.
    """
    return _build(values(config, where), where, typed, typed)


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


def override(config: Config | Mapping[str, object], overrides: Mapping[str, object], where: str = "config") -> Config:
    """A copy of `config` with flat dotted keys replaced, checked as in `read`.

    `config` may also be flat values (`values`). A share of `steps` is still a share there, so it follows an override of `steps`.
    `where` names the source of the overrides in messages, e.g. "sweeps/quickstart.py".
    """
    return _build(overridden(config, overrides, where), where, overrides.keys())


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


def settled(value: object, steps: int) -> object:
    """The value, with a share of `steps` ("5%") as the nearest whole number of steps: at least 1 if the share is above 0."""
    if not isinstance(value, str) or not value.endswith("%"):
        return value
    exact = Fraction(value.removesuffix("%")) * steps / 100
    return max(1, math.floor(exact + Fraction(1, 2))) if exact else 0


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
    if leaf.sequence:
        return _sequence(leaf, value, label)
    return _scalar(leaf, value, label)


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
    if leaf.share and isinstance(value, str) and value.rstrip().endswith("%"):
        return _share(value, label)
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


def _share(text: str, label: str) -> str:
    """A share of `steps` in its shortest form: "5.0 %" is "5%"."""
    try:
        share = float(text.rstrip().removesuffix("%"))
    except ValueError:
        share = math.nan
    if not 0 <= share <= 100:
        raise UserError(f"{label}={abbreviated(text)}: expected a share of steps from 0% to 100%, e.g. 5%")
    return f"{share + 0.0:.12g}%"


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


def _build(flat: dict[str, object], where: str, explicit: Collection[str], typed: Collection[str] = ()) -> Config:
    """`explicit`: keys that an override sets; `typed`: those of them that the user typed on the command line."""
    steps = flat["steps"]
    assert isinstance(steps, int)
    flat = {key: settled(value, steps) if leaves()[key].share else value for key, value in flat.items()}
    if flat["data.path"] is not None:
        name = flat["data.name"]
        if name != "file" and ("data.name" in explicit or name != DataConfig().name):
            problem = (
                f"data.name={abbreviated(name)} and data.path={abbreviated(flat['data.path'])}: set only one of them"
            )
            raise UserError(checks.placed(problem, where, typed))
        flat = {**flat, "data.name": "file"}
    for problem in checks.variants(flat):
        raise UserError(checks.placed(problem, where, typed))
    for key, leaf in leaves().items():
        if leaf.own and flat[key] is None:
            flat[key] = leaf.own.defaults.get(str(flat[leaf.own.by]))
    config = _nest(Config, "", flat)
    checks.check(config, where, typed)
    return config


def _nest(schema: type, prefix: str, flat: Mapping[str, object]) -> typing.Any:
    hints = typing.get_type_hints(schema)
    parts = {}
    for item in dataclasses.fields(schema):
        key = f"{prefix}{item.name}"
        if key in flat:
            parts[item.name] = flat[key]
        else:
            classes = item.metadata.get("variants")
            group = classes[str(flat[f"{key}.name"])] if classes else hints[item.name]
            parts[item.name] = _nest(group, f"{key}.", flat)
    return schema(**parts)
