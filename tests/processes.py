"""Commands in processes of their own."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from compiler import QUICK

ROOT = Path(__file__).parents[1]
NET = 1800  # seconds after which a process that hangs fails its test; none takes so long on any machine


def run(*words, stdout=subprocess.PIPE, unbuffered=False):
    # Buffered, output fails as it is flushed at the end; unbuffered, in the middle of the command.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    environment |= {"PYTHONUNBUFFERED": "1"} if unbuffered else {}
    return subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env=environment,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=NET,
    )


def wait(condition: Callable[[], Any]) -> None:
    """Until `condition()` is true."""
    deadline = time.monotonic() + NET
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def on_eight_devices(code: str) -> str:
    """The last line that this code prints in a process of its own with eight simulated devices."""
    flags = f"{QUICK} --xla_force_host_platform_device_count=8"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    completed = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=NET
    )
    assert completed.returncode == 0, completed.stderr[-2000:]
    return completed.stdout.splitlines()[-1] if completed.stdout else ""
