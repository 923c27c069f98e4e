"""Events that training reports while it runs: to the terminal, to a sweep's display, to the mirror.

An event is a mapping with `event`, its kind, and the fields of that kind:

    compiling   compilation of the run's program begins
    compiled    after `seconds`
    start       the record is rewound and updates begin: `step` is that of the checkpoint that the run continues from, or 0; `metrics`
                are those of the task (runs/metrics.py)
    train       the line of the last step of a dispatch in metrics.jsonl: `step`, the task's metrics, …; also `tokens_per_second`, and
                `mfu` if the device's peak is known (train/peaks.py)
    val         a line of metrics.jsonl
    note        `text`, a line for the user
    done, diverged   the whole summary
"""

from collections.abc import Callable, Mapping
from typing import Any

Watcher = Callable[[Mapping[str, Any]], None]
