"""Whole models from the same parts: a decoder that predicts the next token, and an encoder that classifies a sequence."""

import math

import jax
import jax.numpy as jnp
from flax import nnx

from addnorm_exp.nn.embedding import Embedding
from addnorm_exp.nn.layers import Linear
from addnorm_exp.nn.stack import Architecture, Stack
from addnorm_exp.residual import Context, Depths, Scheme, sites
from addnorm_exp.residual import init as laws


class Decoder(nnx.Module):
    """Decoder-only Transformer: causal self-attention and feed-forward under one scheme, with a head of its own or a tied one."""

    def __init__(self, scheme: Scheme, arch: Architecture, vocab: int, length: int, *, tied: bool, rngs: nnx.Rngs):
        self.embedding = Embedding(vocab, length, arch, rngs=rngs)
        self.decoder = Stack(scheme, sites("decoder", Depths(decoder=arch.depth)), arch, causal=True, rngs=rngs)
        head = laws.head(arch.law, arch.width, vocab)
        self.head = None if tied else Linear(arch.width, vocab, head, bias=False, rngs=rngs)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the sites, in the order of probes and statistics."""
        return tuple(label for block in self.decoder.labels for label in block)

    def __call__(
        self, tokens: jax.Array, context: Context, probes: jax.Array | None = None, dtype: jnp.dtype = jnp.float32
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """tokens int (batch, length) → float32 logits (batch · length, vocab), statistics by site."""
        x = self.embedding(tokens, context, dtype)
        y, stats = self.decoder(x, context, probes)
        kernel = self.embedding.tokens[...].T if self.head is None else self.head.kernel[...]
        return jnp.matmul(y, kernel.astype(dtype), preferred_element_type=jnp.float32), stats


class Classifier(nnx.Module):
    """Encoder with padding masks, mean pooling over valid tokens, and a softmax head: the textbook Add & Norm network
    (Vaswani 2017, 3.1, under `post_ln`)."""

    def __init__(self, scheme: Scheme, arch: Architecture, vocab: int, length: int, classes: int, *, rngs: nnx.Rngs):
        self.embedding = Embedding(vocab, length, arch, rngs=rngs)
        self.encoder = Stack(scheme, sites("encoder", Depths(encoder=arch.depth)), arch, causal=False, rngs=rngs)
        self.head = Linear(arch.width, classes, laws.head(arch.law, arch.width, classes), bias=True, rngs=rngs)

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(label for block in self.encoder.labels for label in block)

    def __call__(
        self, tokens: jax.Array, context: Context, probes: jax.Array | None = None, dtype: jnp.dtype = jnp.float32
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """tokens int (batch, length), valid where `context.mask` → float32 logits (batch, classes), statistics by site.

        A sequence without a valid token pools to zero.
        """
        x = self.embedding(tokens, context, dtype)
        y, stats = self.encoder(x, context, probes)
        y = y.reshape(*tokens.shape, -1).astype(jnp.float32)
        valid = jnp.ones(tokens.shape) if context.mask is None else context.mask.astype(jnp.float32)
        pooled = jnp.einsum("btd,bt->bd", y, valid) / jnp.maximum(valid.sum(1, keepdims=True), 1.0)
        return self.head(pooled), stats


def flops_per_token(arch: Architecture, length: int, vocab: int) -> float:
    """Floating-point operations a token of one training step: three times the forward pass's matrix products, the attention matrix
    counted whole although half of it is masked (the usual convention, PaLM 2204.02311, appendix B). Norms are not counted."""
    maps = 3 if arch.activation == "swiglu" else 2
    block = 2 * (4 * arch.width**2 + maps * arch.width * arch.hidden) + 4 * length * arch.width
    return 3.0 * (arch.depth * block + 2 * arch.width * vocab)


def hidden_units(width: int, mlp_ratio: float) -> int:
    """Hidden units of the feed-forward sublayer: `width × mlp_ratio`, rounded half up."""
    return math.floor(width * mlp_ratio + 0.5)
