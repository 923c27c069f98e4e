"""What a program is compiled for. Runs of one shape share a program, whatever their hypers."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from addnorm_exp.config.key import HYPER, SHAPE
from addnorm_exp.config.keys import leaves
from addnorm_exp.residual import Scheme, Site


@dataclass(frozen=True)
class Shape:
    """The keys that change an array's shape or the structure of the program, and the scheme over the blocks of the model.

    `shape["model.width"]` is a value. A switch (`optim.clip`, a rate of dropout) is True or False: whether it is on. A hyper has no value
    here, because a program is compiled for all its values: reading one is an error.

    `form` is what the model is built of from the data, e.g. the size of a vocabulary; each task knows its meaning. Its parts are hashable.

    Two shapes are equal if their values, `form` and `digest` are. The digest is that of the scheme's record over these blocks, without its
    hypers: a notebook may change the record of a name.
    """

    items: tuple[tuple[str, object], ...]
    digest: str
    scheme: Scheme = field(compare=False)
    sites: tuple[Site, ...] = field(compare=False)
    form: tuple[Any, ...] = ()

    @cached_property
    def _values(self) -> dict[str, object]:
        return dict(self.items)

    def __getitem__(self, key: str) -> Any:
        """Raises LookupError for a key that is no part of the shape."""
        if key in self._values:
            return self._values[key]
        what = f"is {leaves()[key].said.role.name}, and" if key in leaves() else "is no key of a config, and"
        raise LookupError(f"{key} {what} no part of a program's shape")


def shape_of(
    values: Mapping[str, object], scheme: Scheme, sites: tuple[Site, ...], form: tuple[Any, ...] = ()
) -> Shape:
    """The shape of resolved values by key (`Experiment.values`)."""
    items = []
    for key, leaf in leaves().items():
        if SHAPE in leaf.said.role:
            value = values[key]
            items.append((key, bool(value) if HYPER in leaf.said.role else value))
    # The rate of stochastic depth is a number of the record, and a hyper too.
    switched = replace(scheme.around, drop_path=float(bool(scheme.around.drop_path)))
    return Shape(tuple(items), replace(scheme, around=switched).digest(sites), scheme, sites, form)
