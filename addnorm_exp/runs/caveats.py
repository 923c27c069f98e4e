"""What a reader must know before comparing rows of a table: what differs besides method and axes, and which rows are the same function.

The method of a scheme is how it reads and writes the stream, with the kind of its norm, that norm's published ε and affine, its final
norm, and init multipliers that belong to it. Everything else in its record (residual/recipe.py) is compared here, row against row. A
difference that an axis of the study sets is not reported.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from addnorm_exp.grouping import grouped
from addnorm_exp.runs.identity import sha256_of
from addnorm_exp.runs.winners import Pairs
from addnorm_exp.words import show

OTHERS = "others"
FUNCTION = (
    "norm.",
    "attention.",
    "embedding.",
    "logits.",
    "model.",
    "schemes.",
)  # config keys that change the function of the parameters
DIFFERS = "Besides methods and axes, rows differ in "
GAP = "any gap between them comes from init and the optimiser"


def in_keys(pairs: Iterable[tuple[str, Any]]) -> str:
    """Axes and their values by their keys: `pre_ln, norm.kind = rms`."""
    return ", ".join(str(value) if axis == "scheme" else f"{axis} = {show(value)}" for axis, value in pairs)


@dataclass(frozen=True)
class TableRow:
    """A row of a table. `axes`: its scheme and the axes that distinguish rows; `resolved`: what its runs recorded, empty if they
    recorded nothing; `function`: the id of the function that its runs train (`function_id`), empty if unknown; `words` names axes and
    their values in print."""

    scheme: str
    axes: Pairs
    resolved: Mapping[str, Any]
    function: str = ""
    words: Callable[[Iterable[tuple[str, Any]]], str] = in_keys

    def value(self, axis: str) -> Any:
        return dict(self.axes).get(axis)

    @property
    def title(self) -> str:
        """The scheme's name in print."""
        return self.words([("scheme", self.scheme)])

    @property
    def label(self) -> str:
        return _name(self, [axis for axis, _ in self.axes if axis != "scheme"])


def function_id(digest: str, flat: Mapping[str, Any]) -> str:
    """Identifies the function of the parameters that a run trains: the digest of its scheme and the config keys of its model."""
    model = sorted((key, repr(value)) for key, value in flat.items() if key.startswith("model.") and value is not None)
    return sha256_of([digest, model])[:16]


@dataclass(frozen=True)
class Item:
    """One setting that schemes bring. Two rows agree if `same` is equal (None: the row is not compared); `words` describes the setting;
    `keys` are the config keys that set it. Only rows with equal `within` are compared."""

    name: str
    same: Callable[[Mapping[str, Any]], Hashable]
    words: Callable[[Mapping[str, Any]], str]
    keys: tuple[str, ...]
    within: Callable[[Mapping[str, Any]], Hashable] = field(default=lambda resolved: None)


def _deviations(resolved: Mapping[str, Any]) -> Hashable:
    """None if the method sets the weights. Tensors are compared by name, so one more tensor does not make the others differ."""
    deviations = resolved["law_deviations"]
    each = ((role, tuple(value) if isinstance(value, list) else value) for role, value in deviations.items())
    return tuple(sorted(each)) or None


def _scale(resolved: Mapping[str, Any]) -> str:
    return "by the init law" if resolved["embedding_scale_by_law"] else f"× {resolved['embedding_scale']}"


def _plain(key: str, name: str, *keys: str) -> Item:
    return Item(name, lambda resolved: resolved.get(key), lambda resolved: show(resolved[key]), keys)


def _of_the_norm(key: str, name: str, *keys: str) -> Item:
    norm = ("norm.kind", "norm.blocks", f"norm.{key}")
    return Item(
        name,
        lambda resolved: resolved.get(key),
        lambda resolved: f"{resolved['norm']} {show(resolved[key])}",
        (*norm, *keys),
        lambda resolved: resolved.get("norm"),
    )


_SIZES = ("model.width", "model.depth", "model.mlp_ratio", "model.tie_embeddings")
_INIT = ("init.law", "init.std", "init.gain", "init.multipliers", "init.depth_scaled", "model.activation", *_SIZES)
ITEMS = (
    Item("init", _deviations, lambda resolved: str(resolved["law"]).replace(", ", " with ", 1), _INIT),
    _plain("embedding_norm", "embedding norm", "embedding.norm"),
    Item("embedding scale", lambda resolved: resolved.get("embedding_scale"), _scale, ("embedding.scale", *_INIT)),
    _plain("factors", "optimiser factors", "model.depth"),
    _plain("drop_path", "stochastic depth", "model.drop_path"),
    _of_the_norm("eps", "ε"),
    _of_the_norm("eps_place", "place of ε"),
    _of_the_norm("affine", "affine"),
    _of_the_norm("gain", "gain", "norm.affine"),
)


