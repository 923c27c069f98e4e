"""Whole models from the same parts: a decoder that predicts the next token, an encoder that classifies a sequence, and both together."""

import math
from dataclasses import replace
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Float32, Int

from addnorm_exp.nn.embedding import Embedding
from addnorm_exp.nn.head import Head
from addnorm_exp.nn.stack import Architecture, Stack
from addnorm_exp.residual import Context, Depths, Scheme, Site, keys, sites
from addnorm_exp.residual import init as laws
from addnorm_exp.residual.contract import SUBLAYERS

Pooling = Literal["mean", "max"]
Probes = Float[Array, "sites ..."]  # a scalar a site: residual/taps.py


class Model(nnx.Module):
    """What all models have: an embedding, an encoder, a decoder or both under one scheme, and a head. `labels` are the names of the
    sites, in the order of probes and statistics, the encoder's first.

    A decoder beside an encoder attends to it. The head has `outputs` logits, and a kernel of its own unless it is `tied` to the
    embedding's table.
    """

    def __init__(
        self,
        scheme: Scheme,
        arch: Architecture,
        depths: Depths,
        vocab: int,
        length: int,
        outputs: int,
        *,
        tied: bool,
        bias: bool = False,
        rngs: nnx.Rngs,
    ):
        ends = Site(next(iter(depths)), kind="ends", depths=depths)
        law = None if tied else laws.head(arch.law, arch.width, outputs).under(scheme.init(ends, "head"))
        table = scheme.init(ends, "embedding")
        self.embedding = Embedding(vocab, length, arch, init=table, around=scheme.around, rngs=rngs)
        self.head = Head(arch.width, outputs, law, bias=bias, around=scheme.around, rngs=rngs)
        scheme.mark(self.embedding, ends, "embedding")
        scheme.mark(self.head, ends, "head")
        both = depths["encoder"] and depths["decoder"]
        kinds = ("attention", "cross_attention", "feed_forward") if both else SUBLAYERS
        if depths["encoder"]:
            self.encoder = Stack(scheme.of("encoder"), sites("encoder", depths), arch, causal=False, rngs=rngs)
        if depths["decoder"]:
            self.decoder = Stack(scheme.of("decoder"), sites("decoder", depths, kinds), arch, causal=True, rngs=rngs)

    @property
    def stacks(self) -> dict[str, Stack]:
        """Name → stack, in the order in which they run."""
        return {name: getattr(self, name) for name in ("encoder", "decoder") if hasattr(self, name)}

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(label for stack in self.stacks.values() for block in stack.labels for label in block)


class Decoder(Model):
    """Decoder-only Transformer: causal self-attention and feed-forward under one scheme, with a head of its own or a tied one."""

    def __init__(self, scheme: Scheme, arch: Architecture, vocab: int, length: int, *, tied: bool, rngs: nnx.Rngs):
        super().__init__(scheme, arch, Depths(decoder=arch.depth), vocab, length, vocab, tied=tied, rngs=rngs)

    def __call__(
        self,
        tokens: Int[Array, "batch length"],
        context: Context,
        probes: Probes | None = None,
        dtype: DTypeLike = jnp.float32,
    ) -> tuple[Float32[Array, "batch*length vocab"], dict[str, jax.Array]]:
        """Logits, and statistics by site."""
        x = self.embedding(tokens, context, dtype)
        y, stats = self.decoder(x, context, probes)
        return self.logits(y), stats

    def logits(self, y: Float[Array, "tokens width"]) -> Float32[Array, "tokens vocab"]:
        """What the head makes of the closed stream."""
        return self.head(y, self.embedding.table)


class Classifier(Model):
    """Encoder with padding masks, a pool over valid tokens, and a softmax head: the textbook Add & Norm network (Vaswani 2017, 3.1, under
    `post_ln`)."""

    def __init__(
        self,
        scheme: Scheme,
        arch: Architecture,
        vocab: int,
        length: int,
        classes: int,
        *,
        pooling: Pooling = "mean",
        rngs: nnx.Rngs,
    ):
        depths = Depths(encoder=arch.depth)
        self.pooling = pooling
        super().__init__(scheme, arch, depths, vocab, length, classes, tied=False, bias=True, rngs=rngs)

    def __call__(
        self,
        tokens: Int[Array, "batch length"],
        context: Context,
        probes: Probes | None = None,
        dtype: DTypeLike = jnp.float32,
    ) -> tuple[Float32[Array, "batch classes"], dict[str, jax.Array]]:
        """Logits of the sequences, whose tokens are valid where `context.mask`, and statistics by site.

        A sequence without a valid token pools to zero.
        """
        x = self.embedding(tokens, context, dtype)
        y, stats = self.encoder(x, context, probes)
        y = y.reshape(*tokens.shape, -1).astype(jnp.float32)
        valid = jnp.ones(tokens.shape, jnp.bool_) if context.mask is None else context.mask
        return self.head(_pooled(y, valid, self.pooling)), stats


def _pooled(
    y: Float32[Array, "batch length width"], valid: Bool[Array, "batch length"], pooling: Pooling
) -> Float32[Array, "batch width"]:
    """The mean or the largest of each feature over valid tokens; 0 where no token is valid."""
    if pooling == "max":
        largest = jnp.max(jnp.where(valid[..., None], y, -jnp.inf), axis=1)
        return jnp.where(jnp.any(valid, axis=1, keepdims=True), largest, 0.0)
    weights = valid.astype(jnp.float32)
    return jnp.einsum("btd,bt->bd", y, weights) / jnp.maximum(weights.sum(1, keepdims=True), 1.0)


class EncoderDecoder(Model):
    """The Transformer of Vaswani 2017: an encoder of the source, a decoder that predicts the target and attends to the encoder's output,
    one table for both embeddings and the head. `arch.depth` is the decoder's, `source_depth` the encoder's.
    """

    def __init__(
        self, scheme: Scheme, arch: Architecture, vocab: int, length: int, *, source_depth: int, rngs: nnx.Rngs
    ):
        depths = Depths(encoder=source_depth, decoder=arch.depth)
        super().__init__(scheme, arch, depths, vocab, length, vocab, tied=True, rngs=rngs)

    def __call__(
        self,
        source: Int[Array, "batch source"],
        target: Int[Array, "batch length"],
        context: Context,
        probes: Probes | None = None,
        dtype: DTypeLike = jnp.float32,
    ) -> tuple[Float32[Array, "batch*length vocab"], dict[str, jax.Array]]:
        """Logits of the target's tokens, and statistics by site, the encoder's first. The source is valid where `context.mask`."""
        count = sum(len(labels) for labels in self.encoder.labels)
        ours, theirs = (None, None) if probes is None else (probes[:count], probes[count:])
        # Blocks of both stacks fold their index into the key, so the encoder's has to be another.
        reading = context.fold(keys.ENCODER)
        memory, read = self.encoder(self.embedding(source, reading, dtype), reading, ours)
        memo = {"memory": memory} | ({} if context.mask is None else {"memory_mask": context.mask})
        writing = replace(context, mask=None)
        y, wrote = self.decoder(self.embedding(target, writing, dtype), writing, theirs, memo)
        return self.head(y, self.embedding.table), {name: jnp.concatenate([read[name], wrote[name]]) for name in read}


def hidden_units(width: int, mlp_ratio: float) -> int:
    """Hidden units of the feed-forward sublayer: `width × mlp_ratio`, rounded half up."""
    return math.floor(width * mlp_ratio + 0.5)
