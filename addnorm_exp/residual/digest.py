"""Records as plain JSON, and what is left of them in a run's identity.

A record of this package may gain a field later: one with `metadata=LATER` says nothing at its default, and the digests of the records
that were there before stay as they are.
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
        items = ((item, getattr(value, item.name)) for item in dataclasses.fields(value))
        fields = {
            item.name: described(held)
            for item, held in items
            if not (item.metadata.get("later") and held == item.default)
        }
        return {"is": type(value).__name__, **fields}
    if isinstance(value, Mapping):
        return {key: described(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [described(item) for item in value]
    return value
