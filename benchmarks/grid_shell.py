"""Runs the commands of an arrangement as a shell loop does, so many at a time, and times their output."""

import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from worker import WorkerError

# Caches and threads of the person who measures; W&B, which would send the runs to their account.
DROPPED = ("JAX_COMPILATION_CACHE", "JAX_PERSISTENT_CACHE", "TORCHINDUCTOR_", "XLA_FLAGS", "OMP_", "MKL_")
DROPPED += ("ADDNORM_CACHE", "WANDB_")


@dataclass(frozen=True)
class Timing:
    """Seconds from the start of the first process. `numbers`: the last line of results was there; `end`:
    the last process had ended. `lines`: those of standard output."""

    numbers: float
    end: float
    lines: tuple[str, ...]


def environment(given: Mapping[str, str], cache: Path, fonts: Path) -> dict[str, str]:
    """The environment of a measured process: every cache of compiled programs is in the folder `cache`.
    Matplotlib's list of fonts is none, and is in `fonts`."""
    kept = {name: value for name, value in given.items() if not name.startswith(DROPPED)}
    return kept | {
        "XDG_CACHE_HOME": str(cache),
        "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
        "MPLCONFIGDIR": str(fonts),
        "WANDB_MODE": "disabled",
    }


def run_all(
    commands: Sequence[Sequence[str]],
    at_once: int,
    variables: Mapping[str, str],
    folder: Path,
    is_result: Callable[[str], bool] = bool,
) -> Timing:
    """Runs the commands in `folder`, `at_once` at a time. Raises WorkerError if one fails; the others are
    ended then."""
    begun = time.perf_counter()
    output: list[tuple[float, str]] = []
    processes: list[subprocess.Popen[str]] = []
    stopped, lock = threading.Event(), threading.Lock()

    def run(command: Sequence[str]) -> None:
        with tempfile.TemporaryFile("w+") as errors:
            with lock:
                if stopped.is_set():
                    return
                process = subprocess.Popen(
                    command, env=dict(variables), cwd=folder, stdout=subprocess.PIPE, stderr=errors, text=True
                )
                processes.append(process)
            with process:
                assert process.stdout is not None
                for line in process.stdout:
                    output.append((time.perf_counter() - begun, line.rstrip("\n")))
            if process.returncode:
                errors.seek(0)
                last = errors.read().strip().splitlines()[-1:] or ["no message"]
                name = os.path.basename(command[1])
                raise WorkerError(f"{name} ended with code {process.returncode}: {last[0]}")

    with ThreadPoolExecutor(at_once) as pool:
        try:
            for future in as_completed([pool.submit(run, command) for command in commands]):
                future.result()
            end = time.perf_counter() - begun
        finally:  # of the others where one has failed, or on Ctrl-C
            with lock:
                stopped.set()
            for process in processes:
                process.terminate()
    results = [seconds for seconds, line in output if is_result(line)]
    if not results:
        raise WorkerError(f"{os.path.basename(commands[0][1])} printed no results")
    return Timing(max(results), end, tuple(line for _, line in output))
