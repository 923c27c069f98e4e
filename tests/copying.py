"""A task that a Transformer must use its attention for: the second half of a sequence repeats the first."""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from of_config import hypers, initial_state, make_step
from training import config as tiny

from addnorm_exp.nn.functional import Functional
from addnorm_exp.nn.models import Decoder
from addnorm_exp.nn.stack import Architecture
from addnorm_exp.residual import Scheme
from addnorm_exp.tasks.lm import LanguageModelling
from addnorm_exp.tasks.task import Objective, Share
from addnorm_exp.train.calibration import calibrated
from addnorm_exp.train.step import TrainState, make_chunk

SYMBOLS, PREFIX, SEQUENCES = 8, 4, 32
PART = 25  # steps of one dispatch


class Copying(LanguageModelling):
    """The loss is over the repeated half alone. The data are not looked at."""

    chance = math.log(SYMBOLS)

    def __init__(self, scheme: Scheme, depth: int = 2, width: int = 32, scan: str = "auto"):
        arch = Architecture(depth=depth, width=width, num_heads=4, hidden=2 * width, law=scheme.law, scan_layers=scan)
        length = 2 * PREFIX - 1
        self.scheme = scheme
        self.model = Functional(lambda rngs: Decoder(scheme, arch, SYMBOLS, length, tied=False, rngs=rngs))
        self.labels = self.model.module.labels
        self.objectives = (Objective("loss", self.loss, lambda batch: float(batch[1].size)),)

    def batch(self, train, seed, step):
        key = jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), step)
        prefix = jax.random.randint(key, (SEQUENCES, PREFIX), 0, SYMBOLS)
        whole = jnp.concatenate([prefix, prefix], axis=1)
        return whole[:, :-1], whole[:, PREFIX:]

    def loss(self, parameters, probes, part, weight, carried, context):
        inputs, targets = part
        logits, stats = self.model.bind(parameters)(inputs, replace(context, batch=len(inputs)), probes)
        log_probabilities = jax.nn.log_softmax(logits.reshape(*inputs.shape, SYMBOLS)[:, PREFIX - 1 :])
        value = -jnp.sum(jnp.take_along_axis(log_probabilities, targets[..., None], -1)) / weight
        return Share(value, diagnostics=stats, carried=carried)


def start(task: Copying, numbers) -> TrainState:
    """The state before step 0 as the loop makes it: drawn, projected, and set from the first batch where the scheme wants that."""
    state = initial_state(task, numbers)
    first = task.batch(None, numbers["data.seed"], jnp.int32(0))
    return replace(state, parameters=calibrated(task, state.parameters, first))


def train(task: Copying, steps: int, until: float = 0.0, **changes):
    """The real training step: states before step 0, after step 3 and at the end, and the loss of every later step. The end is
    after `steps`, or as soon as the mean loss of 20 steps is below `until`."""
    changes = {"optim__lr": 3e-3, "optim__warmup": 20, "optim__weight_decay": 0.0, **changes}
    config = tiny(steps=steps, execution__diagnostics=False, **changes)
    numbers = hypers(config)
    run = jax.jit(make_chunk(make_step(config, task, lambda batch: batch), PART))
    states, losses = [start(task, numbers)], np.zeros(0)
    counts = [3, *[PART] * ((steps - 3) // PART), (steps - 3) % PART]
    for count in filter(None, counts):
        state, metrics = run(states[-1], numbers, jnp.zeros(()), count, jnp.zeros(PART, jnp.bool_))
        states = [*states[:2], state]
        losses = np.concatenate([losses, metrics["loss"][:count]])
        if len(losses) > 3 + 20 and losses[-20:].mean() < until:
            break
    return states, losses[3:]
