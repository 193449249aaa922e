import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnodes.data import digits, digits28, split
from jaxnodes.data.digit_images import _warp
from jaxnodes.errors import JaxNodesError


def enlarged(rows):
    """Independently: jax.image, its overshoot cut off, in a border of two pixels."""
    images = digits().x[rows].reshape(-1, 8, 8)
    images = jax.image.resize(jnp.asarray(images), (len(images), 24, 24), "cubic")
    return np.pad(np.clip(images, 0, 1), ((0, 0), (2, 2), (2, 2)))[..., None]


def test_nothing_leaks():
    dataset = digits()
    parts = digits28(train_size=5000, validation=0.1, seed=3)
    plain = split(dataset, validation=0.1, seed=3)
    sources = [set(part.index.tolist()) for part in parts]
    assert not sources[0] & sources[1]
    assert not sources[0] & sources[2]
    assert not sources[1] & sources[2]
    assert set().union(*sources) == set(range(1797))
    for part, original in zip(parts, plain, strict=True):
        assert set(part.index.tolist()) == set(original.index.tolist())
        np.testing.assert_array_equal(part.y, dataset.y[part.index])
    # The index tells the truth: no training image is nearer to another digit's than
    # to its own, when all copies stay close to what they were made from.
    train = digits28(train_size=2000, shift=0.3, rotation=2, zoom=0.02, seed=3).train
    originals = enlarged(np.arange(1797)).reshape(1797, -1)
    copies = train.x.reshape(len(train.x), -1)
    distances = (originals**2).sum(1) - 2 * copies @ originals.T
    np.testing.assert_array_equal(distances.argmin(axis=1), train.index)


def test_test_images_are_the_digits_upsampled():
    parts = digits28(train_size=2000, validation=0.1)
    for part in (parts.validation, parts.test):
        np.testing.assert_allclose(part.x, enlarged(part.index), atol=1e-5)
        assert part.x.dtype == np.float32
        assert part.x.shape[1:] == (28, 28, 1)


def test_default_training_images_are_plain():
    train = digits28().train
    assert train.x.shape == (1438, 28, 28, 1)
    np.testing.assert_allclose(train.x, enlarged(train.index), atol=1e-5)


@pytest.mark.parametrize("train_size", [100, 1438, 4000])
def test_any_size_uses_every_digit_equally(train_size):
    train = digits28(train_size=train_size).train
    assert len(train.x) == len(train.y) == train_size
    uses = np.unique(train.index, return_counts=True)[1]
    assert uses.max() <= -(-train_size // 1438)
    assert len(uses) == min(train_size, 1438)
    assert uses.max() - uses.min() <= 1
    assert train.x.min() >= 0
    assert train.x.max() <= 1 + 1e-6


def test_copies_differ_and_the_seed_decides():
    first, again, other = (digits28(train_size=3000, seed=seed).train for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.x, again.x)
    assert not np.array_equal(first.x, other.x)
    rows = np.flatnonzero(first.index == first.index[0])
    assert len(rows) >= 2
    assert not np.array_equal(first.x[rows[0]], first.x[rows[1]])


def test_without_augmentation_copies_are_equal():
    train = digits28(train_size=3000, shift=0, rotation=0, zoom=0).train
    np.testing.assert_allclose(train.x, enlarged(train.index), atol=1e-5)


@pytest.mark.parametrize(
    ("angle", "zoom", "shift", "expected"),
    [
        (0, 1, (0, 0), lambda x: x),
        (90, 1, (0, 0), np.rot90),
        (180, 1, (0, 0), lambda x: x[::-1, ::-1]),
        (0, 1, (2, -1), lambda x: np.pad(x, ((2, 0), (0, 1)))[:-2, 1:]),
        (0, 1, (0.5, 0), lambda x: (x + np.pad(x, ((1, 0), (0, 0)))[:-1]) / 2),
        (0, 1, (50, 0), lambda x: np.zeros_like(x)),
    ],
)
def test_warps_by_hand(angle, zoom, shift, expected):
    x = np.random.default_rng(0).random((9, 9)).astype(np.float32)
    warped = _warp(x[None], np.deg2rad([angle]), np.array([zoom]), np.array([shift]))[0]
    np.testing.assert_allclose(warped, expected(x), atol=1e-5)


def test_zoom_by_hand():
    x = np.zeros((1, 9, 9), np.float32)
    x[0, 4, 6] = 1  # two to the right of the center
    warped = _warp(x, np.zeros(1), np.array([2.0]), np.zeros((1, 2)))[0]
    assert np.unravel_index(warped.argmax(), (9, 9)) == (4, 8)
    assert warped[4, 8] == 1


def test_warps_equal_jax_map_coordinates():
    rng = np.random.default_rng(1)
    x = rng.random((3, 12, 12)).astype(np.float32)
    angles, zooms, shifts = rng.uniform(-1, 1, 3), rng.uniform(0.7, 1.4, 3), rng.normal(size=(3, 2))
    warped = _warp(x, angles, zooms, shifts)
    for i in range(3):
        turn = np.array(
            [[np.cos(angles[i]), np.sin(angles[i])], [-np.sin(angles[i]), np.cos(angles[i])]]
        )
        where = np.indices((12, 12)).reshape(2, -1) - 5.5 - shifts[i][:, None]
        where = jnp.asarray(turn @ where / zooms[i] + 5.5, jnp.float32)
        expected = jax.scipy.ndimage.map_coordinates(jnp.asarray(x[i]), list(where), order=1)
        np.testing.assert_allclose(warped[i].ravel(), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 11}, "size to be a whole number of at least 12, got 11"),
        ({"border": -1}, "border"),
        ({"train_size": 0}, "train_size"),
        ({"shift": -1}, "shift from 0 to 28, got -1"),
        ({"rotation": 200}, "rotation"),
        ({"zoom": 1.0}, "zoom"),
        ({"zoom": "0.1"}, "zoom"),
        ({"test": 1.0}, "fraction"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(JaxNodesError, match=message):
        digits28(**arguments)


def test_other_sizes():
    parts = digits28(size=16, border=0, train_size=10)
    assert parts.train.x.shape == (10, 16, 16, 1)
    assert parts.test.x.shape[1:] == (16, 16, 1)
