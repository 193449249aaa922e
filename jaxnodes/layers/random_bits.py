"""Uniform numbers for masks, cheap enough to be made again wherever a mask is used.

`jax.random`'s generator, threefry, serves for everything else. On a CPU its rounds are a
loop of their own, which costs a small network's dropout layers more than their products.
Here each number is a hash of its place and the key: a few operations that a compiler fuses
into whatever uses them, so that no bits are ever stored.
"""

import math

import jax
import jax.numpy as jnp


def uniform(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Numbers in [0, 1), multiples of 2**-24, in float32.

    The place i of a number, counted along the last axis first, is hashed with each 32-bit
    word k of the key, two for threefry:

        h = 0x9E3779B9 i
        h = mix(h + k)  for each k
        h = mix(h)

        mix(h): h ^= h >> 16;  h *= 0x21F0AAAD;  h ^= h >> 15;  h *= 0xD35A2D97;  h ^= h >> 15

    and the highest 24 bits are the number: one bit of a key or a place, flipped, goes through
    two mixes at least. Not for secrets.

    Args:
      key: a typed PRNG key.
      shape: of the array.

    Source: counter-based generators, Salmon et al. 2011, Parallel Random Numbers: As Easy as
    1, 2, 3; the mix is MurmurHash3's finalizer (Appleby 2008) with the shifts and factors of
    least bias that were found by search (Wellons, hash-prospector).

    Example:

    >>> import jax
    >>> uniform(jax.random.key(0), (2, 3))
    Array([[...]], dtype=float32)
    """
    if math.prod(shape) >= 2**32:  # places beyond 32 bits would begin again
        return jax.random.uniform(key, shape)
    hashed = _places(shape) * jnp.uint32(0x9E3779B9)
    words = jax.random.key_data(key)
    for i in range(words.shape[-1]):
        hashed = mix(hashed + words[i])
    hashed = mix(hashed)
    # By way of int32: many processors have no instruction from unsigned to float.
    return (hashed >> jnp.uint32(8)).astype(jnp.int32).astype(jnp.float32) * jnp.float32(2**-24)


def _places(shape: tuple[int, ...]) -> jax.Array:
    """0, 1, 2, ... in this shape; a sum over the axes, which can be cut along any of them."""
    places = jnp.zeros(shape, jnp.uint32)
    for axis in range(len(shape)):
        stride = jnp.uint32(math.prod(shape[axis + 1 :]))
        places += jax.lax.broadcasted_iota(jnp.uint32, shape, axis) * stride
    return places


def mix(h: jax.Array) -> jax.Array:
    h = (h ^ (h >> jnp.uint32(16))) * jnp.uint32(0x21F0AAAD)
    h = (h ^ (h >> jnp.uint32(15))) * jnp.uint32(0xD35A2D97)
    return h ^ (h >> jnp.uint32(15))
