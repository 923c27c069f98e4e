"""A task without a Transformer, for the tests of the step itself: four tensors, one of each group, a smooth loss, compiled at once.

The corpus is float32 (rows, 3); batch t of data seed s is the B rows from s + t·B on, the last column the target. Rows with huge or absent
numbers let a test choose the step at which something breaks.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from of_config import hypers, initial_state, optimiser, shape
from training import config as tiny

from addnorm_exp.experiment import Shape
from addnorm_exp.residual import catalogue
from addnorm_exp.residual.init import Init, Spec
from addnorm_exp.train.step import TrainState, make_chunk, make_step

GROUPS = {"kernel": "matrix", "table": "embedding", "gain": "gain", "bias": "bias", "alpha": "coefficient"}
SHAPES = {"kernel": (2, 5), "table": (3, 5), "gain": (5,), "bias": (5,), "alpha": ()}


class Model:
    def __init__(self):
        self.specs = {name: Spec(SHAPES[name], Init("normal", 0.5), group) for name, group in GROUPS.items()}

    def init(self, seed, hypers):
        g = np.random.default_rng(int(seed))
        return {name: jnp.asarray(g.normal(size=shape), jnp.float32) for name, shape in SHAPES.items()}


class Toy:
    """Implements `tasks.task.Task`. One site, whose tap reports the squared gradient of the mean of the inputs."""

    scheme = catalogue.get("pre_ln")
    model, labels, uniform_loss, flops_per_token = Model(), ("toy",), 1.0, 1.0

    def __init__(self, batch_size: int):
        self.batch_size = batch_size

    def batch(self, corpus, seed, step):
        return jax.lax.dynamic_slice(corpus, (seed.astype(jnp.int32) + step * self.batch_size, 0), (self.batch_size, 3))

    def loss(self, parameters, probes, batch, context):
        return toy_loss(parameters, batch), {"stream_rms": jnp.mean(batch)[None], "branch_ratio": jnp.ones(1)}


def toy_loss(p, batch):
    hidden = jnp.tanh(batch[:, :2] @ p["kernel"]) * p["gain"] + p["bias"]
    kind = (jnp.abs(batch[:, 0] * 7).astype(jnp.int32)) % 3
    return jnp.mean((p["alpha"] * jnp.sum(hidden * p["table"][kind], axis=-1) - batch[:, 2]) ** 2)


def rows(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 3)).astype(np.float32)


def start(seed: int = 0, task: Toy | None = None, **changes) -> TrainState:
    """The state before step 0, of the optimiser of a config."""
    config = tiny(seed=seed, **changes)
    return initial_state(task or Toy(1), hypers(config), optimiser(config))


def program(batch_size: int = 4, chunk: int | None = None, task: Toy | None = None, **changes):
    """The jitted step, or a chunk of that length, of the toy under a config; configs of one shape share it."""
    asked = shape(tiny(batch_size=batch_size, execution__diagnostics=False, **changes))
    return _program(asked, chunk, task or TOYS.setdefault(batch_size, Toy(batch_size)))


TOYS: dict[int, Toy] = {}


@functools.cache
def _program(shape: Shape, chunk: int | None, task: Toy):
    step = make_step(shape, task, lambda batch: batch)
    return jax.jit(step if chunk is None else make_chunk(step, chunk))
