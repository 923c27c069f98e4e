"""The contract of a task: batches, objectives, metrics. One file a task; see lm.py."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from addnorm_exp.config.lengths import Sizes
from addnorm_exp.config.schema import Config
from addnorm_exp.config.tasks.task import DataConfig
from addnorm_exp.data.spec import Data, DataSpec
from addnorm_exp.experiment import Experiment, Shape
from addnorm_exp.nn.footprint import ExampleCost, Footprint
from addnorm_exp.nn.functional import Functional, Parameters
from addnorm_exp.residual import Context, Scheme, Site
from addnorm_exp.residual.recipe import Recipe
from addnorm_exp.tasks.metrics import Metric, WeightedSum

Batch = Any  # a pytree of arrays (batch, …)
Weight = Any  # a pytree of numbers
Carried = dict[str, jax.Array]  # by path, like parameters, but not moved by gradients: running statistics
Statistics = Mapping[str, Any]  # name → WeightedSum, which is added up, or array, which is kept example by example


class Arrays(NamedTuple):
    """The splits as pytrees of NumPy arrays. `train` is what `Task.batch` draws from; `val` and
    `test` are the examples that are evaluated, (examples, …), in order."""

    train: Any
    val: Any
    test: Any


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Share:
    """What one micro-batch contributes to an objective.

    `value` is its part of the objective. It is already divided by the weight of the step's whole
    batch, so the parts of all micro-batches add up to the objective, and so do their gradients.
    `statistics` are sums of further metrics of training. `diagnostics` are measured by site:
    quantity → (sites,); the record has their mean over micro-batches. `carried` is handed on to the
    next micro-batch and step.
    """

    value: jax.Array
    statistics: dict[str, WeightedSum] = field(default_factory=dict)
    diagnostics: dict[str, jax.Array] = field(default_factory=dict)
    carried: Carried = field(default_factory=dict)


class Loss(Protocol):
    def __call__(
        self,
        parameters: Parameters,
        probes: jax.Array,
        part: Batch,
        weight: Weight,
        carried: Carried,
        context: Context,
    ) -> Share:
        """The share of a micro-batch. `weight` is that of the whole batch."""
        ...


@dataclass(frozen=True)
class Objective:
    """What a step moves the parameters by.

    `weight` is a function of a step's whole batch, without parameters, and above 0: it is known
    before differentiation. Where shapes alone determine it, it must be a Python number: XLA divides
    by a constant and by a traced number differently in the last bit.
    """

    name: str  # of a metric of the task
    loss: Loss
    weight: Callable[[Batch], Weight]
    trivial: float | None = (
        None  # the loss of the trivial prediction, in whose multiples the divergence bound is; None: no bound
    )


class Task(ABC):
    """A task of one shape, whose functions are compiled into a program."""

    scheme: Scheme
    model: Functional
    labels: tuple[str, ...]  # of the sites
    metrics: tuple[
        Metric, ...
    ]  # every evaluation gives them all; the first is primary: runs are selected and compared by it
    objectives: tuple[Objective, ...]  # one: a step has one optimiser state
    cost: ExampleCost  # of one training example
    encoding: Hashable = ()  # what the training arrays depend on beside the data

    # Why the loss of a batch is not the sum over its parts (a comparison of all pairs); then a step has one micro-batch.
    coupled: ClassVar[str | None] = None

    @abstractmethod
    def __init__(self, shape: Shape): ...

    # Known without a model.

    @staticmethod
    @abstractmethod
    def spec(config: DataConfig) -> DataSpec:
        """What is known of the data that the config names. Raises UserError if they cannot be
        used."""

    @staticmethod
    @abstractmethod
    def load(config: DataConfig) -> Data:
        """The data, fetched on first use. Raises UserError if they cannot be had or used."""

    @staticmethod
    def read_as(data: Any, trained_on: Callable[[], Any]) -> Any:
        """Other data as a model reads them: in the vocabulary and classes of the data that it was trained on. Raises UserError if it
        cannot read them."""
        del trained_on
        return data

    @staticmethod
    @abstractmethod
    def to_fetch(config: DataConfig) -> str | None:
        """What must be fetched before the data can be loaded, in words; None if they are here."""

    @staticmethod
    def form(config: Config) -> tuple[Any, ...]:
        """What the model is built of beside the config, from the data: sizes of vocabulary and
        classes. It becomes `Shape.form`."""
        del config
        return ()

    @staticmethod
    @abstractmethod
    def sizes(spec: DataSpec, seq_len: int) -> Sizes:
        """The examples in an epoch of these data, and the tokens of an example."""

    @staticmethod
    @abstractmethod
    def evaluated(config: Config, spec: DataSpec) -> dict[str, int]:
        """How many examples of these data an evaluation takes, by split: val, test."""

    @staticmethod
    @abstractmethod
    def check(experiment: Experiment, spec: DataSpec) -> None:
        """Raises UserError if the data do not suit the config, e.g. if a split is too short."""

    @staticmethod
    def remarks(experiment: Experiment, spec: DataSpec) -> tuple[str, ...]:
        """What the user should know about these data under this config, a line each."""
        del experiment, spec
        return ()

    @staticmethod
    @abstractmethod
    def sites(config: Config) -> tuple[Site, ...]:
        """The blocks of the model of a config, first to last."""

    @staticmethod
    @abstractmethod
    def minimum_footprint(shape: Shape) -> Footprint:
        """A lower bound on what the model takes up, without building it."""

    @staticmethod
    @abstractmethod
    def recipe(experiment: Experiment) -> Recipe:
        """What the scheme brings beside its method (residual/recipe.py), without building the
        model."""

    # On the host.

    @abstractmethod
    def arrays(self, data: Any) -> Arrays:
        """The splits as arrays."""

    @abstractmethod
    def summarise(self, statistics: Statistics) -> dict[str, float]:
        """Name → metric, in float64. Called for the statistics of a training step, where the
        objective is a sum under its name, and for those of an evaluation."""

    # Inside the program: pure functions.

    @abstractmethod
    def batch(self, train: Any, seed: jax.Array, step: jax.Array) -> Batch:
        """The training batch of this step."""

    @abstractmethod
    def evaluate(self, parameters: Parameters, carried: Carried, part: Any, context: Context) -> Statistics:
        """Statistics of each of some examples, (examples, …): a WeightedSum, or a row that `summarise`
        needs as it is."""

    def outputs(self, parameters: Parameters, tokens: jax.Array, context: Context) -> jax.Array:
        """What the model makes of any tokens, (batch, length): the logits."""
        return self.model.bind(parameters)(tokens, context)[0]

    def context_of(self, tokens: jax.Array, context: Context) -> Context:
        """The context of a pass over these tokens, (batch, length)."""
        return replace(context, batch=tokens.shape[0])

    def carried(self) -> Carried:
        """The carried state before step 0, e.g. the running state of a module."""
        return {}

    def diagnostics(
        self, parameters: Parameters, carried: Carried, batch: Batch, context: Context
    ) -> dict[str, jax.Array]:
        """What the context asks to be measured by site on a batch, quantity → (sites,)."""
        (objective,) = self.objectives
        probes = jnp.zeros(len(self.labels), jnp.float32)
        return objective.loss(parameters, probes, batch, objective.weight(batch), carried, context).diagnostics
