"""Text from a language model, one token after another.

Each token is drawn from a whole forward pass over the last `length` tokens: slower than decoding with a cache, and right for every scheme,
whatever its state keeps of earlier tokens or layers.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from addnorm_exp.nn.functional import Parameters


def continued(
    logits: Callable[[Parameters, jax.Array], jax.Array],
    parameters: Parameters,
    prompt: np.ndarray,
    count: int,
    length: int,
    *,
    temperature: float,
    top_k: int | None,
    seed: int,
) -> np.ndarray:
    """`count` tokens that follow `prompt`, int32. `logits`: parameters, (1, length) tokens → (1, length, vocabulary).

    Each token is drawn from softmax(logits / temperature) over the `top_k` most likely ones (None: all); at temperature 0 it is the most
    likely one. A seed gives the same text again.
    """
    key = jax.random.key(seed, impl="threefry2x32")

    @jax.jit
    def following(parameters: Parameters, window: jax.Array, last: jax.Array, number: jax.Array) -> jax.Array:
        row = logits(parameters, window)[0, last]
        if top_k is not None:
            row = jnp.where(row < jax.lax.top_k(row, top_k)[0][-1], -jnp.inf, row)
        if temperature == 0:
            return jnp.argmax(row)
        return jax.random.categorical(jax.random.fold_in(key, number), row / temperature)

    tokens = list(map(int, prompt))
    for number in range(count):
        window = tokens[-length:]
        padded = np.zeros((1, length), np.int32)  # what follows the last token is not seen: attention is causal
        padded[0, : len(window)] = window
        tokens.append(int(following(parameters, padded, np.int32(len(window) - 1), np.int32(number))))
    return np.array(tokens[len(prompt) :], np.int32)
