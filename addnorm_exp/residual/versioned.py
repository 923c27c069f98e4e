"""Functions of parameters that belong to a record: what a scheme sets from data, and where it projects its weights."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax

from addnorm_exp.residual.init import Spec

Values = Mapping[str, jax.Array]  # parameters by path
MeasureBranches = Callable[[Values], Mapping[str, Mapping[str, jax.Array]]]  # → label of a site → quantity → scalar


@dataclass(frozen=True)
class Versioned:
    """A function of parameters that belongs to a record. A run's id knows it by name and version, since its code cannot be hashed:
    a rename of a local would move every id.

    Raise `version` whenever what it computes changes. A golden of what it computes says so when that is forgotten
    (tests/test_runs_identity.py).
    """

    function: Callable[..., Values]
    version: int

    def __call__(self, *arguments: Any) -> Values:
        return self.function(*arguments)

    @property
    def identity(self) -> str:
        """What a digest holds of it. The first version is the name alone, as in digests that are older than versions."""
        name = self.function.__name__
        return name if self.version == 1 else f"{name} {self.version}"


def own_paths(specs: Mapping[str, Spec], name: str) -> dict[str, str]:
    """Label of a site → path of the parameter of this name that its connection has."""
    return {
        spec.site.label: path
        for path, spec in specs.items()
        if spec.site and (spec.part, spec.name) == ("connection", name)
    }
