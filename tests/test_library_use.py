"""The code of README.md and docs/library.md runs as printed: a study with its own scheme, and the residual package in another model."""

import functools
import re
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from of_config import identify, program
from sample import FEW, expensive
from studies import read_study
from training import ROOT
from training import config as tiny

from addnorm_exp.residual import Depths, SchemeError, catalogue, sites


def code_of(page: str) -> str:
    """The one block of Python on a page."""
    (block,) = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.M | re.S)
    return block


@functools.cache
def library() -> dict[str, Any]:
    """The names of the page's code after it has run."""
    names: dict[str, Any] = {}
    exec(code_of("docs/library.md"), names)
    return names


def mixer(*arguments, **keywords):
    return library()["Mixer"](*arguments, **keywords)


def test_it_runs_and_is_the_scheme():
    """DeepNorm by hand: x ← N(αx + F(x)), α = (2L)^¼; on activations of three axes."""
    assert library()["y"].shape == (3, 5, 8)
    model = mixer(catalogue.get("deepnorm"), depth=2, width=8, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (3, 5, 8))

    def norm(x):
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)

    y = np.asarray(x, np.float64)
    for linear in model.linear:
        y = norm(4**0.25 * y + np.cumsum(y, axis=-2) / np.arange(1, 6)[:, None])
        y = norm(4**0.25 * y + y @ np.asarray(linear.kernel[...], np.float64))
    np.testing.assert_allclose(model(x), y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", expensive(default=FEW[2:3]))
def test_every_scheme_fits_and_learns(name):
    """In the same ten lines, under nnx.jit and nnx.grad as a user would have it."""
    x = jax.random.normal(jax.random.key(0), (2, 4, 8))
    model = mixer(catalogue.get(name), 2, 8, nnx.Rngs(0))
    grads = nnx.jit(nnx.grad(lambda model: jnp.mean(jnp.sin(model(x)) ** 2)))(model)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


@pytest.mark.parametrize("name", expensive(default=FEW[1::2]))
def test_leading_axes_are_as_many_as_one_likes(name):
    """Three alike, so that one taken for another would go unseen by shapes; parameters moved, for at first many do nothing."""
    x = jax.random.normal(jax.random.key(0), (8, 8, 8))
    model = mixer(catalogue.get(name), 2, 8, nnx.Rngs(0))
    noise = np.random.default_rng(0)
    moved = jax.tree.map(
        lambda leaf: leaf + 0.3 * noise.standard_normal(leaf.shape, np.float32), nnx.state(model, nnx.Param)
    )
    nnx.update(model, moved)
    whole = nnx.jit(lambda model, x: model(x))
    np.testing.assert_allclose(whole(model, x), [whole(model, one) for one in x], rtol=1e-5, atol=1e-5)


def test_the_study_of_the_readme_trains_the_scheme_of_its_equation(tmp_path, monkeypatch):
    """x ← λ x + F(N(x)) with a learned λ, 0.9 at init; three rates for each of two schemes, then five other seeds of each winner."""
    monkeypatch.setattr(catalogue, "_BY_NAME", dict(catalogue._BY_NAME))
    monkeypatch.setattr("addnorm_exp.sweep.study.spec", lambda config: SimpleNamespace(sha256="0"))
    monkeypatch.chdir(ROOT)
    file = tmp_path / "leaky.py"
    file.write_text(code_of("README.md"), encoding="utf-8")
    study = read_study(str(file))
    tuning = study.tune()
    assert len(tuning) == 6
    assert len(study.report(study.stand_in(tuning), tuning)) == 10

    leaky = catalogue.get("leaky")
    leaky.check(sites("decoder", Depths(decoder=4)))
    model = mixer(leaky, depth=2, width=8, rngs=nnx.Rngs(0))
    skips = [leaf for leaf in jax.tree.leaves(nnx.state(model.blocks, nnx.Param)) if leaf.ndim == 0]
    assert [float(a) for a in skips] == [np.float32(0.9)] * 4
    x = jax.random.normal(jax.random.key(0), (3, 5, 8))

    def norm(x):
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)

    y = np.asarray(x, np.float64)
    for linear in model.linear:
        y = 0.9 * y + np.cumsum(norm(y), axis=-2) / np.arange(1, 6)[:, None]
        y = 0.9 * y + norm(y) @ np.asarray(linear.kernel[...], np.float64)
    np.testing.assert_allclose(model(x), norm(y), rtol=1e-4, atol=1e-5)


def test_a_scheme_of_ones_own_has_a_name_in_this_process(monkeypatch):
    """From then on it is a scheme like any other; a changed record under its name has programs of its own; published ones stay."""
    monkeypatch.setattr(catalogue, "_BY_NAME", dict(catalogue._BY_NAME))
    with pytest.raises(SchemeError, match="unknown scheme 'mine'"):
        catalogue.get("mine")
    first = catalogue.add(replace(catalogue.get("pre_ln"), name="mine"))
    assert catalogue.get("mine") is first
    assert catalogue.names()[-1] == "mine"
    asked = tiny(scheme="mine")
    before, known = program(asked), identify(asked, "0")
    assert program(asked) is before
    catalogue.add(replace(catalogue.get("post_ln"), name="mine"))
    assert program(asked) is not before
    assert program(asked).task.model.size == program(tiny(scheme="post_ln")).task.model.size
    assert identify(asked, "0") != known
    with pytest.raises(SchemeError, match="give yours another name"):
        catalogue.add(replace(first, name="post_ln"))


HOOKS = """
import logging, sys, threading, warnings
from pathlib import Path
import absl.logging, flax.nnx, jax, jax.numpy as jnp, ml_collections, optax

def hooks():
    loggers = [logging.getLogger(name) for name in (None, "absl", "asyncio", "jax", "flax", "orbax")]
    return (
        sys.unraisablehook, sys.excepthook, sys.displayhook, threading.excepthook, list(warnings.filters),
        [(logger.name, logger.level, logger.disabled, logger.propagate, logger.handlers[:], logger.filters[:]) for logger in loggers],
    )

before = hooks()
import addnorm_exp.train.loop
from addnorm_exp.train.checkpoint import Checkpoints, like
checkpoints, tree = Checkpoints(Path(sys.argv[1]), keep=1), {"a": jnp.ones(3)}
checkpoints.save(1, tree, {})
checkpoints.latest(like(tree))
changed = [(one, other) for one, other in zip(before, hooks()) if one != other]
assert not changed, changed
"""


def test_hooks_loggers_and_warnings_stay_a_users_own(tmp_path):
    """Importing training, and saving and restoring a state, change nothing for the rest of the process."""
    words = [sys.executable, "-c", HOOKS, str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
