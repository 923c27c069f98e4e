"""Records as plain JSON, and what is left of them in a run's identity.

A field that is empty by default (None, False, 0, nothing) says nothing while it is: a record that gains such a field keeps the digest that
it had. Constants with a value of their own are always told, so that none can change unseen.
"""

import dataclasses
import hashlib
import inspect
import json
from collections.abc import Mapping
from typing import Any


def sha256(facts: Any) -> str:
    """Of records, mappings and sequences of them: 64 hexadecimal digits."""
    return hashlib.sha256(json.dumps(described(facts), sort_keys=True).encode()).hexdigest()


class ModuleRecord:
    """A record that makes modules of one class: the class, and what its constructor is given beside width and random streams.

    Records of one class and equal arguments are equal. In digests the class goes by its name without the word for what it is.
    """

    def __init__(self, module: type, **arguments: Any):
        """Raises TypeError where the constructor does not take these arguments."""
        self.module = module
        signature = inspect.signature(module.__init__)  # type: ignore[misc]
        bound = signature.bind(None, None, None, **arguments)
        bound.apply_defaults()
        self.fields = dict(bound.kwargs)
        self._defaults = {name: parameter.default for name, parameter in signature.parameters.items()}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ModuleRecord) and (self.module, self.fields) == (other.module, other.fields)

    def __hash__(self) -> int:
        return hash((self.module, *self.fields.items()))

    def __repr__(self) -> str:
        return f"{self.module.__name__}({', '.join(f'{name}={value!r}' for name, value in self.fields.items())})"

    def make(self, width: int, rngs: Any) -> Any:
        return self.module(width, rngs, **self.fields)

    def described(self) -> dict[str, Any]:
        fields = {
            name: described(value)
            for name, value in self.fields.items()
            if self._defaults[name] or value != self._defaults[name]
        }
        return {"is": self.module.__name__.removesuffix("Connection").removesuffix("Module")} | fields


def described(value: Any) -> Any:
    """Records as plain JSON, each dataclass under its class's name."""
    if isinstance(value, ModuleRecord):
        return value.described()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = ((item, getattr(value, item.name)) for item in dataclasses.fields(value))
        kept = {item.name: described(one) for item, one in fields if item.default or one != item.default}
        return {"is": type(value).__name__} | kept
    if isinstance(value, Mapping):
        return {key: described(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [described(item) for item in value]
    return value
