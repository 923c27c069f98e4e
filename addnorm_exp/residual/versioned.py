"""Functions of parameters that belong to a record: what a scheme sets from data, and where it projects its weights."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax

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


def own_path(label: str, name: str) -> str:
    """The path of parameter `name` of the connection at a site, in a model whose stacks are named by `Site.stack`."""
    stack, block, at = label.split(".")
    return f"{stack}/blocks/{block}/connections/nodes/{at}/connection/{name}"
