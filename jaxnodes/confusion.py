"""What was taken for what: the confusion matrix, and the rates that are read off it.

`precision`, `recall` and `f1` are one number, the mean over classes; their
`_per_class` forms are one number a class. Arguments and checks as for `accuracy`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxnodes.targets import class_indices, float_scores


def two_classes(logits: Any) -> jax.Array:
    """Logits (N,) or (N, 1) of a sigmoid as those of an equal softmax, (N, 2): [0, z].

    So that the metrics of classes serve a binary head:

    >>> import jax.numpy as jnp
    >>> z = jnp.array([-1.0, 2.0, 3.0])
    >>> precision_per_class(two_classes(z), jnp.array([0, 1, 0]))
    Array([1. , 0.5], dtype=float32)
    """
    z = float_scores(logits, "logits", "two_classes")
    z = z[..., 0] if z.ndim > 1 and z.shape[-1] == 1 else z
    return jnp.stack([jnp.zeros_like(z), z], axis=-1)


def confusion_matrix(logits: Any, labels: Any, *, weights: Any = None) -> jax.Array:
    """How many samples of each class (rows) were taken for each (columns).

    Arguments as for `accuracy`.

    Returns:
      (C, C), floating: the weights of the samples in each cell, added up.

    Example:

    >>> import jax.numpy as jnp
    >>> logits = jnp.array([[2.0, 1.0], [2.0, 1.0], [0.0, 1.0]])
    >>> confusion_matrix(logits, jnp.array([0, 1, 1]))
    Array([[1., 0.],
           [1., 1.]], dtype=float32)
    """
    return _confusion(logits, labels, weights, "confusion_matrix")


def precision(logits: Any, labels: Any, *, weights: Any = None) -> jax.Array:
    """The mean of `precision_per_class` over the classes that occur ("macro").

    A class occurs if a sample has it, or was taken for it. Arguments as for `accuracy`.
    """
    return _macro(logits, labels, weights, "precision")


def recall(logits: Any, labels: Any, *, weights: Any = None) -> jax.Array:
    """The mean of `recall_per_class` over the classes that occur ("macro").

    A class occurs if a sample has it, or was taken for it. Arguments as for `accuracy`.
    """
    return _macro(logits, labels, weights, "recall")


def f1(logits: Any, labels: Any, *, weights: Any = None) -> jax.Array:
    """The mean of `f1_per_class` over the classes that occur ("macro").

    A class occurs if a sample has it, or was taken for it. Arguments as for `accuracy`.

    Example:

    >>> import jax.numpy as jnp
    >>> logits = jnp.array([[2.0, 1.0], [2.0, 1.0], [0.0, 1.0]])
    >>> f1(logits, jnp.array([0, 1, 1]))
    Array(0.6666667, dtype=float32)
    """
    return _macro(logits, labels, weights, "f1")


def precision_per_class(logits: Any, labels: Any, *, weights: Any = None) -> jax.Array:
    """Of the samples taken for a class, the share that has it: (C,).

    Zero for a class that none was taken for. Arguments as for `accuracy`.
    """
    return _RATES["precision"](_confusion(logits, labels, weights, "precision_per_class"))


def recall_per_class(logits: Any, labels: Any, *, weights: Any = None) -> jax.Array:
    """Of the samples of a class, the share that was taken for it: (C,).

    Zero for a class that none has. Arguments as for `accuracy`.
    """
    return _RATES["recall"](_confusion(logits, labels, weights, "recall_per_class"))


def f1_per_class(logits: Any, labels: Any, *, weights: Any = None) -> jax.Array:
    """The harmonic mean of precision and recall, 2 TP / (2 TP + FP + FN): (C,).

    Zero for a class that doesn't occur. Arguments as for `accuracy`.
    """
    return _RATES["f1"](_confusion(logits, labels, weights, "f1_per_class"))


def _confusion(logits: Any, labels: Any, weights: Any, where: str) -> jax.Array:
    mend = "make two columns of a single logit a sample by two_classes"
    logits, y, w, factor = class_indices(logits, labels, weights, where, mend)
    classes = logits.shape[-1]
    w = jnp.ones(y.shape, logits.dtype) if w is None else jnp.asarray(w.astype(logits.dtype))
    cell = jnp.clip(y, 0, classes - 1) * classes + jnp.argmax(logits, axis=-1).astype(y.dtype)
    counts = jnp.zeros(classes**2, logits.dtype).at[cell].add(jnp.broadcast_to(w, y.shape))
    return counts.reshape(classes, classes) * factor


def _share(part: jax.Array, whole: jax.Array) -> jax.Array:
    """part / whole, and zero where both are."""
    return part / jnp.where(whole == 0, 1, whole)


_RATES: dict[str, Callable[[jax.Array], jax.Array]] = {
    "precision": lambda m: _share(jnp.diagonal(m), m.sum(0)),
    "recall": lambda m: _share(jnp.diagonal(m), m.sum(1)),
    "f1": lambda m: _share(2 * jnp.diagonal(m), m.sum(0) + m.sum(1)),
}


def _macro(logits: Any, labels: Any, weights: Any, rate: str) -> jax.Array:
    matrix = _confusion(logits, labels, weights, rate)
    occurs = matrix.sum(0) + matrix.sum(1) != 0
    return jnp.mean(_RATES[rate](matrix), where=occurs)
