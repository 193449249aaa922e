"""Arrays from anywhere as the two dtypes that data come in: float32 and int32.

Rounding float64 to float32 is the one loss there is. Whatever else would change
a value (an overflow, a whole number float32 can't hold, a label below zero) is
an error.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxnodes.errors import JaxNodesError, check

MOST_CLASSES = 65_536
EXACT_IN_FLOAT32 = 2**24


def to_float32(x: Any, where: str, names: Sequence[str] = ()) -> np.ndarray:
    """`x` as a float32 array.

    Args:
      x: real numbers or booleans, any shape.
      where: what errors say comes from.
      names: of the columns (the last axis), for errors.

    Raises:
      JaxNodesError: not numbers, masked, NaN or infinite, beyond float32's range, or whole
        numbers beyond 2^24, above which float32 skips some.

    Example:

    >>> to_float32([[1, 2]], "x")
    array([[1., 2.]], dtype=float32)
    """
    x = real_array(x, where)
    if x.dtype.kind in "iu" and x.size:
        largest = max(abs(int(x.min())), abs(int(x.max())))
        check(
            largest <= EXACT_IN_FLOAT32,
            f"expected whole numbers within 2**24, which float32 holds exactly, got {largest}; "
            "make them floats first if they may be rounded",
            where,
        )
    check_finite(x, where, names)
    with np.errstate(over="ignore"):
        rounded = x.astype(np.float32)
    check_finite(rounded, where, names, "numbers within float32's range (3.4e38)")
    return rounded


def real_array(x: Any, where: str) -> np.ndarray:
    """`x` as an array of floats, integers or booleans, as they came."""
    check(
        not (isinstance(x, np.ma.MaskedArray) and np.ma.is_masked(x)),
        "expected an array without masked entries; fill them in or drop their rows",
        where,
    )
    x = np.asarray(x)
    check(
        x.dtype.kind in "fiub",
        f"expected real numbers, got an array of dtype {x.dtype}; convert it to numbers first",
        where,
    )
    return x


def check_finite(
    x: np.ndarray, where: str, names: Sequence[str] = (), expected: str = "finite numbers"
) -> None:
    """Raises if any entry is NaN or infinite, naming the columns (the last axis) it is in."""
    bad = ~np.isfinite(x)
    if not bad.any():
        return
    first = np.argwhere(bad)[0]
    problem = f"expected {expected}, got {bad.sum()} that are not (the first in row {first[0]})"
    if x.ndim > 1:
        columns = np.flatnonzero(bad.reshape(-1, x.shape[-1]).any(axis=0))
        shown = [repr(names[c]) if len(names) == x.shape[-1] else str(c) for c in columns[:8]]
        problem += f", in column {', '.join(shown)}{' and more' if len(columns) > 8 else ''}"
    raise JaxNodesError(f"{problem}; fill them in or drop the rows", where)


def to_labels(y: Any, classes: int | None, where: str) -> np.ndarray:
    """Class labels as int32 (N,).

    Args:
      y: integers or booleans, (N,) or (N, 1), from 0 on.
      classes: their number C, where known; labels must lie below it.
      where: what errors say comes from.
    """
    y = np.asarray(y)
    check(
        y.dtype.kind in "iub",
        f"expected whole numbers as labels, got dtype {y.dtype}; y.astype(int) if they are",
        where,
    )
    check(
        y.ndim == 1 or (y.ndim == 2 and y.shape[1] == 1),
        f"expected one label a sample, shape (N,), got {y.shape}; "
        "take the argmax over the last axis of one-hot labels",
        where,
    )
    most = MOST_CLASSES if classes is None else classes
    low, high = (int(y.min()), int(y.max())) if y.size else (0, 0)
    check(
        low >= 0 and high < most,
        f"expected labels from 0 to {most - 1}, got {low if low < 0 else high}; "
        "number the classes from 0 on (np.unique(y, return_inverse=True))",
        where,
    )
    return y.reshape(-1).astype(np.int32)


def to_targets(y: Any, where: str) -> np.ndarray:
    """Numbers to predict as float32 (N, K): one column where `y` is (N,)."""
    y = to_float32(y, where)
    check(y.ndim >= 1, f"expected one target a sample, got shape {y.shape}", where)
    return y[:, None] if y.ndim == 1 else y


def check_choice(value: Any, choices: Sequence[Any], name: str, where: str) -> None:
    """Raises unless `value` is one of `choices` (and of its type: 1 is not True)."""
    fine = any(type(value) is type(choice) and value == choice for choice in choices)
    expected = " or ".join(repr(choice) for choice in choices)
    check(fine, f"expected {name}={expected}, got {value!r}", where)


def check_seed(seed: Any, where: str) -> None:
    """Raises unless `seed` is a whole number of at least 0."""
    fine = isinstance(seed, (int, np.integer)) and not isinstance(seed, bool) and seed >= 0
    check(fine, f"expected seed to be a whole number of at least 0, got {seed!r}", where)
