"""What a run is: the hash of all that can change its numbers."""

import hashlib
import json

from addnorm_exp.config.keys import identity_items
from addnorm_exp.config.schema import Config

# Raised when training comes to mean something else: the same config then gives another number, and another run.
SEMANTICS = 1


def run_id(config: Config, data_sha256: str, scheme_digest: str) -> str:
    """`<scheme>-<12 hex digits>`: of the science config without neutral keys, the data's checksum, the record's digest, SEMANTICS."""
    said = {
        "science": identity_items(config),
        "data": data_sha256,
        "scheme": scheme_digest,
        "semantics": SEMANTICS,
    }
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
    return f"{config.scheme}-{digest[:12]}"
