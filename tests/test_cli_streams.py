"""What lies outside of the program: a full disk under the output, a reader that left, closed streams, letters, devices."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from processes import NET, ROOT, run

FULL = Path("/dev/full")  # every write to it fails as on a full disk


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full on this system")
@pytest.mark.parametrize("unbuffered", [False, True])
def test_a_full_disk_under_the_output(unbuffered):
    with FULL.open("w") as full:
        told = run("main.py", stdout=full, unbuffered=unbuffered)
    assert told.returncode == 2
    assert len(told.stderr.splitlines()) == 1
    assert "no space left on device" in told.stderr


@pytest.mark.parametrize("unbuffered", [False, True])
def test_a_reader_that_went_away(unbuffered):
    reader, writer = os.pipe()
    os.close(reader)
    try:
        told = run("main.py", stdout=writer, unbuffered=unbuffered)
    finally:
        os.close(writer)
    assert (told.returncode, told.stderr) == (141, "")


@pytest.mark.parametrize("closed", [0, 1, 2, (0, 1, 2)], ids=str)
def test_a_closed_stream_lends_its_number_to_nobody(closed):
    numbers = closed if isinstance(closed, tuple) else (closed,)
    code = f"""
import os, sys
for number in {numbers}:
    os.close(number)
os.execv(sys.executable, [sys.executable, "main.py", "help"])
"""
    told = run("-c", code)
    assert (told.returncode, told.stderr) == (0, "")
    assert ("usage" in told.stdout) == (1 not in numbers)


@pytest.mark.parametrize("encoding", ["ascii", pytest.param("latin-1", marks=pytest.mark.full)])
def test_letters_that_the_terminal_lacks(encoding):
    told = subprocess.run(
        [sys.executable, "main.py", "schemes", "pre_ln"],
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        timeout=NET,
    )
    assert (told.returncode, told.stderr) == (0, b"")
    assert b"\\u2190" in told.stdout  # ←


@pytest.mark.full
@pytest.mark.parametrize("kind", ["no_such_kind", "cuda"])  # JAX knows it, and has no plug-in here
def test_a_device_that_is_not_there(kind):
    if kind == "cuda" and importlib.util.find_spec("jax_plugins"):
        pytest.skip("a plug-in of JAX is installed")
    told = subprocess.run(
        [sys.executable, "main.py", "probe", "--schemes=pre_ln"],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": kind},
        capture_output=True,
        text=True,
        timeout=NET,
    )
    assert told.returncode == 2
    (line,) = told.stderr.splitlines()
    assert line.startswith("error: this device is not available (")
