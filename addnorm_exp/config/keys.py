"""The schema as flat dotted keys: the type of each key, and a config's values by key.

Everything else in this package (the ConfigDict, reading, the command line, identity) is derived from `leaves()`.
"""

import dataclasses
import functools
import types
import typing
from collections.abc import Iterable, Mapping

from addnorm_exp import hints
from addnorm_exp.config.key import HOST, Key, Variants
from addnorm_exp.config.schema import Config
from addnorm_exp.errors import UserError

EXECUTION = "execution"
NOTHING_SAID = Key("")


@dataclasses.dataclass(frozen=True)
class Own:
    """Of a key that only some variants of its group have, or that they have each in its own way (`key.variants`): the key `by` that chooses
    the variant, and by variant that has the key its default and its choices."""

    by: str
    defaults: Mapping[str, object]
    choices: Mapping[str, tuple[str, ...]]


@dataclasses.dataclass(frozen=True)
class Leaf:
    """One key of the schema, and what the schema says of it. `type` is int, float, bool or str; with `sequence`, it is the type of the
    elements. `choices` are the valid texts, where they are few. `own`: see `Own`."""

    key: str
    type: type
    said: Key = NOTHING_SAID
    optional: bool = False
    sequence: bool = False
    choices: tuple[str, ...] = ()
    own: Own | None = None

    @property
    def units(self) -> tuple[str, ...]:
        """Those that the key takes beside steps, if it counts steps (lengths.py)."""
        return self.said.units

    @property
    def expected(self) -> str:
        """The kind of value, in words, for messages."""
        words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}[self.type]
        words = f"a sequence, each {words}" if self.sequence else words
        if self.units:
            words = f"{words} of steps, or a length such as 3epochs" + (" or 5%" if "%" in self.units else "")
        return f"{words} (or None)" if self.optional else words


def leaves(schema: type = Config) -> Mapping[str, Leaf]:
    """Every leaf of a tree of config dataclasses by its dotted key, in the schema's order."""
    return _leaves(schema)


@functools.cache
def _leaves(schema: type) -> Mapping[str, Leaf]:
    by_key: dict[str, Leaf] = {}
    hints = typing.get_type_hints(schema)
    for item in dataclasses.fields(schema):
        annotation = hints[item.name]
        if dataclasses.is_dataclass(annotation):
            assert isinstance(annotation, type)
            variants = item.metadata.get("variants")
            for key, leaf in {**leaves(annotation), **_own(annotation, variants, item.name)}.items():
                by_key[f"{item.name}.{key}"] = dataclasses.replace(leaf, key=f"{item.name}.{key}")
            if variants:
                by_key[variants.by] = _choosing(by_key[variants.by], variants.classes)
        else:
            by_key[item.name] = _leaf(item.name, annotation, item.metadata.get("key", NOTHING_SAID))
    return types.MappingProxyType(by_key)


def _own(base: type, variants: Variants | None, group: str) -> dict[str, Leaf]:
    """The keys of a group's variants beside those of their base, and those that they state anew. One that several variants have means in
    each what that one says."""
    together: dict[str, dict[str, Leaf]] = {}
    for name, variant in variants.classes.items() if variants else ():
        for key, leaf in leaves(variant).items():
            common = leaves(base).get(key)
            if common is None or leaf.said not in (common.said, NOTHING_SAID):
                together.setdefault(key, {})[name] = leaf
    own = {}
    for key, by_name in together.items():
        assert variants is not None
        first, *others = by_name.values()
        alike = {(leaf.type, leaf.said.range, leaf.said.role) for leaf in (first, *others)}
        assert len(alike) == 1, f"{group}.{key}: its type, range and role differ between {', '.join(by_name)}"
        defaults = {name: getattr(variants.classes[name](), key) for name in by_name}
        texts: dict[str, list[str]] = {}
        for name, leaf in by_name.items():
            typed = str(defaults[name])  # as a user types it
            texts.setdefault(leaf.said.meaning, []).append(f"{name} {typed.lower() if leaf.type is bool else typed}")
        meaning = "; ".join(f"{text} ({', '.join(values)})" for text, values in texts.items())
        said = dataclasses.replace(first.said, meaning=meaning)
        choices = {name: leaf.choices for name, leaf in by_name.items()}
        every = tuple(dict.fromkeys(choice for each in choices.values() for choice in each))
        own[key] = dataclasses.replace(
            first, said=said, optional=True, choices=every, own=Own(variants.by, defaults, choices)
        )
    return own


