"""Standardization: columns of mean 0 and standard deviation 1, by the training part alone.

A scaler is two arrays, to be saved beside the weights. `scale` takes JAX arrays too,
inside `jax.jit` as well, so that it can be part of a deployed model.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnodes.data.conversion import check_finite, real_array, to_float32
from jaxnodes.data.datasets import Dataset, Splits, check_dataset
from jaxnodes.errors import check, describe


class Scaler(NamedTuple):
    """What `scale` subtracts and divides by: `mean` and `std`, both (D,) float32."""

    mean: np.ndarray
    std: np.ndarray


def fit_scaler(x: Any, feature_names: Sequence[str] = ()) -> Scaler:
    """Mean and standard deviation of each feature.

    Args:
      x: (..., D): a table (N, D), windows (N, T, D), images (N, H, W, C), regression targets
        (N, K). All axes but the last are averaged over, in float64.
      feature_names: for errors.

    Returns:
      A `Scaler`. The deviation is the biased one (divided by N), as scikit-learn's; that of
      a column whose values are all equal counts as 1, so that it scales to 0.

    Raises:
      JaxNodesError: fewer than two axes, no samples, no numbers, or NaN or infinite entries,
        with the columns they are in.

    Example:

    >>> fit_scaler([[1.0, 7.0], [3.0, 7.0]])
    Scaler(mean=array([2., 7.], dtype=float32), std=array([1., 1.], dtype=float32))
    """
    x = real_array(x, "fit_scaler")
    check(
        x.ndim >= 2 and x.size,
        f"expected samples by features (N, D) with at least one of each, got {x.shape}; "
        "x[:, None] makes a column",
        "fit_scaler",
    )
    check_finite(x, "fit_scaler", feature_names)
    columns = x.reshape(-1, x.shape[-1]).astype(np.float64)
    # Not by std == 0: the mean of equal numbers may miss them by a rounding error.
    varies = columns.min(axis=0) < columns.max(axis=0)
    std = to_float32(np.where(varies, columns.std(axis=0), 1), "fit_scaler", feature_names)
    # A spread that float32 can't tell from none is none.
    return Scaler(to_float32(columns.mean(axis=0), "fit_scaler"), np.where(std > 0, std, 1))


def scale(scaler: Scaler, x: Any) -> Any:
    """`(x - mean) / std`, feature by feature.

    Args:
      scaler: of D features.
      x: (..., D). JAX arrays give JAX arrays of their dtype, all else float32 NumPy arrays.

    Raises:
      JaxNodesError: another number of features, or NaN in a NumPy array.

    Example:

    >>> scale(Scaler(np.array([2.0]), np.array([0.5])), [[3.0], [2.0]])
    array([[2.], [0.]], dtype=float32)
    """
    x, mean, std = _alike(scaler, x, "scale")
    return (x - mean) / std


def unscale(scaler: Scaler, x: Any) -> Any:
    """`x * std + mean`: undoes `scale`, with the same arguments and errors."""
    x, mean, std = _alike(scaler, x, "unscale")
    return x * std + mean


def standardize(splits: Splits[Dataset]) -> tuple[Splits[Dataset], Scaler]:
    """Scales `x` of every part by the mean and deviation of the training part.

    Returns:
      `(splits, scaler)`. Regression targets stay as they are; they scale by
      `fit_scaler(splits.train.y)`.

    Raises:
      JaxNodesError: no training samples, or NaN in any part.

    Example:

    >>> from jaxnodes.data.datasets import wine
    >>> from jaxnodes.data.splits import split
    >>> parts, scaler = standardize(split(wine()))
    >>> float(abs(parts.train.x.mean(axis=0)).max()) < 1e-5
    True
    """
    check(
        isinstance(splits, Splits),
        f"expected Splits, got {type(splits).__name__}; split(dataset) makes them, so that "
        "nothing is learned from the test part",
        "standardize",
    )
    check_dataset(splits.train, "standardize")
    scaler = fit_scaler(splits.train.x, splits.train.feature_names)
    return Splits(*(part._replace(x=scale(scaler, part.x)) for part in splits)), scaler


def _alike(scaler: Scaler, x: Any, where: str) -> tuple[Any, Any, Any]:
    """`x`, mean and deviation as floating arrays of one kind and dtype."""
    if isinstance(x, jax.Array):
        floating = jnp.issubdtype(x.dtype, jnp.floating)
        check(floating, f"expected floats, got {describe(x)}; cast x", where)
    else:
        x = to_float32(x, where)
        scaler = Scaler(*map(np.asarray, scaler))
    features = np.shape(scaler.mean)
    check(
        x.ndim >= 1 and x.shape[-1:] == features == np.shape(scaler.std),
        f"expected {features[0] if len(features) == 1 else features} features on the last axis, "
        f"got {x.shape[-1] if x.ndim else 'a scalar'} (input {x.shape})",
        where,
    )
    return x, scaler.mean.astype(x.dtype), scaler.std.astype(x.dtype)
