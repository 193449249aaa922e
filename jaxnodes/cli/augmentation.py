"""Training images distorted at random, so that a network learns shapes, not pixels."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp


def distort(
    key: jax.Array,
    images: jax.Array,
    *,
    shift: float = 0.1,
    zoom: float = 0.15,
    slant: float = 0.3,
) -> jax.Array:
    """Each image shifted, zoomed and slanted about its center; zeros come in at the edges.

    Bilinear, and one axis after the other: the new pixel at i, measured from the center,
    takes max(0, 1 - |s - j|) of the old one at j, where s = (i - shift) / zoom, and along a
    row at height h also - slant h. Each amount is drawn uniformly.

    Args:
      key: a typed PRNG key.
      images: (B, H, W, C).
      shift: the furthest an image moves along each axis, as a part of its size.
      zoom: the most it grows or shrinks along each axis: by factors of 1 - zoom to 1 + zoom.
      slant: the furthest a row moves sideways for each row that it lies off the center.

    Returns:
      (B, H, W, C).
    """
    _, height, width, _ = images.shape
    rows, columns = (
        jnp.arange(size, dtype=images.dtype) - (size - 1) / 2 for size in (height, width)
    )
    moved, zoomed, slanted = (
        jax.random.uniform(key, shape, images.dtype, -most, most)
        for key, shape, most in zip(
            jax.random.split(key, 3),
            [(2, len(images), 1, 1), (2, len(images), 1, 1), (len(images), 1, 1)],
            [shift, zoom, slant],
            strict=True,
        )
    )

    def taken(source, old):
        return jnp.maximum(0, 1 - jnp.abs(source[..., None] - old))

    down, right = moved[0, :, 0] * height, moved[1] * width
    sources = (rows - down) / (1 + zoomed[0, :, 0])
    images = jnp.einsum("bhj,bjwc->bhwc", taken(sources, rows), images)
    sources = (columns - right - slanted * rows[:, None]) / (1 + zoomed[1])
    return jnp.einsum("bhwj,bhjc->bhwc", taken(sources, columns), images)


@functools.lru_cache
def distorting(image_shape: tuple[int, int, int]) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """`distort`, for images of this shape or rows of their pixels.

    The same function for the same shape, so that what is compiled for it serves again.
    """

    def augment(key, x):
        return distort(key, x.reshape(-1, *image_shape)).reshape(x.shape)

    return augment
