"""The compiler's flags under the tests. Compilation is most of the suite's time, so it does as little as it can.

Tests of numbers allow for rounding, and tests of bits compare runs of one setting; the quickstart, which CI runs last, has the defaults.
"""

import atexit
import os
import shutil
import sys
import tempfile
import threading
from importlib.metadata import version

QUICK = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
OLDER = version("jaxlib").startswith("0.10.")
if OLDER:  # later ones only have the emitters that take twice as long
    QUICK += " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"


def share_programs() -> None:
    """One cache of compiled programs for a session of tests: its workers, and the processes that tests start, often need the
    same ones, the smallest above all. It is removed at the end; a JAX_COMPILATION_CACHE_DIR of one's own is kept, and saves
    half of a second session's time.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        folder = os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="addnorm_exp-tests-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES", "none")


def share_bytecode() -> None:
    """Modules are compiled once, whatever the environment says: else each process that tests start compiles all libraries
    anew, which takes longer than most of what it does.
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False


def share_context() -> None:
    """A hundred programs are lowered in one MLIR context, as later versions of JAX have it (ten). To make one is most of what
    lowering a small program takes.
    """
    if not OLDER:
        return
    from jax._src.interpreters import mlir  # here, for it brings JAX

    make, own = mlir.make_ir_context, threading.local()

    def shared():
        context, count = getattr(own, "context", (None, 0))
        own.context = (make() if count % 100 == 0 else context, count + 1)
        return own.context[0]

    mlir.make_ir_context = shared
