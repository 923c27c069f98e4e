"""The cores and the memory of this machine that this process may use. No device is needed."""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

PROCESS_BYTES = 10**9  # of a process with JAX, compiled programs and the data
PROCESS, ROOT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def memory() -> int | None:
    """Bytes of the machine, or of the control group that limits this process; None if that is unknown."""
    try:
        physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # another system
        return None
    return min([physical, *limits()])


def cores() -> tuple[int, ...]:
    """The numbers of the cores, no more than the time is worth that a control group grants. Empty on a system that cannot bind a process
    to cores."""
    if not hasattr(os, "sched_getaffinity"):
        return ()
    usable = sorted(os.sched_getaffinity(0))
    granted = min([len(usable), *map(int, quotas())])
    return tuple(usable[: max(1, granted)])


def limits(process: Path = PROCESS, root: Path = ROOT) -> list[int]:
    """The bounds of the control groups on memory, in bytes."""
    names = {2: ("memory.max",), 1: ("memory.limit_in_bytes",)}
    return [int(text) for (text,) in _settings("memory", names, process, root) if text.isdigit()]


def quotas(process: Path = PROCESS, root: Path = ROOT) -> list[float]:
    """The bounds of the control groups on processor time, in cores."""
    names = {2: ("cpu.max",), 1: ("cpu.cfs_quota_us", "cpu.cfs_period_us")}
    pairs = [" ".join(texts).split() for texts in _settings("cpu", names, process, root)]
    return [int(pair[0]) / int(pair[1]) for pair in pairs if len(pair) == 2 and pair[0].isdigit()]


def _settings(kind: str, names: Mapping[int, tuple[str, ...]], process: Path, root: Path) -> Iterator[list[str]]:
    """The texts of these files in this process's control group and in its ancestors, by the version of control groups (cgroups(7))."""
    try:
        lines = process.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, kinds, path = line.split(":", 2)
        if kinds and kind not in kinds.split(","):
            continue
        place, files = (root / kind, names[1]) if kinds else (root, names[2])
        group = place / path.lstrip("/")
        for folder in (group, *group.parents):
            with suppress(OSError):  # inside a container the path may be that of the host
                yield [(folder / file).read_text().strip() for file in files]
            if folder == place:
                break
