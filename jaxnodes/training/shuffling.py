"""A random order of samples, computed for each place by itself.

`jax.random.permutation` sorts by random numbers, twice. On a CPU a sort is the slowest thing
XLA does: of many small networks trained at once it took a third of the time.
"""

import jax
import jax.numpy as jnp

from jaxnodes.layers.random_bits import mix


def shuffled(key: jax.Array, n: int) -> jax.Array:
    """The numbers from 0 to n - 1 in random order, (n,), int32.

    The swap-or-not shuffle. A round has two random words k and s; it pairs place i with

        j = (k - i) mod n

    and swaps the two of them or not, by the highest bit of a hash of the larger, of s and of k:

        mix(mix(0x9E3779B9 max(i, j) + s) + k)

    Every place runs through the rounds alone, 6 ceil(log2 n) of them. Not for secrets.

    Args:
      key: a typed PRNG key.
      n: from 1 on.

    Source: Hoang, Morris and Rogaway 2012, An Enciphering Scheme Based on a Card Shuffle; the
    mix is that of `jaxnodes.layers.random_bits`.

    Example:

    >>> import jax
    >>> shuffled(jax.random.key(0), 6)
    Array([...], dtype=int32)
    """
    rounds = 6 * (n - 1).bit_length()
    words = jax.random.bits(key, (rounds, 2), jnp.uint32)
    count = jnp.uint32(n)

    def swap(i, words):
        k, s = words[0] % count, words[1]
        j = jnp.where(i <= k, k - i, k + (count - i))
        hashed = mix(mix(jnp.maximum(i, j) * jnp.uint32(0x9E3779B9) + s) + words[0])
        return jnp.where(hashed >> jnp.uint32(31) == 1, j, i), None

    order, _ = jax.lax.scan(swap, jnp.arange(n, dtype=jnp.uint32), words)
    return order.astype(jnp.int32)
