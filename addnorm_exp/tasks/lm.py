"""Language modelling: predict the next token; nats a token, and bits per byte where tokens are bytes."""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from addnorm_exp.config.schema import Config
from addnorm_exp.data.batches import fixed_windows, training_batch
from addnorm_exp.experiment import Experiment, Shape
from addnorm_exp.nn.footprint import Footprint, footprint
from addnorm_exp.nn.functional import Functional, Parameters
from addnorm_exp.nn.head import token_losses
from addnorm_exp.nn.models import Decoder, flops_per_token, hidden_units, matrix_entries
from addnorm_exp.nn.stack import Architecture
from addnorm_exp.residual import Context, Depths, Site, sites
from addnorm_exp.residual.recipe import Recipe, Weights, recipe

VOCAB = 256  # bytes


class LanguageModelling:
    """A decoder on a stream of bytes. Implements `tasks.task.Task`."""

    def __init__(self, shape: Shape):
        self.scheme, self.length = shape.scheme, shape["seq_len"]
        arch = self.arch = architecture(shape)
        tied = shape["model.tie_embeddings"]
        self.batch_size, self.windows_at_most = shape["batch_size"], shape["eval.sequences"]
        self.dtype = jnp.dtype(shape["model.compute_dtype"])
        self.model = Functional(lambda rngs: Decoder(self.scheme, arch, VOCAB, self.length, tied=tied, rngs=rngs))
        self.labels = self.model.module.labels
        self.uniform_loss = math.log(VOCAB)
        matrices = matrix_entries(spec for path, spec in self.model.specs.items() if "/blocks/" in path)
        self.flops_per_token = flops_per_token(matrices, arch, self.length, VOCAB)

    @staticmethod
    def sites(config: Config) -> tuple[Site, ...]:
        return sites("decoder", Depths(decoder=config.model.depth))

    @staticmethod
    def least(shape: Shape) -> Footprint:
        itemsize = jnp.dtype(shape["model.compute_dtype"]).itemsize
        tied = shape["model.tie_embeddings"]
        arch = architecture(shape)
        return footprint(shape.scheme, arch, VOCAB, shape["seq_len"], tied=tied, itemsize=itemsize)

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

    def batch(self, corpus: jax.Array, seed: jax.Array, step: jax.Array) -> tuple[jax.Array, jax.Array]:
        return training_batch(corpus, seed, step, self.batch_size, self.length)

    def loss(
        self, parameters: Parameters, probes: jax.Array, batch: tuple[jax.Array, jax.Array], context: Context
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        inputs, targets = batch
        context = replace(context, batch=inputs.shape[0])
        logits, stats = self.model.bind(parameters)(inputs, context, probes, self.dtype)
        losses, log_z = token_losses(logits, targets)
        loss, weight = jnp.mean(losses), self.scheme.around.z_loss
        if weight and context.train:
            # By its gradient alone: what is recorded and compared stays the cross-entropy.
            penalty = weight * jnp.mean(jnp.square(log_z))
            loss = loss + (penalty - jax.lax.stop_gradient(penalty))
        return loss, stats

    def windows(self, tokens: np.ndarray) -> np.ndarray:
        return fixed_windows(tokens, self.windows_at_most, self.length)

    def examples(self, windows: jax.Array) -> tuple[jax.Array, jax.Array]:
        windows = windows.astype(jnp.int32)
        return windows[:, :-1], windows[:, 1:]

    def metrics(self, loss: float) -> dict[str, float]:
        return {"loss": loss, "bpb": loss / math.log(2.0)}


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
