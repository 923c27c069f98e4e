"""The schema as flat dotted keys: the type of each key, and a config's values by key.

Everything else in this package (the ConfigDict, reading, the command line, identity) is derived from `leaves()`.
"""

import dataclasses
import functools
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping

from addnorm_exp import hints
from addnorm_exp.config.schema import Config
from addnorm_exp.errors import UserError

EXECUTION = "execution"

# The neutral value of a key: a run with it is the same run as one made before the key existed, so a run's identity leaves
# such keys out. This table is separate from the schema's defaults on purpose: if defaults were left out, a changed default
# would give two experiments one id. Enter a new key here with the value that keeps the former behaviour. Keys that are
# "not set" (None) are left out as well.
NEUTRAL: Mapping[str, object] = {
    "task": "lm",
    "model.dropout": 0.0,
    "model.matmul_precision": "highest",
    "model.tie_embeddings": False,
    "init.gain": 1.0,
    "init.depth_scaled": False,
    "init.multipliers": "scheme",
    "optim.weight_decay": 0.0,
    "optim.clip": 0.0,
    "optim.accumulate": 1,
}

# Keys that have an effect only with certain values of another key. Where the function is true, no number depends on the key.
IDLE: Mapping[str, Callable[[Config], bool]] = {
    "init.std": lambda config: config.init.law == "xavier",
    "optim.decay": lambda config: config.optim.schedule != "wsd",
    "optim.final_lr": lambda config: config.optim.schedule not in ("cosine", "wsd"),
}

# Keys that count steps of the run. They also accept a share of `steps`, such as "5%", which becomes a whole number when the
# config is built. A run's config and identity hold that number.
SHARES = frozenset(
    {
        "optim.warmup",
        "eval.every",
        "execution.checkpoint_every",
        "execution.layers_every",
        "execution.attention_every",
    }
)

# A name or a path says where bytes come from; identity uses the data's checksum, which says what they are.
_NOT_IDENTITY = frozenset({"data.name", "data.path"})


@dataclasses.dataclass(frozen=True)
class Leaf:
    """One key of the schema. `type` is int, float, bool or str; with `sequence`, it is the type of the elements."""

    key: str
    type: type
    optional: bool = False
    sequence: bool = False
    meaning: str = ""

    @property
    def share(self) -> bool:
        """Whether the key accepts a share of `steps`, such as "5%"."""
        return self.key in SHARES

    @property
    def expected(self) -> str:
        """The kind of value, in words, for messages."""
        words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}[self.type]
        words = f"a sequence, each {words}" if self.sequence else words
        words = f"{words}, or a share of steps such as 5%" if self.share else words
        return f"{words} (or None)" if self.optional else words


def leaves(schema: type = Config) -> Mapping[str, Leaf]:
    """Every leaf of a tree of config dataclasses by its dotted key, in the schema's order."""
    return _leaves(schema)


@functools.cache
def _leaves(schema: type) -> Mapping[str, Leaf]:
    by_key: dict[str, Leaf] = {}
    hints = typing.get_type_hints(schema)
    comments = _comments(schema)
    for item in dataclasses.fields(schema):
        annotation = hints[item.name]
        if dataclasses.is_dataclass(annotation):
            assert isinstance(annotation, type)
            for key, leaf in leaves(annotation).items():
                by_key[f"{item.name}.{key}"] = dataclasses.replace(leaf, key=f"{item.name}.{key}")
        else:
            by_key[item.name] = _leaf(item.name, annotation, comments.get(item.name, ""))
    return types.MappingProxyType(by_key)


def groups(schema: type = Config) -> tuple[str, ...]:
    """The dotted names of the subtrees (`model`, `optim`, …)."""
    names = {key.rpartition(".")[0] for key in leaves(schema)} - {""}
    return tuple(sorted(names))


def flatten(config: object) -> dict[str, object]:
    """A config dataclass as {dotted key: value}, in the schema's order."""
    return {key: functools.reduce(getattr, key.split("."), config) for key in leaves(type(config))}


def science(config: Config) -> dict[str, object]:
    """The nested config without `execution`: everything that can change a number. Tuples become lists, as in JSON."""
    nested: dict[str, object] = {}
    for key, value in flatten(config).items():
        *path, last = key.split(".")
        if path[:1] != [EXECUTION]:
            place: dict = nested
            for part in path:
                place = place.setdefault(part, {})
            place[last] = list(value) if isinstance(value, tuple) else value
    return nested


def identity_items(config: Config) -> dict[str, object]:
    """The flat science keys that can change a number, for the run's id.

    Left out are keys at their neutral value (`NEUTRAL`), keys without effect (`IDLE`), `data.name`, `data.path`, and a `data.seed`
    that equals `seed`.
    """
    items = {
        key: value
        for key, value in flatten(config).items()
        if not key.startswith(f"{EXECUTION}.")
        and key not in _NOT_IDENTITY
        and value is not None
        and not (key in NEUTRAL and value == NEUTRAL[key])
        and not (key in IDLE and IDLE[key](config))
    }
    if items.get("data.seed") == config.seed:
        del items["data.seed"]
    return items


def unknown(key: str, label: str, schema: type = Config, prefix: str = "") -> UserError:
    """The error for a key that the schema lacks, or that names a subtree. Each name in it begins with `prefix`."""
    known = leaves(schema)
    if key in groups(schema):
        example = next(name for name in known if name.startswith(f"{key}."))
        return UserError(f"{label}: a group of keys, not a value; set its keys one at a time, e.g. {prefix}{example}")
    return UserError(f"{label}: no such key; {nearest_key(key, known, prefix)}")


def nearest_key(key: str, known: Iterable[str], prefix: str = "") -> str:
    """Like `errors.nearest` for dotted keys: `lr` and `optm.lr` both lead to `optim.lr`. Each name begins with `prefix`."""
    names = list(known)
    meant = hints.keys(key, names)
    if meant:
        return f"did you mean {' or '.join(repr(prefix + name) for name in meant)}{hints.unit(key)}?"
    group = key.rpartition(".")[0]
    members = [name for name in names if group and name.startswith(f"{group}.")]
    if members:
        return f"keys of {group}: {', '.join(name.removeprefix(f'{group}.') for name in members)}"
    tops = dict.fromkeys(f"{name.partition('.')[0]}.…" if "." in name else name for name in names)
    return f"keys: {', '.join(tops)}"


def _leaf(key: str, annotation: object, meaning: str) -> Leaf:
    optional = sequence = False
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        (annotation,) = (part for part in typing.get_args(annotation) if part is not type(None))
        optional = True
    if typing.get_origin(annotation) is tuple:
        annotation, ellipsis = typing.get_args(annotation)
        assert ellipsis is ..., f"{key}: sequences are tuple[TYPE, ...]"
        sequence = True
    if annotation not in (int, float, bool, str):
        raise TypeError(f"{key}: a config value is int, float, bool or str, optional or in a tuple; not {annotation}")
    assert isinstance(annotation, type)
    return Leaf(key, annotation, optional, sequence, meaning)


def _comments(schema: type) -> dict[str, str]:
    """The comment behind each field in the schema's source: the help text is written beside the default."""
    try:
        source = inspect.getsource(schema)
    except (OSError, TypeError):  # no source (frozen, or typed at a prompt): help without meanings
        return {}
    return dict(re.findall(r"^    (\w+):[^#\n]*#[ ]*(.*)$", source, flags=re.MULTILINE))
