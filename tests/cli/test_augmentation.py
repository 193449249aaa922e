"""Distorted images are those that an independent interpolation makes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from jaxnodes.cli.augmentation import distort, distorting


@pytest.mark.parametrize("shape", [(8, 8, 1), (6, 9, 2)])
@pytest.mark.parametrize(
    ("shift", "zoom", "slant"), [(0, 0, 0), (0.2, 0, 0), (0, 0.3, 0), (0, 0, 0.5), (0.1, 0.15, 0.3)]
)
def test_distort_is_bilinear_interpolation(shape, shift, zoom, slant):
    height, width, channels = shape
    images = np.random.default_rng(0).random((5, *shape), np.float32)
    key = jax.random.key(3)
    came = distort(key, jnp.asarray(images), shift=shift, zoom=zoom, slant=slant)
    keys = jax.random.split(key, 3)
    moved, zoomed = (
        np.asarray(jax.random.uniform(k, (2, 5, 1, 1), minval=-most, maxval=most))[..., 0, 0]
        for k, most in zip(keys, (shift, zoom), strict=False)
    )
    slanted = np.asarray(jax.random.uniform(keys[2], (5, 1, 1), minval=-slant, maxval=slant))
    h, w = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    y, x = h - (height - 1) / 2, w - (width - 1) / 2
    for n in range(5):
        rows = (y - moved[0, n] * height) / (1 + zoomed[0, n]) + (height - 1) / 2
        columns = x - moved[1, n] * width - slanted[n, 0, 0] * y
        columns = columns / (1 + zoomed[1, n]) + (width - 1) / 2
        for c in range(channels):
            expected = map_coordinates(
                images[n, ..., c], [rows, columns], order=1, mode="grid-constant"
            )
            np.testing.assert_allclose(came[n, ..., c], expected, atol=2e-6)
    if not (shift or zoom or slant):
        np.testing.assert_allclose(came, images, atol=1e-6)
    else:
        assert np.abs(came - images).max() > 0.05


def test_rows_of_pixels_are_distorted_as_images():
    images = jax.random.uniform(jax.random.key(0), (4, 8, 8, 1))
    key = jax.random.key(1)
    augment = distorting((8, 8, 1))
    assert augment is distorting((8, 8, 1))
    flat = augment(key, images.reshape(4, 64))
    assert flat.shape == (4, 64)
    np.testing.assert_array_equal(flat.reshape(images.shape), distort(key, images))
    other = augment(jax.random.key(2), images)
    assert not np.array_equal(other, distort(key, images))
