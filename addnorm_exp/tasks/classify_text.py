"""Text classification: which class a text has. The textbook Add & Norm network (Vaswani et al. 2017, 1706.03762, 3.1): an encoder with
padding masks, a pool of its tokens, a linear map and a softmax."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from addnorm_exp.config.lengths import Sizes
from addnorm_exp.config.schema import Config
from addnorm_exp.config.tasks.classify_text import LabelledTextConfig
from addnorm_exp.config.tasks.task import DataConfig
from addnorm_exp.data import labelled
from addnorm_exp.data.batches import spaced
from addnorm_exp.data.epochs import example_numbers
from addnorm_exp.data.labelled import LabelledText, Padded, TextSpec
from addnorm_exp.data.spec import DataSpec
from addnorm_exp.data.vocabulary import PADDING
from addnorm_exp.errors import UserError
from addnorm_exp.experiment import Experiment, Shape
from addnorm_exp.nn.footprint import Footprint, Outline, footprint, matrix_entries
from addnorm_exp.nn.functional import Functional, Parameters
from addnorm_exp.nn.head import objective, token_losses
from addnorm_exp.nn.models import Classifier
from addnorm_exp.residual import Context, Depths, Site, sites
from addnorm_exp.residual.recipe import Recipe, recipe
from addnorm_exp.tasks.architecture import architecture, weights
from addnorm_exp.tasks.metrics import Metric, WeightedSum
from addnorm_exp.tasks.task import Arrays, Carried, Objective, Share, Statistics, Task
from addnorm_exp.words import counted


class ClassifyText(Task):
    """An encoder on texts of at most `seq_len` tokens."""

    def __init__(self, shape: Shape):
        self.scheme, self.length, self.batch_size = shape.scheme, shape["seq_len"], shape["batch_size"]
        self.tokens, self.words_at_most = shape["data.tokens"], shape["data.vocabulary"]
        self.texts_at_most, self.pooling = shape["eval.sequences"], shape["task.pooling"]
        self.dtype = jnp.dtype(shape["model.compute_dtype"])
        self.encoding = self.length, self.tokens, self.words_at_most
        outline = outline_of(shape)
        vocab, classes, majority = shape.form
        self.model = Functional(
            lambda rngs: Classifier(
                self.scheme, outline.arch, vocab, self.length, classes, pooling=self.pooling, rngs=rngs
            )
        )
        self.labels = self.model.module.labels
        uniform = math.log(classes)
        self.metrics = (
            Metric("accuracy", "accuracy (%)", "%", "higher", 100.0 * majority, "most frequent class"),
            Metric("loss", "cross-entropy (nats per text)", "", "lower", uniform, "uniform"),
        )
        self.objectives = (Objective("loss", self.loss, texts_of, uniform),)
        self.cost = outline.cost(matrix_entries(self.model.specs.values()))

    @staticmethod
    def spec(config: DataConfig) -> TextSpec:
        return labelled.spec(config.name, config.path)

    @staticmethod
    def load(config: DataConfig) -> LabelledText:
        return labelled.load(config.name, config.path)

    @staticmethod
    def read_as(data: LabelledText, trained_on: Callable[[], LabelledText]) -> LabelledText:
        return labelled.read_as(data, trained_on())

    @staticmethod
    def to_fetch(config: DataConfig) -> str | None:
        return labelled.to_fetch(config.name, config.path)

    @staticmethod
    def form(config: Config) -> tuple[Any, ...]:
        """The number of token ids, that of classes, and the share of the most frequent class."""
        data = config.data
        assert isinstance(data, LabelledTextConfig)
        spec = labelled.spec(data.name, data.path)
        return spec.vocabulary(data.tokens, data.vocabulary), len(spec.classes), spec.majority

    @staticmethod
    def sizes(spec: DataSpec, seq_len: int) -> Sizes:
        return Sizes(spec.train, seq_len)

    @staticmethod
    def evaluated(config: Config, spec: DataSpec) -> dict[str, int]:
        sizes = {"val": spec.val, "test": spec.test}
        wanted = config.eval.sequences
        return sizes if wanted is None else {split: min(wanted, size) for split, size in sizes.items()}

    @staticmethod
    def check(experiment: Experiment, spec: DataSpec) -> None:
        if experiment.config.model.tie_embeddings:
            raise UserError(
                "model.tie_embeddings=True has no effect on a classifier, whose head has an output for each class; set it to false"
            )
        batch = experiment.config.batch_size
        if batch > spec.train:
            raise UserError(
                f"batch_size={batch}: {spec.name} has {spec.train:,} texts to train on, and a batch has each at most once; "
                f"use {spec.train} or less"
            )

    @staticmethod
    def remarks(experiment: Experiment, spec: DataSpec) -> tuple[str, ...]:
        config, lines = experiment.config, []
        assert isinstance(spec, TextSpec)
        assert isinstance(config.data, LabelledTextConfig)
        cut = spec.cut(config.data.tokens, config.seq_len)
        if cut:
            length = counted(config.seq_len, "token")
            lines.append(
                f"{spec.name}: {100 * cut:.0f} % of the texts or more are longer than {length} (seq_len) and are cut"
            )
        counts = ClassifyText.evaluated(config, spec)
        if counts != {"val": spec.val, "test": spec.test}:
            lines.append(
                f"{spec.name}: eval.sequences={config.eval.sequences} leaves {counts['val']:,} of {spec.val:,} validation texts and "
                f"{counts['test']:,} of {spec.test:,} test texts"
            )
        return tuple(lines)

    @staticmethod
    def sites(config: Config) -> tuple[Site, ...]:
        return sites("encoder", Depths(encoder=config.model.depth))

    @staticmethod
    def minimum_footprint(shape: Shape) -> Footprint:
        return footprint(shape.scheme, outline_of(shape), itemsize=jnp.dtype(shape["model.compute_dtype"]).itemsize)

    @staticmethod
    def recipe(experiment: Experiment) -> Recipe:
        _, classes, _ = experiment.form
        return recipe(experiment.scheme, experiment.sites, weights(experiment, classes))

    def arrays(self, data: LabelledText) -> Arrays:
        splits = labelled.padded(data, self.tokens, self.words_at_most, self.length)
        return Arrays(splits["train"], self._some(splits["val"]), self._some(splits["test"]))

    def tokens_of(self, texts: Sequence[str], data: LabelledText) -> np.ndarray:
        """Texts as the model reads them that was trained on these data, (texts, length)."""
        return labelled.vocabulary_of(data, self.tokens, self.words_at_most).padded(texts, self.length)

    def _some(self, split: Padded) -> Padded:
        count = len(split.labels)
        places = spaced(count, count if self.texts_at_most is None else min(count, self.texts_at_most))
        return Padded(*(np.ascontiguousarray(array[places]) for array in split))

    def batch(self, train: Padded, seed: jax.Array, step: jax.Array) -> Padded:
        numbers = example_numbers(train.labels.shape[0], seed, step, self.batch_size)
        return Padded(train.tokens[numbers], train.labels[numbers])

    def loss(
        self,
        parameters: Parameters,
        probes: jax.Array,
        part: Padded,
        weight: float,
        carried: Carried,
        context: Context,
    ) -> Share:
        losses, log_z, right, diagnostics, carried = self._predict(parameters, probes, part, carried, context)
        z_loss = self.scheme.around.z_loss if context.train else 0.0
        accuracy = WeightedSum(jnp.sum(right), jnp.float32(right.shape[0]))
        return Share(objective(losses, log_z, weight, z_loss), {"accuracy": accuracy}, diagnostics, carried)

    def evaluate(self, parameters: Parameters, carried: Carried, part: Padded, context: Context) -> Statistics:
        probes = jnp.zeros(len(self.labels), jnp.float32)
        losses, _, right, *_ = self._predict(parameters, probes, part, carried, context)
        return {
            "accuracy": WeightedSum(right, jnp.ones_like(right)),
            "loss": WeightedSum(losses, jnp.ones_like(losses)),
        }

    def _predict(
        self, parameters: Parameters, probes: jax.Array, part: Padded, carried: Carried, context: Context
    ) -> tuple[jax.Array, jax.Array, jax.Array, dict[str, jax.Array], Carried]:
        """The loss of each text, log Z, and 100 where the likeliest class is the text's, else 0, each float32 (batch,); the diagnostics,
        and the running state after the pass."""
        tokens = part.tokens.astype(jnp.int32)
        module = self.model.bind(parameters, carried)
        logits, diagnostics = module(tokens, self.context_of(tokens, context), probes, self.dtype)
        right = jnp.where(jnp.argmax(logits, axis=-1) == part.labels, jnp.float32(100.0), jnp.float32(0.0))
        return *token_losses(logits, part.labels), right, diagnostics, self.model.running(module)

    def context_of(self, tokens: jax.Array, context: Context) -> Context:
        return replace(super().context_of(tokens, context), mask=tokens != PADDING)

    def carried(self) -> Carried:
        return dict(self.model.first_running)

    def summarise(self, statistics: Statistics) -> dict[str, float]:
        return {name: float(sums.mean) for name, sums in statistics.items()}


def texts_of(batch: Padded) -> float:
    return float(batch.labels.shape[0])


def outline_of(shape: Shape) -> Outline:
    vocab, classes, _ = shape.form
    return Outline.of_classifier(architecture(shape), vocab, shape["seq_len"], classes)
