"""What holds for every test."""

import gc
import os

import pytest
from compiler import QUICK, share_bytecode, share_context, share_programs

os.environ.setdefault("XLA_FLAGS", QUICK)  # before anything imports JAX; processes that tests start inherit it
share_programs()
share_bytecode()
gc.set_threshold(100_000, 20, 50)  # a trace makes millions of objects that live
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# A wrong shape or dtype must not be mended unseen: what our code and the tests broadcast or convert, they say.
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")
os.environ.setdefault("JAX_NUMPY_DTYPE_PROMOTION", "strict")
# In each call of these modules the arrays must have the shapes and dtypes that the annotations say.
SHAPED = ("nn", "residual.dropout", "residual.norms", "residual.plan", "residual.rule", "residual.taps")
os.environ["WANDB_MODE"] = (
    "disabled"  # commands that tests run mirror nothing, but where a test sets up a server of its own
)

import shapes  # noqa: E402 (it brings JAX, which reads the settings above)

shapes.check([f"addnorm_exp.{module}" for module in SHAPED])


@pytest.fixture(scope="session", autouse=True)
def context():
    share_context()


@pytest.fixture(scope="module", autouse=True)
def frozen():
    """What outlives a module, JAX's compiled programs above all, is not searched for garbage again."""
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """The synthetic corpus of the tiny runs (training.py)."""
    import training  # here, for it brings JAX

    return training.corpus(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def three(tmp_path_factory):
    """A study of four schemes on three report seeds each. Tests read it and leave it as it is."""
    from test_report_study import write_study

    return write_study(tmp_path_factory.mktemp("runs") / "three", full=False)


@pytest.fixture(scope="session")
def five(tmp_path_factory):
    """The same on five seeds, of which one diverged in one scheme."""
    from test_report_study import write_study

    return write_study(tmp_path_factory.mktemp("runs") / "five", seeds=5, full=False, diverged=(("no_norm", 101),))


@pytest.fixture(scope="session")
def laws(tmp_path_factory):
    """An untuned study of two schemes under two init laws, two seeds each."""
    from test_report_study import write_laws

    return write_laws(tmp_path_factory.mktemp("runs") / "laws")


@pytest.fixture
def server():
    """A stand-in for W&B's server, which must have understood everything by the end of the test."""
    from wandb_server import Server

    with Server() as found:
        yield found
    assert found.refused == []


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder with the synthetic text, and no key of the person's wherever W&B's client may look for one. The process that
    mirrors has the tests' priority: at its own, the lowest, it would wait for a core until the other worker leaves one free.
    """
    import training

    from addnorm_exp import child

    monkeypatch.setattr(child, "BOOT", f"import os; os.nice = lambda by: 0; {child.BOOT}")
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("WANDB_FINISH_TIMEOUT", "20")
    (tmp_path / "home").mkdir()
    (tmp_path / "text").write_bytes(training.TEXT)
    return tmp_path
