"""Language modelling: predict the next token; nats a token, and bits per byte where tokens are bytes."""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp

from addnorm_exp.config.lengths import Sizes
from addnorm_exp.config.schema import Config
from addnorm_exp.config.tasks.task import DataConfig
from addnorm_exp.data import corpus
from addnorm_exp.data.batches import fixed_windows, training_batch, window_count
from addnorm_exp.data.corpus import Corpus
from addnorm_exp.data.spec import DataSpec
from addnorm_exp.experiment import Experiment, Shape
from addnorm_exp.nn.footprint import Footprint, Outline, footprint, matrix_entries
from addnorm_exp.nn.functional import Functional, Parameters
from addnorm_exp.nn.head import objective, token_losses
from addnorm_exp.nn.models import Decoder
from addnorm_exp.residual import Context, Depths, Site, sites
from addnorm_exp.residual.recipe import Recipe, recipe
from addnorm_exp.tasks.architecture import architecture, weights
from addnorm_exp.tasks.metrics import Metric, WeightedSum
from addnorm_exp.tasks.task import Arrays, Carried, Objective, Share, Statistics, Task
from addnorm_exp.words import counted

VOCAB = 256  # bytes
UNIFORM = math.log(VOCAB)  # the loss of the uniform prediction

Pair = tuple[jax.Array, jax.Array]  # inputs and targets, each (batch, length)


class LanguageModelling(Task):
    """A decoder on a stream of bytes."""

    metrics = (
        Metric("bpb", "bits per byte", "bits/byte", "lower", UNIFORM / math.log(2.0), "uniform", rescales="loss"),
        Metric("loss", "loss (nats per token)", "", "lower", UNIFORM, "uniform"),
    )

    def __init__(self, shape: Shape):
        self.scheme, self.length = shape.scheme, shape["seq_len"]
        self.arch, self.tied = architecture(shape), shape["model.tie_embeddings"]
        self.batch_size, self.windows_at_most = shape["batch_size"], shape["eval.sequences"]
        self.dtype = jnp.dtype(shape["model.compute_dtype"])
        self.model = self.decoder()
        self.labels = self.model.module.labels
        self.objectives = (Objective("loss", self.loss, targets_of, UNIFORM),)
        matrices = matrix_entries(self.model.specs.values())
        self.cost = outline_of(shape).cost(matrices)

    def decoder(self, cache: tuple[int, int] | None = None) -> Functional[Decoder]:
        """The model; with `cache` (sequences, tokens) one of the same parameters that decodes by steps."""
        arch = replace(self.arch, cache=cache)
        return Functional(lambda rngs: Decoder(self.scheme, arch, VOCAB, self.length, tied=self.tied, rngs=rngs))

    @staticmethod
    def spec(config: DataConfig) -> DataSpec:
        return corpus.spec(config)

    @staticmethod
    def load(config: DataConfig) -> Corpus:
        return corpus.load(config)

    @staticmethod
    def to_fetch(config: DataConfig) -> str | None:
        return corpus.to_fetch(config)

    @staticmethod
    def sizes(spec: DataSpec, seq_len: int) -> Sizes:
        """Windows are drawn with replacement: an epoch is as many tokens as the training split has."""
        return Sizes(max(1, spec.train // seq_len), seq_len)

    @staticmethod
    def check(experiment: Experiment, spec: DataSpec) -> None:
        corpus.check_lengths(spec, experiment.config.seq_len)

    @staticmethod
    def evaluated(config: Config, spec: DataSpec) -> dict[str, int]:
        wanted, length = config.eval.sequences, config.seq_len
        return {"val": window_count(spec.val, wanted, length), "test": window_count(spec.test, wanted, length)}

    @staticmethod
    def remarks(experiment: Experiment, spec: DataSpec) -> tuple[str, ...]:
        wanted, length = experiment.config.eval.sequences, experiment.config.seq_len
        counts = LanguageModelling.evaluated(experiment.config, spec)
        if wanted is None or min(counts.values()) == wanted:
            return ()
        listed = f"{counted(counts['val'], 'validation window')} and {counted(counts['test'], 'test window')}"
        return (f"{spec.name} has {listed} of seq_len={length}: all are used, fewer than eval.sequences={wanted}",)

    @staticmethod
    def sites(config: Config) -> tuple[Site, ...]:
        return sites("decoder", Depths(decoder=config.model.depth))

    @staticmethod
    def minimum_footprint(shape: Shape) -> Footprint:
        return footprint(shape.scheme, outline_of(shape), itemsize=jnp.dtype(shape["model.compute_dtype"]).itemsize)

    @staticmethod
    def recipe(experiment: Experiment) -> Recipe:
        given = weights(experiment, VOCAB, tied=experiment.config.model.tie_embeddings)
        return recipe(experiment.scheme, experiment.sites, given)

    def arrays(self, data: Corpus) -> Arrays:
        windows = (fixed_windows(part, self.windows_at_most, self.length) for part in (data.val, data.test))
        return Arrays(data.train, *windows)

    def batch(self, train: jax.Array, seed: jax.Array, step: jax.Array) -> Pair:
        return training_batch(train, seed, step, self.batch_size, self.length)

    def loss(
        self,
        parameters: Parameters,
        probes: jax.Array,
        part: Pair,
        weight: float,
        carried: Carried,
        context: Context,
    ) -> Share:
        inputs, targets = part
        logits, diagnostics, carried = self._predict(parameters, probes, inputs, carried, context)
        losses, log_z = token_losses(logits, targets)
        z_loss = self.scheme.around.z_loss if context.train else 0.0
        return Share(objective(losses, log_z, weight, z_loss), diagnostics=diagnostics, carried=carried)

    def evaluate(self, parameters: Parameters, carried: Carried, part: jax.Array, context: Context) -> Statistics:
        windows = part.astype(jnp.int32)
        probes = jnp.zeros(len(self.labels), jnp.float32)
        logits, *_ = self._predict(parameters, probes, windows[:, :-1], carried, context)
        return self.statistics(logits, windows[:, 1:])

    def statistics(self, logits: jax.Array, targets: jax.Array) -> Statistics:
        """Those of each window: logits (windows · length, vocabulary), targets (windows, length)."""
        losses, _ = token_losses(logits, targets)
        sums = jnp.sum(losses.reshape(targets.shape), axis=-1)
        return {"loss": WeightedSum(sums, jnp.full_like(sums, self.length))}

    def _predict(
        self, parameters: Parameters, probes: jax.Array, inputs: jax.Array, carried: Carried, context: Context
    ) -> tuple[jax.Array, dict[str, jax.Array], Carried]:
        """Logits (batch · length, vocabulary), the diagnostics, and the running state after the pass."""
        module = self.model.bind(parameters, carried)
        logits, diagnostics = module(inputs, self.context_of(inputs, context), probes, self.dtype)
        return logits, diagnostics, self.model.running(module)

    def carried(self) -> Carried:
        return dict(self.model.first_running)

    def summarise(self, statistics: Statistics) -> dict[str, float]:
        means = {name: float(sums.mean) for name, sums in statistics.items()}
        return {**means, "bpb": means["loss"] / math.log(2.0)}


def targets_of(batch: Pair) -> float:
    """The number of predicted tokens in a batch."""
    return float(batch[1].size)


def outline_of(shape: Shape) -> Outline:
    return Outline.of_decoder(architecture(shape), VOCAB, shape["seq_len"], tied=shape["model.tie_embeddings"])
