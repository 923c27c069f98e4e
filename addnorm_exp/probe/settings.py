"""The two settings of the probe: a real batch through the decoder that is trained, and the setting of the theorems."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from addnorm_exp.config import Config, override
from addnorm_exp.experiment import Shape
from addnorm_exp.nn.functional import Functional, Parameters
from addnorm_exp.nn.head import token_losses
from addnorm_exp.nn.stack import Architecture, Stack
from addnorm_exp.probe import draws
from addnorm_exp.residual import Context, Depths, Scheme, sites
from addnorm_exp.tasks import make_task, minimum_footprint, resolve
from addnorm_exp.train.calibration import calibrated, calibrated_by

HEADS = 4
TOKENS = 64  # of a sequence
SEQUENCES = 2
CLASSES = 512  # of the theory's random labels
MODEL = override(
    Config(),
    {"seq_len": TOKENS, "batch_size": SEQUENCES, "model.num_heads": HEADS, "model.activation": "relu"},
)


@dataclass(frozen=True)
class Problem:
    """One stack at init, its inputs and the loss on its output. Arrays have a leading axis of seeds.

    `inputs` (seeds, tokens, width) open the stack. `targets` are the second argument of `loss(y, targets)` for each seed, where y is the
    closed stream (tokens, width) and the loss a mean cross-entropy in nats.
    """

    stack: Stack
    inputs: jax.Array
    targets: Any
    loss: Callable[[jax.Array, Any], jax.Array]
    context: Context


def batch(scheme: str, depth: int, width: int, seeds: int, text: np.ndarray) -> Problem:
    """The decoder of configs/lm.py with `depth` blocks, ReLU and the scheme's own init law, on `SEQUENCES` windows of a corpus (uint8)."""
    task = make_task(_shape(scheme, depth, width))
    numbers = jnp.arange(seeds, dtype=jnp.int32)
    corpus = jnp.asarray(text)
    tokens, labels = jax.vmap(lambda seed: task.batch(corpus, seed, jnp.int32(0)))(numbers)
    parameters = _projected(task.scheme, task.model, task.model.init_by_seed(seeds, draws=draws.values))
    if task.scheme.calibrate:
        parameters = jax.vmap(lambda values, batch: calibrated(task, values, batch))(parameters, (tokens, labels))
    context = Context(step=jnp.int32(0), batch=SEQUENCES, diagnostics=True, attention_statistics=True)
    model = task.model.bind(parameters)
    (enters, embedding), (leaves, head) = nnx.split(model.embedding), nnx.split(model.head)

    def enter(values: nnx.State, tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
        embedding = nnx.merge(enters, values)
        return embedding(tokens, context, jnp.dtype("float32")), embedding.table

    inputs, tables = jax.vmap(enter)(embedding, tokens)
    return Problem(model.decoder, inputs, (head, tables, labels), OfHead(leaves), context)


def _projected(scheme: Scheme, model: Functional, drawn: Parameters) -> Parameters:
    return jax.vmap(partial(scheme.projected, model.specs))(drawn) if scheme.project else drawn


def needed(scheme: str, depth: int, width: int, seeds: int) -> dict[str, int]:
    """A lower bound on the memory of the probe at this depth, in bytes by part: parameters in float32, and as much again for the backward
    pass, which keeps a copy of most matrices."""
    return {"parameters, twice": 2 * 4 * seeds * minimum_footprint(_shape(scheme, depth, width)).parameters}


def _shape(scheme: str, depth: int, width: int) -> Shape:
    return resolve(override(MODEL, {"scheme": scheme, "model.depth": depth, "model.width": width})).shape


def theory(scheme: Scheme, depth: int, width: int, seeds: int) -> Problem:
    """Xiong et al. 2020 (2002.04745), section 3: uniform attention over all tokens, no output projection, a ReLU feed-forward as wide as
    the stream, weights N(0, 1/width) times the scheme's own multipliers, inputs of unit variance, random labels.

    The code is that of every model, here a decoder without embedding and head. Queries are zero, which makes attention uniform, and
    output projections are the identity. The scheme projects and calibrates these parameters as before training.
    """
    arch = Architecture(depth, width, HEADS, width, activation="relu", bias=False, law="normal")
    places = sites("decoder", Depths(decoder=depth))
    model = Functional(lambda rngs: _Alone(Stack(scheme, places, arch, causal=False, rngs=rngs)))
    labels = tuple(label for block in model.module.decoder.labels for label in block)
    drawn = model.init_by_seed(seeds, {"gain": 1.0, "std": 1 / math.sqrt(width)}, draws.values)
    attention = {path: spec for path, spec in model.specs.items() if spec.site and spec.site.kind == "attention"}
    for path, spec in attention.items():
        if (spec.part, spec.name) == ("sublayer", "out/kernel"):
            drawn[path] = jnp.broadcast_to(spec.init.scale * jnp.eye(width, dtype=jnp.float32), drawn[path].shape)
    # Queries last: a zero vector cannot be projected onto a sphere.
    silent = {path: jnp.zeros_like(drawn[path]) for path, spec in attention.items() if spec.name == "query/kernel"}
    parameters = {**_projected(scheme, model, drawn), **silent}
    keys = jax.vmap(lambda seed: jax.random.key(seed, impl="threefry2x32"))(jnp.arange(seeds, dtype=jnp.int32))

    def draw(key: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        of_inputs, of_head, of_labels = jax.random.split(key, 3)
        inputs = jax.random.normal(of_inputs, (SEQUENCES * TOKENS, width), jnp.float32)
        head = jax.random.normal(of_head, (width, CLASSES), jnp.float32) / math.sqrt(width)
        return inputs, (head, jax.random.randint(of_labels, (SEQUENCES * TOKENS,), 0, CLASSES, jnp.int32))

    def settled(values: Parameters, x: jax.Array) -> Parameters:
        def statistics(values: Parameters, context: Context) -> dict[str, jax.Array]:
            return model.bind(values).decoder(x, replace(context, batch=SEQUENCES))[1]

        return calibrated_by(scheme, model.specs, labels, statistics, values)

    inputs, targets = jax.vmap(draw)(keys)
    if scheme.calibrate:
        parameters = jax.vmap(settled)(parameters, inputs)
    context = Context(step=jnp.int32(0), batch=SEQUENCES, diagnostics=True, attention_statistics=True)
    return Problem(model.bind(parameters).decoder, inputs, targets, of_matrix, context)


class _Alone(nnx.Module):
    """A stack under its name in a model: projection, calibration and initial values depend on the paths of parameters."""

    def __init__(self, stack: Stack):
        self.decoder = stack


@dataclass(frozen=True)
class OfHead:
    """The loss of a model's head; equal for heads of one structure, so that stacks of all depths share its compiled program."""

    graph: nnx.GraphDef

    def __call__(self, y: jax.Array, targets: tuple[nnx.State, jax.Array, jax.Array]) -> jax.Array:
        head, table, labels = targets
        return cross_entropy(nnx.merge(self.graph, head)(y, table), labels)


def of_matrix(y: jax.Array, targets: tuple[jax.Array, jax.Array]) -> jax.Array:
    """The loss of a plain matrix (width, classes) as the head."""
    head, labels = targets
    return cross_entropy(y @ head, labels)


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The mean over tokens, in nats."""
    return jnp.mean(token_losses(logits, labels)[0])
