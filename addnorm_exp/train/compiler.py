"""Functions compiled ahead of their first call, once for each shape of the data."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np


class Call(NamedTuple):
    """A function to compile, once for each shape of the data. Everything else about its arguments is the same in all runs of a program."""

    name: str
    shape: tuple[tuple[int, ...], ...]
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    donate: tuple[int, ...] = ()


class Compiler:
    """Compiles functions, and keeps them by name and shape. `precision` is that of their matrix products; `sharding` that of arguments
    which come from the host. `seconds`: spent in compilation so far."""

    def __init__(self, precision: str, sharding: Any):
        self.precision, self.sharding = precision, sharding
        self.executables: dict[tuple[str, tuple[tuple[int, ...], ...]], Any] = {}
        self._planned: dict[str, int] = {}
        self.seconds = 0.0

    def run(self, call: Call) -> Any:
        return self.executable(call)(*self.placed(call.arguments))

    def has(self, call: Call) -> bool:
        """Whether the function of the call is compiled."""
        return (call.name, call.shape) in self.executables

    def executable(self, call: Call) -> Callable[..., Any]:
        """The function of the call, compiled on first use. Its arguments must be on the devices (`placed`)."""
        if jax.config.jax_disable_jit:  # type: ignore[attr-defined]  # nothing is compiled: each operation runs separately
            return jax.default_matmul_precision(self.precision)(call.function)
        key = call.name, call.shape
        if key not in self.executables:
            started = time.perf_counter()
            # Compiled ahead, so that compile time is known and never counts as step time.
            with jax.default_matmul_precision(self.precision):
                lowered = jax.jit(call.function, donate_argnums=call.donate).lower(*self.placed(call.arguments))
            self.executables[key] = executable = lowered.compile()
            self.seconds += time.perf_counter() - started
            if (plan := executable.memory_analysis()) is not None:
                self._planned[call.name] = max(_bytes(plan), self._planned.get(call.name, 0))
        return self.executables[key]

    def placed(self, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """What comes from the host is moved explicitly, as JAX_TRANSFER_GUARD=disallow requires."""
        host = (np.generic, np.ndarray)
        return tuple(jax.device_put(x, self.sharding) if isinstance(x, host) else x for x in arguments)

    def planned_bytes(self, name: str) -> int | None:
        """Memory that the compiler planned for a function: arguments, results and temporaries of one device."""
        return self._planned.get(name)


def shapes(tree: Any) -> tuple[tuple[int, ...], ...]:
    """Those of the leaves of a tree of arrays."""
    return tuple(leaf.shape for leaf in jax.tree.leaves(tree))


def _bytes(plan: Any) -> int:
    return int(
        plan.argument_size_in_bytes + plan.output_size_in_bytes + plan.temp_size_in_bytes - plan.alias_size_in_bytes
    )
