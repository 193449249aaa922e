"""The digits as images of 28 x 28, as many as wanted, none of them made from a test digit."""

from typing import Any

import numpy as np

from jaxnodes.data.datasets import Dataset, Splits, digits
from jaxnodes.data.splits import split
from jaxnodes.errors import check, check_count

CHUNK = 2048  # images warped at a time, to bound memory


def digits28(
    *,
    train_size: int | None = None,
    test: float = 0.2,
    validation: float = 0.0,
    seed: int = 0,
    size: int = 28,
    border: int = 2,
    shift: float = 2.0,
    rotation: float = 10.0,
    zoom: float = 0.1,
) -> Splits[Dataset]:
    """The bundled digits enlarged, with as many training images as asked for.

    The digits are split first. Each part is then enlarged (cubic interpolation, the
    overshoot cut off at 0 and 1; a border of zeros around), and the training part alone
    grows by copies that are shifted, turned and zoomed at random (bilinear interpolation).
    `index` tells which of the 1,797 digits an image was made from.

    Args:
      train_size: number of training images; by default one a training digit. Every digit
        serves equally often, to within one; its first image is not augmented.
      test, validation, seed: as in `split`.
      size: height and width.
      border: pixels left free on each side, so that a shifted digit is not cut off; the
        digit takes up the others, 8 by 8 or more.
      shift: the furthest a copy moves along each axis, in pixels.
      rotation: the furthest it turns, in degrees.
      zoom: the most it grows or shrinks: sizes between 1 - zoom and 1 + zoom. Each is
        drawn uniformly, up to both limits.

    Returns:
      `Splits` with x (N, size, size, 1) in [0, 1] and y (N,).

    Raises:
      JaxNodesError: a setting out of range.

    Example:

    >>> digits28(train_size=3000).train
    Dataset(x=float32 (3000, 28, 28, 1), y=int32 (3000,), target='digit',
      10 classes: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
    """
    check_count(border, "border", "digits28", least=0)
    check_count(size, "size", "digits28", least=8 + 2 * border)
    if train_size is not None:
        check_count(train_size, "train_size", "digits28")
    _check_setting("shift", shift, 0, size)
    _check_setting("rotation", rotation, 0, 180)
    _check_setting("zoom", zoom, 0, 0.9)
    parts = split(digits(), test=test, validation=validation, seed=seed)
    train, held_out, tested = (_enlarged(part, size, border) for part in parts)
    rng = np.random.default_rng([seed, size])  # other numbers than those of the split
    originals = len(train.y)
    wanted = originals if train_size is None else int(train_size)
    rounds = -(-wanted // originals)
    rows = np.concatenate([rng.permutation(originals) for _ in range(rounds)])[:wanted]
    x = np.empty((wanted, *train.x.shape[1:]), np.float32)
    x[:originals] = train.x[rows[:originals]]
    for start in range(originals, wanted, CHUNK):
        sources = train.x[rows[start : start + CHUNK], ..., 0]
        n = len(sources)
        angles = np.deg2rad(rng.uniform(-rotation, rotation, n))
        zooms = rng.uniform(1 - zoom, 1 + zoom, n)
        shifts = rng.uniform(-shift, shift, (n, 2))
        x[start : start + n, ..., 0] = _warp(sources, angles, zooms, shifts)
    assert train.index is not None  # split fills it in
    train = train._replace(x=x, y=train.y[rows], index=train.index[rows])
    return Splits(train, held_out, tested)


def _check_setting(name: str, value: Any, low: float, high: float) -> None:
    fine = isinstance(value, (int, float, np.number)) and low <= value <= high
    check(fine, f"expected {name} from {low} to {high}, got {value!r}", "digits28")


def _enlarged(part: Dataset, size: int, border: int) -> Dataset:
    weights = _cubic_weights(size - 2 * border, 8)
    x = np.clip(weights @ part.x.reshape(-1, 8, 8) @ weights.T, 0, 1)
    x = np.pad(x, ((0, 0), (border, border), (border, border)))
    return part._replace(x=x[..., None], feature_names=())


def _cubic_weights(size: int, from_size: int) -> np.ndarray:
    """(size, from_size): what each new pixel takes of each old one along an axis.

    Cubic convolution (Keys 1981, a = -1/2) between pixel centers; at the border, where
    pixels are missing, the weights of the others are scaled up to sum to one.
    """
    centers = (np.arange(size) + 0.5) * from_size / size - 0.5
    d = np.abs(centers[:, None] - np.arange(from_size))
    near = (1.5 * d - 2.5) * d**2 + 1
    far = ((-0.5 * d + 2.5) * d - 4) * d + 2
    weights = np.where(d < 1, near, np.where(d < 2, far, 0))
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _warp(
    images: np.ndarray, angles: np.ndarray, zooms: np.ndarray, shifts: np.ndarray
) -> np.ndarray:
    """Images (N, S, S) turned counterclockwise, zoomed about the center, then shifted (N, 2)."""
    n, size, _ = images.shape
    center = (size - 1) / 2
    line = np.arange(size) - center
    rows = line[:, None] - shifts[:, 0, None, None]
    columns = line - shifts[:, 1, None, None]
    cos, sin = ((f(angles) / zooms)[:, None, None] for f in (np.cos, np.sin))
    # Where each new pixel lies in the old image, in one padded by a ring of zeros.
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    r = np.clip(cos * rows + sin * columns + center + 1, 0, size + 1)
    c = np.clip(cos * columns - sin * rows + center + 1, 0, size + 1)
    r0 = np.minimum(r.astype(np.int32), size)
    c0 = np.minimum(c.astype(np.int32), size)
    down, right = (r - r0).astype(np.float32), (c - c0).astype(np.float32)
    flat = padded.reshape(-1)
    corner = np.arange(n)[:, None, None] * (size + 2) ** 2 + r0 * (size + 2) + c0
    below = corner + size + 2
    top = flat[corner] * (1 - right) + flat[corner + 1] * right
    bottom = flat[below] * (1 - right) + flat[below + 1] * right
    return top * (1 - down) + bottom * down
