"""Samples on the device, and the order in which they are met.

An epoch is `steps` batches of one size. When the samples don't divide into them,
the last batch is filled with further real samples at weight 0: they count for
nothing in a loss, and a batch norm sees no rows of zeros.
"""

import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxnodes.errors import JaxNodesError, check, check_count, describe
from jaxnodes.training.shuffling import shuffled

Ragged = Literal["fill", "drop"]


def to_device(tree: Any, where: str = "fit") -> Any:
    """Arrays of any kind as JAX arrays, and no number changed in silence.

    NumPy's float64 becomes float32 when x64 is off, as everywhere in JAX.

    Raises:
      JaxNodesError: whole numbers that don't fit in the dtype JAX would hold them in.
    """

    def leaf(x):
        if isinstance(x, jax.Array):
            return x
        x = np.asarray(x)
        if x.dtype.kind not in "fiub" and str(x.dtype) not in ("bfloat16", "float16"):
            raise JaxNodesError(f"expected arrays of numbers, got {describe(x)}", where)
        narrow = jax.dtypes.canonicalize_dtype(x.dtype)
        if x.dtype.kind in "iu" and x.size and narrow != x.dtype:
            limits = np.iinfo(narrow)
            check(
                x.min() >= limits.min and x.max() <= limits.max,
                f"expected whole numbers that fit in {narrow}, got {x.dtype} from {x.min()} to "
                f"{x.max()}; turn on jax_enable_x64 or make them smaller",
                where,
            )
        return jax.device_put(x)  # `jnp.asarray` would compile a program for each shape

    return jax.tree.map(leaf, tree)


def count_samples(data: Any, where: str) -> int:
    """The length of the first axis, which all arrays in `data` must share."""
    lengths = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(data)}
    check(
        len(lengths) == 1 and () not in lengths,
        f"expected arrays of one length on the first axis, got {sorted(lengths)}",
        where,
    )
    (n,) = lengths.pop()
    check(n > 0, "expected at least one sample, got none", where)
    return n


def count_steps(n: int, batch_size: int, ragged: Ragged, where: str) -> int:
    """How many batches make an epoch of `n` samples."""
    check_count(batch_size, "batch_size", where)
    check(ragged in ("fill", "drop"), f"expected ragged 'fill' or 'drop', got {ragged!r}", where)
    if ragged == "fill":
        return math.ceil(n / batch_size)
    check(
        n >= batch_size,
        f"expected at least one batch of {batch_size} samples, got {n}; "
        "ragged='fill' or a smaller batch_size takes them all",
        where,
    )
    return n // batch_size


def epoch_order(
    key: jax.Array, n: int, batch_size: int, *, shuffle: bool, ragged: Ragged
) -> tuple[jax.Array, jax.Array]:
    """Which samples each batch holds, and at which weight.

    Returns:
      Indices (steps, batch_size), and float32 weights of the same shape: 1, and 0 for
      the samples that fill the last batch.
    """
    steps = count_steps(n, batch_size, ragged, "epoch")
    order = shuffled(key, n) if shuffle else jnp.arange(n)
    places = np.arange(steps * batch_size)
    weights = (places < n).astype(np.float32)
    return (
        order[places % n].reshape(steps, batch_size),
        jnp.asarray(weights).reshape(steps, batch_size),
    )


def take(tree: Any, indices: jax.Array) -> Any:
    """The samples at `indices`."""
    return jax.tree.map(lambda leaf: jnp.take(leaf, indices, axis=0, mode="clip"), tree)


def filled(batch: Any, size: int, where: str) -> tuple[Any, np.ndarray]:
    """A batch from an iterator brought to `size` samples, with the weights that say which count."""
    n = count_samples(batch, where)
    check(n <= size, f"expected batches of at most {size} samples, got {n}", where)
    places = np.arange(size)
    weights = (places < n).astype(np.float32)
    if n < size:
        batch = jax.tree.map(lambda leaf: jnp.asarray(leaf)[places % n], batch)
    return batch, weights


def with_weights(data: Any, where: str = "fit") -> tuple[Any, Any, Any]:
    """`(x, y)`, or a data set with `.x` and `.y`, as `(x, y, None)`."""
    if hasattr(data, "x") and hasattr(data, "y"):
        return data.x, data.y, None
    is_some = isinstance(data, tuple | list)
    check(is_some, f"expected (x, y) or (x, y, weights), got {type(data).__name__}", where)
    data = tuple(data)
    check(len(data) in (2, 3), f"expected (x, y) or (x, y, weights), got {len(data)} parts", where)
    return data if len(data) == 3 else (*data, None)
