"""Text from a language model, one token after another.

Until the window of `length` tokens is full, a token costs a step over itself alone: attention keeps the keys and values of the tokens
before it (nn/attention.py). From then on the window slides, and a token costs a pass over the whole window: in a deep model the keys of
a token depend on all tokens before it, and some of these have left the window.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from addnorm_exp.nn.functional import Parameters

Cache = Any  # a pytree: the keys and values of the window
AT_ONCE = 16  # tokens of one dispatch of the sliding window: the host heeds an interrupt between two


@dataclass(frozen=True)
class Decoding:
    """A model on one row of tokens.

    `whole`: parameters, (1, length) tokens → logits (1, length, vocabulary). `step`: parameters, the cache before it, (1, count) tokens,
    the place of the first of them → logits (1, count, vocabulary), the cache after it. `empty`: the cache before the first token.
    """

    whole: Callable[[Parameters, jax.Array], jax.Array]
    step: Callable[[Parameters, Cache, jax.Array, Any], tuple[jax.Array, Cache]]
    empty: Cache


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Sampling:
    """How a token is drawn from its logits: from softmax(logits / temperature) over the `top_k` most likely ones (None: all), or the most
    likely one."""

    key: jax.Array
    temperature: Any  # a number
    top_k: int | None = field(metadata={"static": True})
    greedy: bool = field(metadata={"static": True})

    def draw(self, row: jax.Array, number: jax.Array) -> jax.Array:
        """The new token of this number, int32, by its logits (vocabulary,)."""
        if self.top_k is not None:
            row = jnp.where(row < jax.lax.top_k(row, self.top_k)[0][-1], -jnp.inf, row)
        if self.greedy:
            return jnp.argmax(row).astype(jnp.int32)
        return jax.random.categorical(jax.random.fold_in(self.key, number), row / self.temperature).astype(jnp.int32)


class Generator:
    """Continues prompts by the passes of one model. Two functions are compiled for all prompts and counts: one fills the window, the other
    slides it."""

    def __init__(self, decoding: Decoding, length: int):
        self.decoding, self.length = decoding, length
        self._fill, self._slide = jax.jit(self._filled), jax.jit(self._slid)

    def __call__(
        self,
        parameters: Parameters,
        prompt: np.ndarray,
        count: int,
        *,
        temperature: float,
        top_k: int | None,
        seed: int,
    ) -> np.ndarray:
        """`count` tokens that follow `prompt`, int32; at temperature 0 each is the most likely one. A seed gives the same text again."""
        greedy = temperature == 0
        key = jax.random.key(seed, impl="threefry2x32")
        sampling = Sampling(key, np.float32(1.0 if greedy else temperature), top_k, greedy)
        last = prompt[-self.length :]
        size, number = len(last), min(count, self.length - len(last))  # of tokens before, and of tokens drawn
        # What follows the last token is not seen: attention is causal.
        window = jnp.asarray(np.pad(last, (0, self.length - size))[None], jnp.int32)
        parts = [np.zeros(0, np.int32)]
        if number:
            places = np.int32(size), np.int32(size + number)
            window = self._fill(parameters, self.decoding.empty, window, *places, sampling)
            parts.append(np.asarray(window)[0, size : size + number])
        while number < count:
            new = min(AT_ONCE, self.length, count - number)
            window = self._slide(parameters, window, np.int32(number), np.int32(number + new), sampling)
            parts.append(np.asarray(window)[0, -new:])
            number += new
        return np.concatenate(parts)

    def _filled(
        self,
        parameters: Parameters,
        empty: Cache,
        window: jax.Array,
        size: jax.Array,
        end: jax.Array,
        sampling: Sampling,
    ) -> jax.Array:
        """The window (1, length) of `size` tokens with those up to `end`."""
        # The keys of places that have no token yet are replaced before any token sees them.
        logits, cache = self.decoding.step(parameters, empty, window, jnp.int32(0))

        def advance(place: jax.Array, carry: tuple[jax.Array, Cache, jax.Array]) -> tuple[jax.Array, Cache, jax.Array]:
            window, cache, row = carry
            token = sampling.draw(row, place - size)
            logits, cache = self.decoding.step(parameters, cache, token[None, None], place)
            return window.at[0, place].set(token), cache, logits[0, 0]

        return jax.lax.fori_loop(size, end, advance, (window, cache, logits[0, size - 1]))[0]

    def _slid(
        self, parameters: Parameters, window: jax.Array, first: jax.Array, end: jax.Array, sampling: Sampling
    ) -> jax.Array:
        """The full window (1, length) after the new tokens with the numbers from `first` to below `end`."""

        def advance(number: jax.Array, window: jax.Array) -> jax.Array:
            token = sampling.draw(self.decoding.whole(parameters, window)[0, -1], number)
            return jnp.concatenate([window[:, 1:], token[None, None]], axis=1)

        return jax.lax.fori_loop(first, end, advance, window)
