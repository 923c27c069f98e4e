"""What a program does, read from its jaxpr."""

from collections.abc import Iterator
from typing import Any

import jax


def equations(jaxpr: Any) -> Iterator[Any]:
    """The operations of a program and of the programs that it calls; the body of a loop once."""
    for equation in jaxpr.eqns:
        yield equation
        for parameter in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
            inner = getattr(parameter, "jaxpr", parameter)
            if hasattr(inner, "eqns"):
                yield from equations(inner)


def scans(jaxpr: Any) -> list[int]:
    """Lengths of the scans in a program."""
    return [equation.params["length"] for equation in equations(jaxpr) if equation.primitive.name == "scan"]
