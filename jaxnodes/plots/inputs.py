"""What figures are given, checked and made NumPy: numbers, classes, images, nodes by name."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from jaxnodes.errors import JaxNodesError, check


def numbers(value: Any, expected: str, ndims: Collection[int], where: str) -> np.ndarray:
    """A float64 array of real numbers with as many axes as allowed, and at least one entry.

    Args:
      value: an array, in any dtype, or nested lists.
      expected: what it should be, for the error: `a kernel (kh, kw, in, out)`.
      ndims: how many axes it may have.
      where: the figure, for the error.
    """
    try:
        if np.iscomplexobj(value):
            raise TypeError("complex numbers")
        array = np.asarray(value, float)
    except (TypeError, ValueError):
        raise JaxNodesError(f"expected {expected}, got {type(value).__name__}", where) from None
    check(array.ndim in ndims and array.size > 0, f"expected {expected}, got {array.shape}", where)
    return array


def by_name(arrays: Any, expected: str, where: str) -> dict[str, Any]:
    """A dict with a name for each array, and at least one."""
    given = isinstance(arrays, Mapping)
    came = "an empty dict" if given else type(arrays).__name__
    check(given and len(arrays) > 0, f"expected {expected}, by name, got {came}", where)
    return {str(name): array for name, array in arrays.items()}


def finite(array: np.ndarray, what: str, where: str) -> np.ndarray:
    """The array itself, if all of it is finite."""
    wrong = int((~np.isfinite(array)).sum())
    check(not wrong, f"expected finite {what}, got {wrong} that are NaN or infinite", where)
    return array


def class_numbers(
    labels: Any, count: int, class_names: Sequence[str], where: str
) -> tuple[np.ndarray, list[str]]:
    """Labels as integers (count,), and a name for each class from 0 on."""
    array = np.asarray(labels)
    check(
        array.shape == (count,) and np.issubdtype(array.dtype, np.integer),
        f"expected integer labels ({count},), one a sample, got {array.dtype} {array.shape}",
        where,
    )
    check((array >= 0).all(), f"expected labels from 0 on, got {array.min()}", where)
    classes = int(array.max()) + 1
    names = [str(name) for name in class_names] or [str(c) for c in range(classes)]
    check(
        len(names) >= classes,
        f"expected a name for each of {classes} classes, got {len(names)}",
        where,
    )
    return array, names


def pixels(images: Any, where: str) -> np.ndarray:
    """Images (N, H, W), or (N, H, W, 3) in color.

    Args:
      images: (N, H, W), (N, H, W, 1), (N, H, W, 3), or (N, D) as rows of square images.
        Colors are between 0 and 1, or integers up to 255.
      where: the figure, for the error.
    """
    expected = "images (N, H, W), (N, H, W, 1), (N, H, W, 3) or rows of square ones (N, D)"
    array = numbers(images, expected, (2, 3, 4), where)
    if array.ndim == 2:
        side = math.isqrt(array.shape[1])
        check(side**2 == array.shape[1], f"expected {expected}, got {array.shape}", where)
        array = array.reshape(-1, side, side)
    if array.ndim == 4:
        check(array.shape[-1] in (1, 3), f"expected {expected}, got {array.shape}", where)
        if array.shape[-1] == 1:
            array = array[..., 0]
        elif array.max() > 1 and np.issubdtype(np.asarray(images).dtype, np.integer):
            array = array / 255
    finite(array, "pixels", where)
    check(
        array.ndim == 3 or (array.min() >= 0 and array.max() <= 1),
        f"expected colors between 0 and 1, got {array.min():.4g} to {array.max():.4g}; scale them",
        where,
    )
    return array


def node_names(site: str, shape: tuple[int, ...]) -> list[str]:
    """The name of each node of a site, in order.

    >>> node_names("dense1", (2,)), node_names("repeat1/dense1", (2, 1))
    (['dense1/0', 'dense1/1'], ['repeat1/dense1/0/0', 'repeat1/dense1/1/0'])
    """
    return ["/".join([site, *map(str, place)]) for place in np.ndindex(*shape)]