def lines(rows: Sequence[TableRow], twins: Iterable[Iterable[str]] = ()) -> tuple[str, ...]:
    """The lines above a table: one on what differs besides methods and axes, one on rows that are the same function. Either may be absent.

    `twins` are sets of `function_id`s that are the same function (sweep/twins.py).
    """
    parts = [part for item in ITEMS if (part := _part(item, rows))]
    same = _functions(rows, tuple(map(tuple, twins)))
    return (*([f"{DIFFERS}{'; '.join(parts)}."] if parts else []), *([" ".join(same)] if same else []))


def _varying(rows: Sequence[TableRow]) -> tuple[str, ...]:
    axes = dict.fromkeys(axis for row in rows for axis, _ in row.axes if axis != "scheme")
    return tuple(axis for axis in axes if len({repr(row.value(axis)) for row in rows}) > 1)


def _part(item: Item, rows: Sequence[TableRow]) -> str | None:
    """`init: sandwich_ln = normal | others = xavier`; None if all rows that no axis distinguishes agree."""
    axes = [axis for axis in _varying(rows) if axis in item.keys]
    panels = grouped(
        (row for row in rows if row.resolved and item.same(row.resolved) is not None),
        lambda row: (item.within(row.resolved), *(repr(row.value(axis)) for axis in axes)),
    )
    differing = [row for panel in panels.values() if len({item.same(r.resolved) for r in panel}) > 1 for row in panel]
    by_words = grouped(differing, lambda row: item.words(row.resolved).replace("; ", ", "))
    if not by_words or set(by_words) == {"by the init law"}:  # then the init says it
        return None
    named = {words: _names(members, differing) for words, members in by_words.items()}
    largest = max(by_words, key=lambda words: len(by_words[words]))
    texts = [f"{', '.join(names)} = {words}" for words, names in named.items() if words != largest]
    last = OTHERS if texts and len(named[largest]) > 1 else ", ".join(named[largest])
    return f"{item.name}: {' | '.join([*texts, f'{last} = {largest}'])}"


def _names(rows: Sequence[TableRow], total: Sequence[TableRow]) -> list[str]:
    """Names of these rows: the scheme's name if they include all its rows, else the label of each row."""
    whole = {row.scheme for row in rows} - {row.scheme for row in total if row not in rows}
    return list(dict.fromkeys(row.title if row.scheme in whole else row.label for row in rows))


def _functions(rows: Sequence[TableRow], twins: Iterable[Sequence[str]]) -> list[str]:
    """`With norm.kind = layer, peri_ln and sandwich_ln compute the same function; …`."""
    known = [row for row in rows if row.function]
    varying = [axis for axis in _varying(rows) if axis.startswith(FUNCTION)]
    first = {id: min(group) for group in twins for id in group}
    under: dict[tuple[str, ...], dict[str, None]] = {}
    for members in grouped(known, lambda row: first.get(row.function, row.function)).values():
        if len({_schemes(row) for row in members}) < 2:
            continue  # rows of the same schemes differ only in hypers
        common = [axis for axis in varying if len({repr(row.value(axis)) for row in members}) == 1]
        apart = [axis for axis in varying if axis not in common]
        names = tuple(dict.fromkeys(_name(row, apart) for row in members))
        where = _values(members[0], common)
        under.setdefault(names, {})[where] = None
    return [_sentence(names, list(places)) for names, places in under.items()]


def _schemes(row: TableRow) -> tuple[str, ...]:
    """Those of the model and of its stacks."""
    return (row.scheme, *(f"{axis} {value}" for axis, value in row.axes if axis.startswith("schemes.") and value))


def _values(row: TableRow, axes: Iterable[str]) -> str:
    """The row's values on those of these axes that it sets."""
    return row.words([(axis, value) for axis in axes if (value := row.value(axis)) is not None])


def _name(row: TableRow, axes: Iterable[str]) -> str:
    values = _values(row, axes)
    return f"{row.title} ({values})" if values else row.title


def _sentence(names: tuple[str, ...], places: Sequence[str]) -> str:
    *rest, last = names
    where = f"With {_either(places)}, " if all(places) else ""
    return f"{where}{', '.join(rest)} and {last} compute the same function; {GAP}."


def _either(places: Sequence[str]) -> str:
    """`norm.kind = layer or rms` if the places are values of one axis."""
    axes = {place.partition(" = ")[0] for place in places}
    if len(axes) == 1 and all(place.count(" = ") == 1 for place in places):
        places = [places[0], *(place.partition(" = ")[2] for place in places[1:])]
    return " or ".join(places)
