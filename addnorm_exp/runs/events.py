"""What training tells of itself while it runs: to the terminal, to a sweep's display, to the mirror.

An event is a mapping with `event`, its kind, and what that kind has to say:

    compiling   the run's program is not compiled yet, and now is
    compiled    after `seconds`
    start       the record is rewound, and updates begin: `step`, that of the checkpoint that it continues from, or 0
    train       the line of the last step of a dispatch in metrics.jsonl: `step`, `loss`, `bpb` where the task has bits per byte, …;
                besides, `tokens_per_second`, and `mfu` where the device's peak is known (train/peaks.py)
    val         a line of metrics.jsonl
    note        `text`, a line for the person
    done, diverged   the whole summary
"""

from collections.abc import Callable, Mapping
from typing import Any

Watcher = Callable[[Mapping[str, Any]], None]
