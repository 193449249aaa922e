"""Batches of samples, with their classes where there are some, from arrays or an iterable."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from jaxnodes.analysis.samples import count_samples
from jaxnodes.errors import check, check_count


def labeled_batches(x, y, classes, where) -> tuple[Iterator[tuple[Any, np.ndarray | None]], int]:
    """Batches `(x, labels)`, and how many classes; 0 without labels."""
    if classes is not None:
        check_count(classes, "classes", where)
    if not _is_stream(x):
        leaves = jax.tree.leaves(x)
        check(
            leaves and all(hasattr(leaf, "shape") for leaf in leaves),
            "expected arrays (N, ...), a pytree of such or an iterable of batches, "
            f"got {type(x).__name__}",
            where,
        )
        check(
            y is not None or classes is None,
            f"expected y, the classes of the samples, with classes={classes}",
            where,
        )
        if y is None:
            return iter([(x, None)]), 0
        labels = _labels(y, count_samples(leaves, where), classes, where)
        return iter([(x, labels)]), classes or int(labels.max()) + 1
    check(
        y is None,
        "expected no y beside an iterable; give classes= and let it yield pairs (x, y)",
        where,
    )
    if classes is None:
        return ((batch, None) for batch in x), 0
    return _pairs(x, classes, where), classes


def _is_stream(x: Any) -> bool:
    """Whether `x` yields batches; a list or a dict is a pytree, one batch."""
    pytree = isinstance(x, list | tuple | Mapping | str)
    return isinstance(x, Iterable) and not pytree and not hasattr(x, "shape")


def _pairs(x: Iterable, classes: int, where: str) -> Iterator[tuple[Any, np.ndarray]]:
    for pair in x:
        check(
            isinstance(pair, tuple | list) and len(pair) == 2,
            f"expected pairs (x, y), since classes={classes}, got {type(pair).__name__}",
            where,
        )
        batch, y = pair
        n = count_samples([np.asarray(leaf) for leaf in jax.tree.leaves(batch)], where)
        yield batch, _labels(y, n, classes, where)


def _labels(y: Any, n: int, classes: int | None, where: str) -> np.ndarray:
    labels = np.asarray(y)
    check(
        labels.shape == (n,) and labels.dtype.kind in "iu",
        f"expected integer classes y of shape {(n,)}, got {labels.dtype} {labels.shape}",
        where,
    )
    top = np.inf if classes is None else classes
    check(
        labels.min() >= 0 and labels.max() < top,
        f"expected classes from 0 to {top - 1 if classes else 'the largest'}, got "
        f"{labels.min()} to {labels.max()}",
        where,
    )
    return labels
