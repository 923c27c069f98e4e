"""What training tells of itself while it runs: to the terminal, to a sweep's display, to the mirror.

An event is a mapping with `event`, its kind, and what that kind has to say:

    start       the record is rewound, and updates begin: `step`, that of the checkpoint that it goes on from, or 0
    train, val  a line of metrics.jsonl: `step`, `loss`, `bpb` where the task has bits per byte, …
    note        `text`, a line for the person
    done, diverged   the whole summary
"""

from collections.abc import Callable, Mapping
from typing import Any

Watcher = Callable[[Mapping[str, Any]], None]
