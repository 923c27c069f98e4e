"""Compiled programs on disk: a second launch compiles nothing, and no process takes a program that was made for other cores."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from processes import NET, ROOT

from addnorm_exp.train import program_cache

CODE = """
import os, sys
if len(sys.argv) > 2: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import jax
from jax._src import monitoring
names = []
monitoring.register_event_listener(lambda name, **_: names.append(name.rpartition("/")[2]))
from addnorm_exp.train.program_cache import keep_programs
keep_programs()
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.jit(lambda x: (x @ x).sum())(jax.numpy.ones((64, 64))).block_until_ready()
print(names.count("cache_hits"), names.count("cache_misses"))
"""


def launched(home: Path, *words: str, **environment: str) -> tuple[int, int]:
    """How many programs were found in the cache by a process of its own, and how many were not."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("JAX_COMPILATION", "JAX_PERSISTENT"))
    }
    done = subprocess.run(
        [sys.executable, "-c", CODE, "x", *words],
        env=kept | {"ADDNORM_CACHE": str(home)} | environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=NET,
    )
    assert done.returncode == 0, done.stderr
    hits, misses = map(int, done.stdout.split())
    return hits, misses


def test_a_second_launch_compiles_nothing(tmp_path):
    hits, misses = launched(tmp_path)
    assert hits == 0
    assert misses > 0
    assert launched(tmp_path) == (misses, 0)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2, reason="has one core")
def test_a_program_is_for_as_many_cores_as_it_was_compiled_with(tmp_path):
    _, misses = launched(tmp_path)
    assert launched(tmp_path, "one core") == (0, misses)


@pytest.mark.full
def test_jaxs_own_settings_come_first(tmp_path):
    own = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "own")}
    assert launched(tmp_path / "ours", **own)[1] > 0
    assert list((tmp_path / "own").iterdir())
    assert launched(tmp_path / "ours", JAX_ENABLE_COMPILATION_CACHE="false") == (0, 0)
    assert not (tmp_path / "ours").exists()


@pytest.mark.full
def test_a_cache_that_cannot_be_written_is_none(tmp_path):
    (tmp_path / "file").write_text("")
    assert launched(tmp_path / "file") == (0, 0)


def test_what_was_read_longest_ago_is_removed(tmp_path):
    for age, name in enumerate("abcd"):
        (tmp_path / name).write_bytes(bytes(10))
        os.utime(tmp_path / name, (1000 - age, 500))
    program_cache.prune(tmp_path, 25)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
