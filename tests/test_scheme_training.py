"""Every scheme of the catalogue learns, from its own initial values and by the real training step."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from copying import Copying, train
from sample import depth_of, expensive

from addnorm_exp.residual import Context, catalogue

STEPS = 200
CONTROLS: frozenset[str] = frozenset()  # schemes that are there to show that they do not learn
# Scheme → the endings of paths that its paper leaves without a gradient in the first steps.
SILENT: dict[str, tuple[str, ...]] = {}

# Learning rates other than 3e-3: nGPT's logits are at most s_z in size, which starts at 1 and moves by the learning rate.
RATES = {"ngpt": 1e-2}


@pytest.mark.parametrize("name", expensive(default=("ngpt",)))
def test_copies_a_prefix(name):
    """To a tenth of the uniform loss within 200 steps at a learning rate of 3e-3; every tensor has a gradient within three steps. The
    parameters end where the scheme projects them (nGPT), which the last update alone would have left."""
    scheme = catalogue.get(name)
    task = Copying(scheme, depth_of(name, 2))
    enough = 0.1 * Copying.chance
    (first, third, state), losses = train(task, STEPS, enough, optim__lr=RATES.get(name, 3e-3))
    assert state.cause == 0
    for path, value in scheme.projected(task.model.specs, state.parameters).items():
        np.testing.assert_allclose(value, state.parameters[path], rtol=1e-5, atol=1e-7, err_msg=path)
    # Adam moves what has a gradient, however small. Without decay nothing else moves, but for the rounding of a projection.
    moves = {path: np.abs(third.parameters[path] - first.parameters[path]).max() for path in task.model.specs}
    dead = [path for path, move in moves.items() if move == 0]
    assert all(path.endswith(SILENT.get(name, ())) for path in dead), dead
    assert (losses[-20:].mean() < enough) == (name not in CONTROLS), losses[::20]


@pytest.mark.full
@pytest.mark.parametrize(
    ("name", "low", "high"), [("completep", 0.7, 1.5), ("depth_mup", 0.7, 1.5), ("pre_ln", 1.7, 5.0)]
)
def test_what_adams_first_steps_do_to_the_output_by_depth(name, low, high):
    """The coordinate check of 2505.01618: what three steps on the blocks' weights change in the closed stream, at 8 blocks over 2, is the
    same under its parametrisations, and grows under Pre-LN. From a stream of unit size, where the final norm does not hide it."""
    scheme = replace(catalogue.get(name), law="xavier")
    assert low < moved(scheme, 8) / moved(scheme, 2) < high


def moved(scheme, depth: int) -> float:
    """Root mean square of the change, embedding and head as before."""
    task = Copying(scheme, depth, scan="on")
    (before, state, _), _ = train(task, 4, optim__warmup=0, optim__lr=1e-3)
    inputs, _ = task.batch(None, 9, jnp.int32(0))
    context = Context(batch=len(inputs))

    @jax.jit
    def closed(parameters):
        model = task.model.bind({**before.parameters, **parameters})
        return model.decoder(model.embedding(inputs, context, jnp.float32), context)[0]

    blocks = {path: value for path, value in state.parameters.items() if path.startswith("decoder/blocks/")}
    return float(jnp.sqrt(jnp.mean((closed(blocks) - closed({})) ** 2)))
