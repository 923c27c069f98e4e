"""A task without a Transformer, for the tests of the step itself: four tensors, one of each group, a smooth loss, compiled at once.

The corpus is float32 (rows, 3); batch t of data seed s is the B rows from s + t·B on, the last column the target. Rows with huge or absent
numbers let a test choose the step at which something breaks.
"""

import functools
import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from of_config import hypers, initial_state, optimiser, shape
from training import config as tiny

from addnorm_exp import tasks
from addnorm_exp.experiment import Shape
from addnorm_exp.nn.footprint import ExampleCost
from addnorm_exp.residual import catalogue
from addnorm_exp.residual.init import Init, Spec
from addnorm_exp.tasks.lm import LanguageModelling
from addnorm_exp.tasks.metrics import Metric, WeightedSum
from addnorm_exp.tasks.task import Arrays, Objective, Share, Task
from addnorm_exp.train import device_data, programs
from addnorm_exp.train.step import TrainState, make_chunk, make_step

GROUPS = {"kernel": "matrix", "table": "embedding", "gain": "gain", "bias": "bias", "alpha": "coefficient"}
SHAPES = {"kernel": (2, 5), "table": (3, 5), "gain": (5,), "bias": (5,), "alpha": ()}


class Model:
    size = sum(math.prod(shape) for shape in SHAPES.values())

    def __init__(self):
        self.specs = {name: Spec(SHAPES[name], Init("normal", 0.5), group) for name, group in GROUPS.items()}

    def init(self, seed, hypers):
        g = np.random.default_rng(int(seed))
        return {name: jnp.asarray(g.normal(size=shape), jnp.float32) for name, shape in SHAPES.items()}


class Toy(Task):
    """One site, whose tap reports the squared gradient of the mean of the inputs. Data and blocks are those of a language model."""

    scheme = catalogue.get("pre_ln")
    metrics = (Metric("loss", "squared error", "", "lower", 1.0),)
    model, labels, cost = Model(), ("toy",), ExampleCost(1, 1.0)
    spec, load, to_fetch, check = (
        staticmethod(getattr(LanguageModelling, name)) for name in ("spec", "load", "to_fetch", "check")
    )
    sites, minimum_footprint, recipe = (
        staticmethod(getattr(LanguageModelling, name)) for name in ("sites", "minimum_footprint", "recipe")
    )
    sizes, evaluated = (staticmethod(getattr(LanguageModelling, name)) for name in ("sizes", "evaluated"))

    def __init__(self, batch_size: int):
        self.batch_size = batch_size
        self.objectives = (Objective("loss", self.loss, self.weight, trivial=1.0),)

    def arrays(self, data):
        return Arrays(*(numbers(part) for part in (data.train, data.val[:99], data.test[:99])))

    def batch(self, train, seed, step):
        return jax.lax.dynamic_slice(train, (seed.astype(jnp.int32) + step * self.batch_size, 0), (self.batch_size, 3))

    def weight(self, batch):
        return float(len(batch))

    def loss(self, parameters, probes, part, weight, carried, context):
        diagnostics = {"stream_rms": jnp.mean(part)[None], "branch_ratio": jnp.ones(1)}
        return Share(jnp.sum(errors(parameters, part)) / weight, diagnostics=diagnostics, carried=carried)

    def evaluate(self, parameters, carried, part, context):
        return {"loss": WeightedSum(errors(parameters, part), jnp.ones(len(part), jnp.float32))}

    def summarise(self, statistics):
        return {name: float(value.mean) for name, value in statistics.items()}


def toy_loss(p, batch):
    return jnp.mean(errors(p, batch))


def errors(p, batch):
    """Squared, of each row."""
    return (predictions(p, batch) - batch[:, 2]) ** 2


def predictions(p, batch):
    hidden = jnp.tanh(batch[:, :2] @ p["kernel"]) * p["gain"][None] + p["bias"][None]
    kind = (jnp.abs(batch[:, 0] * 7).astype(jnp.int32)) % 3
    return p["alpha"] * jnp.sum(hidden * p["table"][kind], axis=-1)


def numbers(tokens: np.ndarray) -> np.ndarray:
    """Bytes as rows of three numbers around 0."""
    return (tokens[: len(tokens) // 3 * 3].reshape(-1, 3).astype(np.float32) - 100.0) / 30.0


class Ranked(Toy):
    """Examples of unequal weight; metrics of each kind, the primary one better higher and no sum; a count that steps carry on."""

    metrics = (
        Metric("order", "pairs in order", "", "higher", 0.5),
        Metric("loss", "squared error", "", "lower", 1.0),
        Metric("near", "share near the target", "", "higher"),
    )

    def __init__(self, shape: Shape):
        super().__init__(shape["batch_size"])

    def weight(self, batch):
        return jnp.sum(weights(batch))

    def loss(self, parameters, probes, part, weight, carried, context):
        squares = weights(part) * errors(parameters, part)
        share = super().loss(parameters, probes, part, weight, carried, context)
        near = WeightedSum(jnp.sum(jnp.where(squares < 1.0, weights(part), 0.0)), jnp.sum(weights(part)))
        seen = {"seen": carried["seen"] + len(part)}
        return replace(share, value=jnp.sum(squares) / weight, statistics={"near": near}, carried=seen)

    def evaluate(self, parameters, carried, part, context):
        squares = weights(part) * errors(parameters, part)
        return {
            "loss": WeightedSum(squares, weights(part)),
            "near": WeightedSum(jnp.where(squares < 1.0, weights(part), 0.0), weights(part)),
            "pairs": jnp.stack([predictions(parameters, part), part[:, 2]], axis=-1),
        }

    def summarise(self, statistics):
        values = {name: float(value.mean) for name, value in statistics.items() if name != "pairs"}
        return values | ({"order": in_order(statistics["pairs"])} if "pairs" in statistics else {})

    def carried(self):
        return {"seen": jnp.zeros((), jnp.float32)}


def weights(part):
    """Of each row, the smallest a fortieth of the largest."""
    return 0.1 + jnp.minimum(jnp.abs(part[:, 1]), 3.9)


def in_order(pairs: np.ndarray) -> float:
    """The share of pairs of examples whose predictions are in the order of their targets. Rounding makes no order."""
    ours, theirs = (column[:, None] - column[None, :] for column in pairs.astype(np.float64).T)
    return float(np.mean((np.sign(ours) * (np.abs(ours) > 1e-3) == np.sign(theirs))[theirs != 0]))


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


def take_the_place_of_lm(patch: pytest.MonkeyPatch) -> None:
    """`Ranked` is the task `lm`. Its shapes are those of `lm`, so the programs of other tests are put away."""
    patch.setitem(tasks.TASKS, "lm", Ranked)
    patch.setattr(programs, "_PROGRAMS", {})
    patch.setattr(device_data, "_TRAINING", {})