def _choosing(leaf: Leaf, choices: Iterable[str]) -> Leaf:
    """The leaf with these names of a table as its choices. Where the schema says nothing else, they are its meaning."""
    names = tuple(choices)
    said = leaf.said if leaf.said.meaning else dataclasses.replace(leaf.said, meaning=" | ".join(names))
    return dataclasses.replace(leaf, said=said, choices=names)


def groups(schema: type = Config) -> tuple[str, ...]:
    """The dotted names of the subtrees (`model`, `optim`, …)."""
    return tuple(sorted({key.rpartition(".")[0] for key in leaves(schema)} - {""}))


def flatten(config: object) -> dict[str, object]:
    """A config dataclass as {dotted key: value}, in the schema's order; None for keys of variants that it does not have."""
    flat: dict[str, object] = {}
    groups = {"": config}
    for key in leaves(type(config)):
        group, _, name = key.rpartition(".")
        if group not in groups:
            groups[group] = functools.reduce(getattr, group.split("."), config)
        flat[key] = getattr(groups[group], name, None)
    return flat


def unresolved(config: object) -> dict[str, object]:
    """`flatten`, with a variant's own keys not set where they are at its default: so another variant may take its place."""
    flat = flatten(config)
    for key, leaf in leaves(type(config)).items():
        if leaf.own is not None and flat[key] == leaf.own.defaults.get(str(flat[leaf.own.by])):
            flat[key] = None
    return flat


def science(config: Config) -> dict[str, object]:
    """The nested config without `execution`: everything that can change a number. Tuples become lists, as in JSON."""
    nested: dict[str, object] = {}
    for key, value in flatten(config).items():
        *path, last = key.split(".")
        absent = leaves()[key].own is not None and value is None
        if path[:1] != [EXECUTION] and not absent:
            place: dict = nested
            for part in path:
                place = place.setdefault(part, {})
            place[last] = list(value) if isinstance(value, tuple) else value
    return nested


def identity_items(config: Config) -> dict[str, object]:
    """The flat science keys that can change a number, for the run's id.

    Left out are keys that are not set or at their neutral value, keys without effect here, those of the host (`data.path`: identity uses
    the data's checksum, which says what they are and not where), and a `data.seed` that equals `seed`.
    """
    items = {
        key: value
        for key, value in flatten(config).items()
        if not key.startswith(f"{EXECUTION}.") and _can_change_a_number(leaves()[key].said, value, config)
    }
    if items.get("data.seed") == config.seed:
        del items["data.seed"]
    return items


def _can_change_a_number(said: Key, value: object, config: Config) -> bool:
    if value is None or value == said.neutral or said.role == HOST:
        return False
    return said.idle is None or not said.idle(config)


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


def _leaf(name: str, annotation: object, said: Key) -> Leaf:
    optional = sequence = False
    choices: tuple[str, ...] = ()
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        (annotation,) = (part for part in typing.get_args(annotation) if part is not type(None))
        optional = True
    if typing.get_origin(annotation) is tuple:
        annotation, ellipsis = typing.get_args(annotation)
        assert ellipsis is ..., f"{name}: sequences are tuple[TYPE, ...]"
        sequence = True
    if typing.get_origin(annotation) is typing.Literal:
        choices, annotation = typing.get_args(annotation), str
    if annotation not in (int, float, bool, str):
        raise TypeError(f"{name}: a config value is int, float, bool or str, optional or in a tuple; not {annotation}")
    assert isinstance(annotation, type)
    leaf = Leaf(name, annotation, said, optional, sequence, choices)
    return _choosing(leaf, said.choices) if said.choices else leaf
