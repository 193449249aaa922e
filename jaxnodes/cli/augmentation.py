"""Training images moved about at random, so that a network learns shapes, not places."""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp


def random_shift(key: jax.Array, images: jax.Array, most: float) -> jax.Array:
    """Each image moved by up to `most` pixels along both axes; zeros come in at the edges.

    Bilinear: the new pixel at i takes max(0, 1 - |i - d - j|) of the old one at j.

    Args:
      key: a typed PRNG key.
      images: (B, H, W, C).
      most: in pixels; a fraction will do.

    Returns:
      (B, H, W, C).
    """
    down, right = jax.random.uniform(key, (2, len(images)), images.dtype, -most, most)

    def taken(shift, size):
        i = jnp.arange(size, dtype=images.dtype)
        distance = i[:, None] - shift[:, None, None] - i
        return jnp.maximum(0, 1 - jnp.abs(distance))

    images = jnp.einsum("bij,bjwc->biwc", taken(down, images.shape[1]), images)
    return jnp.einsum("bij,bhjc->bhic", taken(right, images.shape[2]), images)


@functools.lru_cache
def shifting(sample_shape: tuple[int, ...]) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """`random_shift` by up to a sixteenth of the side, for images or square rows of pixels.

    The same function for the same shape, so that what is compiled for it serves again.
    """
    side = math.isqrt(sample_shape[0])
    image = sample_shape if len(sample_shape) == 3 else (side, side, 1)

    def augment(key, x):
        return random_shift(key, x.reshape(-1, *image), max(image[:2]) / 16).reshape(x.shape)

    return augment
