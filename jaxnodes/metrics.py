"""Metrics: each sees all samples at once and returns one number (or one a class).

    metric(logits, labels, *, weights=None)

Labels, weights and what is checked are as for the losses: a bad label is an
error where values are concrete, and makes the result NaN under `jax.jit`. A
metric of a whole data set is not a mean of the metrics of its batches: give it
everything. All but `roc_auc` can be traced and vmapped.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnodes.confusion import confusion_matrix as confusion_matrix
from jaxnodes.confusion import f1 as f1
from jaxnodes.confusion import f1_per_class as f1_per_class
from jaxnodes.confusion import precision as precision
from jaxnodes.confusion import precision_per_class as precision_per_class
from jaxnodes.confusion import recall as recall
from jaxnodes.confusion import recall_per_class as recall_per_class
from jaxnodes.confusion import two_classes as two_classes
from jaxnodes.errors import check, check_count, is_concrete
from jaxnodes.losses import mae
from jaxnodes.targets import (
    binary_labels,
    class_indices,
    class_labels,
    float_scores,
    held,
    insist,
    regression_targets,
    sample_weights,
    weighted_mean,
)


def accuracy(logits: Any, labels: Any, *, weights: Any = None) -> jax.Array:
    """The share of samples whose largest logit is that of their class.

    Args:
      logits: (..., C), or probabilities; of equal ones the first is taken, and NaN is
        above all numbers, as for `jnp.argmax`.
      labels: integers (...) in [0, C), or one-hot (..., C).
      weights: one a label, or one for all labels behind a leading axis (N,):
        nonnegative numbers or booleans.

    Returns:
      A scalar between 0 and 1, floating.

    Raises:
      JaxNodesError: a single column of logits, labels that are no classes, shapes
        that don't fit, or an empty batch.

    Example:

    >>> import jax.numpy as jnp
    >>> accuracy(jnp.array([[0.1, 0.9], [0.8, 0.2]]), jnp.array([1, 1]))
    Array(0.5, dtype=float32)
    """
    return top_k_accuracy(logits, labels, k=1, weights=weights)


def top_k_accuracy(logits: Any, labels: Any, *, k: int = 5, weights: Any = None) -> jax.Array:
    """The share of samples whose class is among the `k` largest logits.

    Arguments as for `accuracy`, which is `k=1`; of equal logits the first come first.
    """
    where = "accuracy" if k == 1 else "top_k_accuracy"
    mend = "use binary_accuracy for a single logit a sample"
    logits, y, w, factor = class_indices(logits, labels, weights, where, mend)
    classes = logits.shape[-1]
    check_count(k, "k", where)
    check(k <= classes, f"expected k from 1 to the {classes} classes, got {k}", where)
    return _share_among(logits, y, w, factor, k)


@functools.partial(jax.jit, static_argnames="k", inline=True)
def _share_among(logits: jax.Array, y: jax.Array, w: Any, factor: Any, k: int) -> jax.Array:
    """In one program, for outside of jit each operation would be one of its own to compile."""
    if k == 1:
        right = jnp.argmax(logits, axis=-1).astype(y.dtype) == y
    else:
        own = jnp.take_along_axis(logits, y[..., None], axis=-1, mode="clip")
        earlier = jnp.arange(logits.shape[-1], dtype=y.dtype) < y[..., None]
        ahead = ~(logits <= own) | ((logits == own) & earlier)
        ahead = jnp.where(jnp.isnan(own), jnp.isnan(logits) & earlier, ahead)
        right = jnp.sum(ahead, axis=-1) < k
    return weighted_mean(right.astype(logits.dtype), w) * factor


def binary_accuracy(
    logits: Any,
    labels: Any,
    *,
    weights: Any = None,
    threshold: float | None = None,
    from_logits: bool = True,
) -> jax.Array:
    """The share of samples on the right side of the threshold.

    Args:
      logits: (N, ...), floating: each a weighted sum before the sigmoid. NaN is right for
        neither label.
      labels: of the same shape, 0 and 1 of any dtype.
      weights: (N,), or more leading axes, of nonnegative numbers or booleans.
      threshold: what is above it counts as 1; by default 0, or 0.5 for probabilities.
      from_logits: `False` if `logits` are probabilities.

    Example:

    >>> import jax.numpy as jnp
    >>> binary_accuracy(jnp.array([-1.0, 2.0, 3.0, 0.5]), jnp.array([0, 1, 0, 1]))
    Array(0.75, dtype=float32)
    """
    where = "binary_accuracy"
    scores = float_scores(logits, "logits", where)
    w, factor = sample_weights(weights, scores.shape, where)
    scores, y, fine = binary_labels(scores, labels, w, where, hard=True)
    if threshold is None:
        threshold = 0.0 if from_logits else 0.5
    right = jnp.where(y == 1, scores > threshold, scores <= threshold)
    return weighted_mean(right.astype(scores.dtype), w) * factor * fine


def mean_absolute_error(predictions: Any, targets: Any, *, weights: Any = None) -> jax.Array:
    """The mean of |p - t|; `mae` by its long name."""
    return mae(predictions, targets, weights=weights)


def r2_score(predictions: Any, targets: Any, *, weights: Any = None) -> jax.Array:
    """The share of the targets' variance that the predictions explain:

        1 - sum(w (t - p)^2) / sum(w (t - mean t)^2)

    Args:
      predictions: (N, ...), floating. Of several outputs the mean is returned.
      targets: of the same shape.
      weights: (N,) of nonnegative numbers or booleans.

    Returns:
      A scalar: 1 for perfect predictions, 0 for the targets' mean, negative for worse.

    Raises:
      JaxNodesError: unequal shapes, no samples, or targets that are all the same.

    Example:

    >>> import jax.numpy as jnp
    >>> r2_score(jnp.array([1.0, 2.0, 4.0]), jnp.array([1.0, 2.0, 3.0]))
    Array(0.5, dtype=float32)
    """
    where = "r2_score"
    p = float_scores(predictions, "predictions", where)
    check(p.ndim, "expected predictions (N, ...), got a scalar", where)
    w, factor = sample_weights(weights, p.shape[:1], where)
    w = np.ones(p.shape[:1], np.float32) if w is None else w
    w = w.reshape(-1, *[1] * (p.ndim - 1))
    p, t = regression_targets(p, targets, w, where)
    values, counted = held(targets).astype(p.dtype), w > 0
    xp = np if is_concrete((values, w)) else jnp
    highest = xp.max(values, 0, where=counted, initial=-np.inf)
    lowest = xp.min(values, 0, where=counted, initial=np.inf)
    differ = highest > lowest
    factor = factor * insist(differ, "expected targets that differ", highest, where)
    w = jnp.asarray(w.astype(p.dtype))
    mean = jnp.sum(w * t, axis=0) / jnp.sum(w)
    unexplained = jnp.sum(w * (t - p) ** 2, axis=0) / jnp.sum(w * (t - mean) ** 2, axis=0)
    return jnp.mean(1 - unexplained) * factor


def roc_auc(logits: Any, labels: Any, *, weights: Any = None) -> float:
    """The chance that a sample of a class scores higher for it than one that isn't.

    Worked out by scikit-learn on the host, so it can't be traced.

    Args:
      logits: (N,) or (N, 1), one score a sample, with labels 0 and 1 of the same
        shape; or (N, C) with integer or one-hot labels, where the mean over each
        class against the rest is returned ("ovr", "macro").
      labels, weights: as above; weights (N,).

    Raises:
      JaxNodesError: traced arguments, or a class that no sample (or every one) has.

    Example:

    >>> import numpy as np
    >>> roc_auc(np.array([-1.0, 2.0, 0.5, 3.0]), np.array([0, 1, 1, 0]))
    0.5
    """
    where = "roc_auc"
    check(
        is_concrete((logits, labels, weights)),
        "expected concrete arrays, got traced ones; call it outside of jit, vmap and grad",
        where,
    )
    scores = float_scores(logits, "logits", where)
    shape = scores.shape
    binary = len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)
    check(binary or len(shape) == 2, f"expected logits (N,), (N, 1) or (N, C), got {shape}", where)
    w, _ = sample_weights(weights, shape[:1], where)
    if binary:
        per_label = None if w is None else w.reshape(-1, *shape[1:])
        scores, y, _ = binary_labels(scores, labels, per_label, where, hard=True)
        columns, hits = scores.reshape(-1, 1), y.reshape(-1, 1) == 1
    else:
        scores, y, _ = class_labels(scores, labels, w, where)
        y = y if y.ndim == 1 else jnp.argmax(y, axis=-1)
        # Against the rest a class is ranked by its probability: logits don't compare over samples.
        columns, hits = jax.nn.softmax(scores), y[:, None] == jnp.arange(shape[-1], dtype=y.dtype)
    used = np.ones(shape[0], bool) if w is None else w > 0
    columns, hits = np.asarray(columns)[used], np.asarray(hits)[used]
    check(
        np.all(hits.any(0) & ~hits.all(0)),
        "expected samples of every class, and others; got a class that none or every one has",
        where,
    )
    from sklearn.metrics import roc_auc_score

    w = None if w is None else w[used]
    areas = [
        roc_auc_score(hit, column, sample_weight=w)
        for hit, column in zip(hits.T, columns.T, strict=True)
    ]
    return float(np.mean(areas))
