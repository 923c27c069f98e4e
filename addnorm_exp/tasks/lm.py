"""Language modelling: predict the next token; nats a token, and bits per byte where tokens are bytes."""

import math
from dataclasses import replace
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np

from addnorm_exp.config import scheme
from addnorm_exp.config.schema import Config
from addnorm_exp.data.batches import fixed_windows, training_batch
from addnorm_exp.nn.attention import Implementation
from addnorm_exp.nn.footprint import Footprint, footprint
from addnorm_exp.nn.functional import Functional, Parameters
from addnorm_exp.nn.models import Decoder, flops_per_token, hidden_units, matrix_entries
from addnorm_exp.nn.stack import Architecture
from addnorm_exp.residual import Context, Scheme
from addnorm_exp.residual.recipe import Recipe, Weights, recipe

VOCAB = 256  # bytes


class LanguageModelling:
    """The decoder of a config on a stream of bytes. Implements `tasks.task.Task`."""

    def __init__(self, config: Config):
        self.config = config
        self.scheme = scheme.resolve(config)
        self.arch = architecture(config, self.scheme)
        self.dtype = jnp.dtype(config.model.compute_dtype)
        self.model = Functional(
            lambda rngs: Decoder(
                self.scheme, self.arch, VOCAB, config.seq_len, tied=config.model.tie_embeddings, rngs=rngs
            )
        )
        self.labels = self.model.module.labels
        self.uniform_loss = math.log(VOCAB)
        matrices = matrix_entries(spec for path, spec in self.model.specs.items() if "/blocks/" in path)
        self.flops_per_token = flops_per_token(matrices, self.arch, config.seq_len, VOCAB)

    @staticmethod
    def least(config: Config) -> Footprint:
        model, found = config.model, scheme.resolve(config)
        itemsize = jnp.dtype(model.compute_dtype).itemsize
        arch = architecture(config, found)
        return footprint(found, arch, VOCAB, config.seq_len, tied=model.tie_embeddings, itemsize=itemsize)

    @staticmethod
    def recipe(config: Config) -> Recipe:
        resolved = scheme.resolve(config)
        arch = architecture(config, resolved)
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
        return recipe(resolved, scheme.blocks(config), weights)

    def batch(self, corpus: jax.Array, seed: jax.Array, step: jax.Array) -> tuple[jax.Array, jax.Array]:
        return training_batch(corpus, seed, step, self.config.batch_size, self.config.seq_len)

    def loss(
        self, parameters: Parameters, probes: jax.Array, batch: tuple[jax.Array, jax.Array], context: Context
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        inputs, targets = batch
        context = replace(context, batch=inputs.shape[0])
        logits, stats = self.model.bind(parameters)(inputs, context, probes, self.dtype)
        log_z = jax.nn.logsumexp(logits, axis=-1)
        chosen = jnp.take_along_axis(logits, targets.reshape(-1, 1), axis=-1)[:, 0]
        loss, weight = jnp.mean(log_z - chosen), self.scheme.around.z_loss
        if weight and context.train:
            # By its gradient alone: what is recorded and compared stays the cross-entropy.
            penalty = weight * jnp.mean(jnp.square(log_z))
            loss = loss + (penalty - jax.lax.stop_gradient(penalty))
        return loss, stats

    def windows(self, tokens: np.ndarray) -> np.ndarray:
        return fixed_windows(tokens, self.config.eval.sequences, self.config.seq_len)

    def examples(self, windows: jax.Array) -> tuple[jax.Array, jax.Array]:
        windows = windows.astype(jnp.int32)
        return windows[:, :-1], windows[:, 1:]

    def metrics(self, loss: float) -> dict[str, float]:
        return {"loss": loss, "bpb": loss / math.log(2.0)}


def architecture(config: Config, scheme: Scheme) -> Architecture:
    model = config.model
    return Architecture(
        depth=model.depth,
        width=model.width,
        num_heads=model.num_heads,
        hidden=hidden_units(model.width, model.mlp_ratio),
        activation=model.activation,
        rotary=model.positions == "rotary",
        bias=model.bias,
        law=config.init.law or scheme.law,
        depth_scaled=config.init.depth_scaled,
        attention=cast(Implementation, config.execution.attention),  # checked at the door
        scan_layers=config.execution.scan_layers,
    )
