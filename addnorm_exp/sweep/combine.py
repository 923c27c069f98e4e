"""The algebra of study files: lists of flat dotted overrides, and three ways to combine them.

product(axis("scheme", ["pre_ln", "post_ln"]), axis("optim.lr", [1e-3, 3e-3]), axis("seed", range(3)))
"""

import builtins
import itertools
from collections.abc import Iterable, Mapping
from typing import Any

from addnorm_exp.errors import UserError

Overrides = dict[str, Any]


def axis(key: str, values: Iterable[Any]) -> list[Overrides]:
    """One key with each of its values. Raises UserError for a single value: a string would be split into its letters."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise UserError(f"axis({key!r}, {values!r}): expected a list, got one value; write axis({key!r}, [{values!r}])")
    return [{key: value} for value in values]


def product(*parts: Iterable[Mapping[str, Any]] | Mapping[str, Any]) -> list[Overrides]:
    """Every combination of one element of each part, the last part varying fastest. A single mapping is a part with one element.

    Raises UserError if two parts set one key.
    """
    lists = ([part] if isinstance(part, Mapping) else part for part in parts)
    return [_merge(choice) for choice in itertools.product(*lists)]


def chain(*parts: Iterable[Mapping[str, Any]]) -> list[Overrides]:
    """The parts one after another."""
    return [dict(item) for part in parts for item in part]


def zip(*parts: Iterable[Mapping[str, Any]]) -> list[Overrides]:
    """The first elements of all parts merged, then the second ones, and so on. Raises UserError if lengths differ."""
    lists = [list(part) for part in parts]
    if len({len(part) for part in lists}) > 1:
        raise UserError(
            f"zip(): the parts have {', '.join(str(len(part)) for part in lists)} elements; give all parts the same number"
        )
    return [_merge(choice) for choice in builtins.zip(*lists, strict=True)]


def _merge(items: Iterable[Mapping[str, Any]]) -> Overrides:
    merged: Overrides = {}
    for item in items:
        for key, value in item.items():
            if key in merged:
                raise UserError(f"product() or zip(): two parts set '{key}'; remove one of them")
            merged[key] = value
    return merged
