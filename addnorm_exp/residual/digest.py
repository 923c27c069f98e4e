"""Records as plain JSON, and what is left of them in a run's identity.

A field that is empty by default (None, False, 0, nothing) says nothing while it is: a record that gains such a field keeps the digest that
it had. Constants with a value of their own are always told, so that none can change unseen.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any


def sha256(facts: Any) -> str:
    """Of records, mappings and sequences of them: 64 hexadecimal digits."""
    return hashlib.sha256(json.dumps(described(facts), sort_keys=True).encode()).hexdigest()


def described(value: Any) -> Any:
    """Records as plain JSON, each dataclass under its class's name."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        held = ((item, getattr(value, item.name)) for item in dataclasses.fields(value))
        said = {item.name: described(one) for item, one in held if item.default or one != item.default}
        return {"is": type(value).__name__} | said
    if isinstance(value, Mapping):
        return {key: described(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [described(item) for item in value]
    return value
