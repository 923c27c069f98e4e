"""Language modelling: predict the next token; nats a token, and bits per byte where tokens are bytes."""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp

from addnorm_exp.config.schema import Config, DataConfig
from addnorm_exp.data import corpus
from addnorm_exp.data.batches import fixed_windows, training_batch, window_count
from addnorm_exp.data.corpus import Corpus
from addnorm_exp.data.spec import DataSpec
from addnorm_exp.experiment import Experiment, Shape
from addnorm_exp.nn.footprint import Footprint, Outline, footprint, matrix_entries
from addnorm_exp.nn.functional import Functional, Parameters
from addnorm_exp.nn.head import token_losses
from addnorm_exp.nn.models import Decoder, hidden_units
from addnorm_exp.nn.stack import Architecture
from addnorm_exp.residual import Context, Depths, Site, sites
from addnorm_exp.residual.recipe import Recipe, Weights, recipe
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
        arch = self.arch = architecture(shape)
        tied = shape["model.tie_embeddings"]
        self.batch_size, self.windows_at_most = shape["batch_size"], shape["eval.sequences"]
        self.dtype = jnp.dtype(shape["model.compute_dtype"])
        self.model = Functional(lambda rngs: Decoder(self.scheme, arch, VOCAB, self.length, tied=tied, rngs=rngs))
        self.labels = self.model.module.labels
        self.objectives = (Objective("loss", self.loss, targets_of, UNIFORM),)
        matrices = matrix_entries(spec for path, spec in self.model.specs.items() if "/blocks/" in path)
        self.cost = outline(shape).cost(matrices)

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
    def check(experiment: Experiment, spec: DataSpec) -> None:
        corpus.check_lengths(spec, experiment.config.seq_len)

    @staticmethod
    def remarks(experiment: Experiment, spec: DataSpec) -> tuple[str, ...]:
        wanted, length = experiment.config.eval.sequences, experiment.config.seq_len
        counts = {
            split: window_count(size, wanted, length) for split, size in (("validation", spec.val), ("test", spec.test))
        }
        if min(counts.values()) == wanted:
            return ()
        listed = " and ".join(counted(count, f"{split} window") for split, count in counts.items())
        return (f"{spec.name} has {listed} of seq_len={length}: all are used, fewer than eval.sequences={wanted}",)

    @staticmethod
    def sites(config: Config) -> tuple[Site, ...]:
        return sites("decoder", Depths(decoder=config.model.depth))

    @staticmethod
    def least(shape: Shape) -> Footprint:
        itemsize = jnp.dtype(shape["model.compute_dtype"]).itemsize
        return footprint(shape.scheme, outline(shape), itemsize=itemsize)

    @staticmethod
    def recipe(experiment: Experiment) -> Recipe:
        config, arch = experiment.config, architecture(experiment.shape)
        weights = Weights(
            arch.law,
            arch.width,
            arch.hidden,
            VOCAB,
            gated=arch.activation == "swiglu",
            tied=config.model.tie_embeddings,
            rotary=arch.rotary,
            depth_scaled=arch.depth_scaled,
            hypers={"gain": config.init.gain, "std": config.init.std},
        )
        return recipe(experiment.scheme, experiment.sites, weights)

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
        losses, log_z, diagnostics, carried = self._predict(parameters, probes, part, carried, context)
        value, factor = jnp.sum(losses) / weight, self.scheme.around.z_loss
        if factor and context.train:
            # By its gradient alone: what is recorded and compared stays the cross-entropy.
            penalty = factor * (jnp.sum(jnp.square(log_z)) / weight)
            value = value + (penalty - jax.lax.stop_gradient(penalty))
        return Share(value, diagnostics=diagnostics, carried=carried)

    def evaluate(self, parameters: Parameters, carried: Carried, part: jax.Array, context: Context) -> Statistics:
        windows = part.astype(jnp.int32)
        probes = jnp.zeros(len(self.labels), jnp.float32)
        losses, *_ = self._predict(parameters, probes, (windows[:, :-1], windows[:, 1:]), carried, context)
        sums = jnp.sum(losses.reshape(-1, self.length), axis=-1)
        return {"loss": WeightedSum(sums, jnp.full_like(sums, self.length))}

    def _predict(
        self, parameters: Parameters, probes: jax.Array, part: Pair, carried: Carried, context: Context
    ) -> tuple[jax.Array, jax.Array, dict[str, jax.Array], Carried]:
        """The loss of each token and log Z, each (batch · length,), the diagnostics, and the running state after the pass."""
        inputs, targets = part
        context = replace(context, batch=inputs.shape[0])
        module = self.model.bind(parameters, carried)
        logits, diagnostics = module(inputs, context, probes, self.dtype)
        return *token_losses(logits, targets), diagnostics, self.model.running(module)

    def carried(self) -> Carried:
        return dict(self.model.first_running)

    def summarise(self, statistics: Statistics) -> dict[str, float]:
        loss = float(statistics["loss"].mean)
        return {"loss": loss, "bpb": loss / math.log(2.0)}


def targets_of(batch: Pair) -> float:
    """The number of predicted tokens in a batch."""
    return float(batch[1].size)


def outline(shape: Shape) -> Outline:
    return Outline.of_decoder(architecture(shape), VOCAB, shape["seq_len"], tied=shape["model.tie_embeddings"])


def architecture(shape: Shape) -> Architecture:
    width = shape["model.width"]
    return Architecture(
        depth=shape["model.depth"],
        width=width,
        num_heads=shape["model.num_heads"],
        hidden=hidden_units(width, shape["model.mlp_ratio"]),
        activation=shape["model.activation"],
        rotary=shape["model.positions"] == "rotary",
        bias=shape["model.bias"],
        law=shape["init.law"] or shape.scheme.law,
        depth_scaled=shape["init.depth_scaled"],
        attention=shape["execution.attention"],
        scan_layers=shape["execution.scan_layers"],
    )
