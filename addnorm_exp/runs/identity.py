"""A run's identity: a hash of everything that can change its numbers."""

import hashlib
import json
from typing import Any

from addnorm_exp.config.keys import identity_items
from addnorm_exp.config.schema import Config

# Increase it when the meaning of training changes: the same config then gives different numbers, and is a different run.
SEMANTICS = 1


def run_id(config: Config, data_sha256: str, scheme_digest: str) -> str:
    """`<scheme>-<12 hex digits>`: hash of the science config without neutral keys, the data's checksum, the scheme's digest, SEMANTICS."""
    contents = {
        "science": identity_items(config),
        "data": data_sha256,
        "scheme": scheme_digest,
        "semantics": SEMANTICS,
    }
    return f"{config.scheme}-{sha256_of(contents)[:12]}"


def sha256_of(value: Any) -> str:
    """Of plain JSON: 64 hexadecimal digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
