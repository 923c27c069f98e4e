"""What holds for every test."""

import os

import pytest

# Compilation is most of this suite's time, and the compiler's passes over machine code are half of that. Tests of numbers allow for
# rounding; tests of bits compare runs of one setting. Set before anything imports JAX; processes that tests start inherit it.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["WANDB_MODE"] = (
    "disabled"  # commands that tests run mirror nothing, but where a test sets up a server of its own
)


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """The synthetic corpus of the tiny runs (training.py)."""
    import training  # here, for it brings JAX

    return training.corpus(tmp_path_factory.mktemp("data"))
