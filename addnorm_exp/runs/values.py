"""What a single value of the record may be: finite numbers, counts, names of folders, config keys."""

import math
from pathlib import Path
from typing import Annotated, Any, NoReturn

from pydantic import AfterValidator, Field, PlainValidator
from pydantic_core import PydanticCustomError

from addnorm_exp.config.keys import groups, leaves

WHOLE, NUMBER, BOOL, TEXT = "a whole number of at least 0", "a number", "true or false", "text"
OBJECT, VALUE = "an object", "a value or a list of values"


def is_number(value: Any) -> bool:
    """Whether it is a finite number that a float can hold; true and false are not numbers."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number too large for a float
        return False


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, bool | str) or is_number(value)


def _is_value(value: Any) -> bool:
    return all(map(_is_scalar, value)) if isinstance(value, list) else _is_scalar(value)


def _refuse(value: Any, expected: str, place: str = "") -> NoReturn:
    """Raises the error of a value at `place`, below the key that is being validated."""
    raise PydanticCustomError("record", "expected {expected}", {"expected": expected, "place": place, "value": value})


def _value(value: Any) -> Any:
    if not _is_value(value):
        _refuse(value, VALUE)
    return value


def _score(value: Any) -> Any:
    if value is not None and not is_number(value):
        _refuse(value, NUMBER)
    return value


def _folder_name(name: str) -> str:
    if name != Path(name).name or not name.isprintable() or name in ("", ".."):
        _refuse(name, "the name of a folder")
    return name


_PLAIN = {
    int: (lambda value: is_number(value) and isinstance(value, int) and 0 <= value < 2**63, WHOLE),
    float: (is_number, NUMBER),
    bool: (lambda value: isinstance(value, bool), BOOL),
    str: (lambda value: isinstance(value, str), TEXT),
}


def _keys(tree: dict[str, Any], prefix: str = "", place: str = "") -> dict[str, Any]:
    """Config keys, nested or dotted; keys of the schema have values of their type. `prefix` and `place`: the keys around the tree,
    in the config and in the field that is validated; each ends in a dot."""
    for name, item in tree.items():
        key, label = prefix + name, place + name
        leaf = leaves().get(key)
        if leaf is None and (isinstance(item, dict) or key in groups()):
            if not isinstance(item, dict):
                _refuse(item, OBJECT, label)
            _keys(item, f"{key}.", f"{label}.")
        elif leaf is None or (item is None and leaf.optional):
            if not _is_value(item):
                _refuse(item, VALUE, label)
        elif leaf.sequence and not isinstance(item, list):
            _refuse(item, "a list", label)
        else:
            fits, expected = _PLAIN[leaf.type]
            for part in item if leaf.sequence else [item]:
                if not fits(part):
                    _refuse(part, expected, label)
    return tree


Count = Annotated[int, Field(ge=0, lt=2**63)]
Number = Annotated[float, Field(allow_inf_nan=False)]
KeyValue = Annotated[Any, AfterValidator(_value)]  # what a config key may hold
FolderName = Annotated[str, AfterValidator(_folder_name)]
Keys = Annotated[dict[str, Any], AfterValidator(_keys)]
Execution = Annotated[dict[str, Any], AfterValidator(lambda tree: _keys(tree, "execution."))]
Score = Annotated[float | None, PlainValidator(_score)]  # a whole number stays one
Facts = dict[str, KeyValue]
Scores = dict[str, Score]  # by metric
