"""Time series: windows that look back and horizons that look ahead, and parts by time."""

from typing import Any

import numpy as np

from jaxnodes.data.conversion import to_float32
from jaxnodes.data.datasets import Splits
from jaxnodes.data.splits import check_fractions
from jaxnodes.errors import check, check_count


def windows(
    series: Any, width: int, *, horizon: int = 1, stride: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Every stretch of a series, with the steps that follow it.

    Args:
      series: (T,) or (T, D) numbers, in the order of time.
      width: steps to look back on.
      horizon: steps to predict, right after the window.
      stride: steps from one window's start to the next one's.

    Returns:
      `(x, y)` float32: x (N, width, D) and y (N, horizon, D), where N is
      `(T - width - horizon) // stride + 1` and D is 1 for a series (T,). Window `i`
      ends just before `y[i]` begins.

    Raises:
      JaxNodesError: NaN, or a series shorter than width + horizon.

    Example:

    >>> x, y = windows([0, 1, 2, 3, 4], width=3)
    >>> x[..., 0], y[..., 0]
    (array([[0., 1., 2.], [1., 2., 3.]], dtype=float32), array([[3.], [4.]], dtype=float32))
    """
    for name, value in (("width", width), ("horizon", horizon), ("stride", stride)):
        check_count(value, name, "windows")
    series = to_float32(series, "windows")
    check(
        series.ndim in (1, 2),
        f"expected a series (T,) or (T, D), got shape {series.shape}",
        "windows",
    )
    pieces = slices(series.reshape(len(series), -1), width + horizon, stride, "windows")
    return pieces[:, :width].copy(), pieces[:, width:].copy()


def split_series(series: Any, *, test: float = 0.2, validation: float = 0.0) -> Splits[np.ndarray]:
    """Cuts a series by time: first the steps to train on, then validation, test last.

    Cut first and take windows of each part: then no window reaches from one into the next.

    Args:
      series: (T, ...) array of any dtype; a text's ids too.
      test, validation: fractions of T, at least 0 and together below 1; their sizes are
        rounded to the nearest.

    Returns:
      `Splits(train, validation, test)` of arrays, of T steps in all.

    Raises:
      JaxNodesError: a fraction out of range, or a part that would come out empty.

    Example:

    >>> split_series(np.arange(10), test=0.2, validation=0.1)
    Splits(
      train=int64 (7,),
      validation=int64 (1,),
      test=int64 (2,),
    )
    """
    series = np.asarray(series)
    check(series.ndim >= 1, f"expected a series (T, ...), got {series.shape}", "split_series")
    fractions = check_fractions(test, validation, "split_series")
    sizes = np.rint(fractions * len(series)).astype(int)
    sizes[0] = len(series) - sizes[1:].sum()
    check(
        all((sizes > 0) | (fractions == 0)),
        f"expected steps in every part, got {sizes.tolist()} of {len(series)}; "
        "use larger fractions or a longer series",
        "split_series",
    )
    return Splits(*np.split(series, np.cumsum(sizes)[:-1]))


def slices(sequence: np.ndarray, length: int, stride: int, where: str) -> np.ndarray:
    """Stretches (N, length, ...) of a sequence (T, ...), as a view of it."""
    check(
        len(sequence) >= length,
        f"expected at least {length} steps for one window and what follows it, "
        f"got {len(sequence)}; use a shorter window or a longer sequence",
        where,
    )
    view = np.lib.stride_tricks.sliding_window_view(sequence, length, axis=0)
    return np.moveaxis(view, -1, 1)[::stride]
