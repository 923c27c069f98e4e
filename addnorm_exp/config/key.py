"""What the schema says of a key beside its type and default: meaning, range, and what the key is to a compiled program.

A field of a config's dataclass is made by `key`. Everything else is derived from what it says: help and documentation, checks, a run's
identity, and the projections of a config on hypers, shape and timetable (addnorm_exp/experiment).
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from enum import Flag, auto
from typing import Any


class Role(Flag):
    """What a key is to a compiled program. It may be more than one: the number of steps is a hyper, and the timetable has it too."""

    SHAPE = auto()  # changes an array's shape or the structure of the program, which is compiled for it
    HYPER = auto()  # a number that changes neither: it is traced, and runs with other values share the program
    TIMETABLE = auto()  # says at which steps something happens
    HOST = auto()  # says where data come from or what is kept; no number and no program depends on it
    SWITCH = HYPER | SHAPE  # a hyper whose value 0 leaves something out of the program


SHAPE, HYPER, TIMETABLE, HOST, SWITCH = Role.SHAPE, Role.HYPER, Role.TIMETABLE, Role.HOST, Role.SWITCH


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


SEED = Range(minimum=0, maximum=2**32 - 1)  # a uint32 inside the compiled program
COUNT = Range(minimum=1, maximum=2**31 - 1)  # an int32 there
COUNT_OR_OFF = Range(minimum=0, maximum=2**31 - 1)
POSITIVE = Range(above=0)
NOT_NEGATIVE = Range(minimum=0)
SIZE = Range(minimum=1, maximum=2**20)  # of one axis of an array
SHARE = Range(minimum=0, maximum=1)
RATE = Range(minimum=0, below=1)

LENGTH = ("epochs", "examples", "tokens")
PART = ("%", *LENGTH)  # of the run


UNSET = object()  # no value is neutral


@dataclass(frozen=True)
class Key:
    """What `key` says of a field; see there."""

    meaning: str
    range: Range | None = None
    role: Role = SHAPE
    neutral: object = UNSET
    units: tuple[str, ...] = ()
    idle: Callable[[Any], bool] | None = None
    choices: Collection[str] = ()


def key(
    default: Any,
    meaning: str = "",
    range: Range | None = None,
    *,
    role: Role = SHAPE,
    neutral: object = UNSET,
    units: tuple[str, ...] = (),
    idle: Callable[[Any], bool] | None = None,
    choices: Collection[str] = (),
) -> Any:
    """A field of a config's dataclass.

    `range`: of a number; every number has one (a test checks this). `role`: see `Role`. `units`: the key counts steps, and also takes a
    length in these units, which becomes a whole number of steps when the config is built (lengths.py).

    `neutral`: the value that a run had before the key existed. A run's identity leaves the key out at that value, and also where it is not
    set (None). It is separate from the default on purpose: if defaults were left out, a changed default would give two experiments one id.
    `idle(config)`: whether no number depends on the key, given the others; identity leaves it out then.
    `choices`: the valid texts, if they are the names in a table; elsewhere they are a `Literal` type. Without a meaning, they are it.
    """
    return field(default=default, metadata={"key": Key(meaning, range, role, neutral, units, idle, choices)})


def variants(classes: Mapping[str, type], default: type, by: str) -> Any:
    """A group of keys for which the key `by` chooses one of these classes, all of one base class. A config has the base's keys and those
    of the class that it names; where a key of that class is not set, the class's default applies. The names of the classes are the
    choices of `by`."""
    return field(default_factory=default, metadata={"variants": Variants(classes, by)})


@dataclass(frozen=True)
class Variants:
    """See `variants`."""

    classes: Mapping[str, type]
    by: str
