"""Every scheme of the catalogue learns, from its own initial values and by the real training step."""

import numpy as np
import pytest
from copying import Copying, train
from sample import depth_of, expensive

from addnorm_exp.residual import catalogue

STEPS = 200
CONTROLS: frozenset[str] = frozenset()  # schemes that are there to show that they do not learn
# Scheme → the endings of paths that its paper leaves without a gradient in the first steps.
SILENT: dict[str, tuple[str, ...]] = {}

# Learning rates other than 3e-3: nGPT's logits are at most s_z in size, which starts at 1 and moves by the learning rate.
RATES = {"ngpt": 1e-2}


@pytest.mark.parametrize("name", expensive())
def test_copies_a_prefix(name):
    """To a tenth of the uniform loss within 200 steps at a learning rate of 3e-3; every tensor has a gradient within three steps."""
    state, metrics, paths = train(catalogue.get(name), STEPS, depth_of(name, 2), optim__lr=RATES.get(name, 3e-3))
    assert state.cause == 0
    reached = np.asarray(metrics["grad_weight"])[:3].max(axis=0) > 0
    dead = [path for path, alive in zip(paths, reached, strict=True) if not alive]
    assert all(path.endswith(SILENT.get(name, ())) for path in dead), dead
    losses = np.asarray(metrics["loss"])
    assert (losses[-20:].mean() < 0.1 * Copying.uniform_loss) == (name not in CONTROLS), losses[::20]
