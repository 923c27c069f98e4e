"""Batches by epochs: each example once an epoch, in an order that is a pure function of (data seed,
epoch).

The order is a swap-or-not shuffle (Hoang, Morris & Rogaway, CRYPTO 2012): a permutation of any
number of elements that can be evaluated at one place without the others. So a batch costs the same
whatever the size of the data, where `jax.random.permutation` would sort the whole epoch in every
step. It has no data-dependent control flow.
"""

import jax
import jax.numpy as jnp

STREAM = 0x65706F63  # "epoc": keeps these random bits apart from others at equal seed
ROUNDS = 24  # after r rounds the place of one element is uniform to within 2**-r


def example_numbers(count: int, seed: jax.typing.ArrayLike, step: jax.typing.ArrayLike, batch_size: int) -> jax.Array:
    """The examples of batch `step`, int32 [B], of `count` examples with B <= count < 2**30.

    Batches follow one another through the epochs, and one may span the end of an epoch. `seed`
    (uint32) and `step` (int32) may be traced; the steps of a run times B must stay below 2**32.
    """
    first = jnp.asarray(step, jnp.uint32) * jnp.uint32(batch_size)
    epoch, place = first // jnp.uint32(count), (first % jnp.uint32(count)).astype(jnp.int32)
    places = place + jnp.arange(batch_size, dtype=jnp.int32)
    later = places >= count  # beyond the end: in the next epoch
    key = jax.random.fold_in(jax.random.key(jnp.asarray(seed, jnp.uint32), impl="threefry2x32"), STREAM)
    keys = jnp.stack([_round_keys(jax.random.fold_in(key, epoch + jnp.uint32(number)), count) for number in (0, 1)])
    return shuffled(jnp.where(later, places - count, places), keys[later.astype(jnp.int32)], count)


def _round_keys(key: jax.Array, count: int) -> jax.Array:
    """uint32 [ROUNDS, 2]: in each round an offset below `count`, and the key of its bits."""
    bits = jax.random.bits(key, (ROUNDS, 2), jnp.uint32)
    return bits.at[:, 0].set(bits[:, 0] % jnp.uint32(count))


def shuffled(places: jax.Array, keys: jax.Array, count: int) -> jax.Array:
    """The elements of a permutation of 0 to `count` - 1 at these places, int32 [B]; keys uint32 [B,
    ROUNDS, 2]."""
    size = jnp.int32(count)

    def once(number: jax.Array, places: jax.Array) -> jax.Array:
        offset, bits = keys[:, number, 0].astype(jnp.int32), keys[:, number, 1]
        partner = offset - places
        partner = jnp.where(partner < 0, partner + size, partner)
        # Both partners see the same bit, so a round is its own inverse.
        swap = _mixed(jnp.maximum(places, partner).astype(jnp.uint32) ^ bits) >> 31 == 1
        return jnp.where(swap, partner, places)

    return jax.lax.fori_loop(0, ROUNDS, once, places, unroll=8)


def _mixed(x: jax.Array) -> jax.Array:
    """The finaliser of MurmurHash3: each bit of the result depends on all bits of x, uint32."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)
