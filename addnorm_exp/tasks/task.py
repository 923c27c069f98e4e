"""What training asks of a task: batches, a loss, and how to name and compare it. One file a task; see lm.py."""

from typing import Any, Protocol

import jax
import numpy as np

from addnorm_exp.config.schema import Config
from addnorm_exp.experiment import Experiment, Shape
from addnorm_exp.nn.footprint import Footprint
from addnorm_exp.nn.functional import Functional, Parameters
from addnorm_exp.residual import Context, Scheme, Site
from addnorm_exp.residual.recipe import Recipe


class Task(Protocol):
    """A task of one shape, whose functions are compiled into a program."""

    scheme: Scheme
    model: Functional
    labels: tuple[str, ...]  # of the sites
    uniform_loss: float  # of the uniform prediction: what a diverged run scores
    flops_per_token: float

    def __init__(self, shape: Shape): ...

    @staticmethod
    def sites(config: Config) -> tuple[Site, ...]:
        """The blocks of the model of a config, first to last."""
        ...

    @staticmethod
    def least(shape: Shape) -> Footprint:
        """The least that the model takes up, without building it."""
        ...

    @staticmethod
    def recipe(experiment: Experiment) -> Recipe:
        """What the scheme brings beside its method (residual/recipe.py), without building the model."""
        ...

    def batch(self, corpus: jax.Array, seed: jax.Array, step: jax.Array) -> Any:
        """The training batch of this step, a pytree of arrays (batch, …); a pure function, called inside the program."""
        ...

    def loss(
        self, parameters: Parameters, probes: jax.Array, batch: Any, context: Context
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Mean loss over the batch, and statistics by site."""
        ...

    def windows(self, tokens: np.ndarray) -> np.ndarray:
        """The fixed evaluation examples of a split, (examples, …): `eval.sequences`, or as many as there are."""
        ...

    def examples(self, windows: jax.Array) -> Any:
        """Evaluation examples as a batch."""
        ...

    def metrics(self, loss: float) -> dict[str, float]:
        """The loss under its names: always `loss` (nats a token), and what the field reports."""
        ...
