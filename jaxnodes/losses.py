"""Losses: each takes a whole batch and returns one number, the weighted mean.

    loss(predictions, targets, *, weights=None) = sum(w l) / sum(w)

Weights, or a boolean mask, lie on the leading axes: one a sample (N,), one a
step (N, T), or the full shape of the losses `l`. Targets at weight 0 count for
nothing and may be anything. Shapes must be equal as told; nothing is broadcast.
All is computed, and returned, in float32 or wider, whatever the predictions.

A bad target (a label that is no class, say), a negative weight, or weights that
are all zero are errors where values are concrete. Under `jax.jit` they aren't:
there the loss is NaN, and so is its whole gradient, never a wrong number.
All can be traced, differentiated and vmapped: `jax.vmap(loss)` is one loss a sample.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnodes.errors import check, is_concrete
from jaxnodes.targets import (
    binary_labels,
    check_distribution,
    class_labels,
    class_scores,
    float_scores,
    held,
    insist,
    poison,
    regression_targets,
    sample_weights,
    weighted_mean,
)


def mse(predictions: Any, targets: Any, *, weights: Any = None) -> jax.Array:
    """Mean squared error: the mean of (p - t)^2.

    Args:
      predictions: (N, ...), floating.
      targets: of the same shape; whole numbers become floats.
      weights: (N,), or more leading axes, of nonnegative numbers or booleans.

    Returns:
      A scalar.

    Raises:
      JaxNodesError: unequal shapes, an empty batch, or bad weights.

    Example:

    >>> import jax.numpy as jnp
    >>> mse(jnp.array([1.0, 2.0]), jnp.array([1.0, 4.0]))
    Array(2., dtype=float32)
    """
    error, w, factor = _errors(predictions, targets, weights, "mse")
    return poison(weighted_mean(error**2, w), factor)


def mae(predictions: Any, targets: Any, *, weights: Any = None) -> jax.Array:
    """Mean absolute error: the mean of |p - t|. Arguments as for `mse`.

    Example:

    >>> import jax.numpy as jnp
    >>> mae(jnp.array([1.0, 2.0]), jnp.array([1.0, 4.0]))
    Array(1., dtype=float32)
    """
    error, w, factor = _errors(predictions, targets, weights, "mae")
    return poison(weighted_mean(jnp.abs(error), w), factor)


def huber(predictions: Any, targets: Any, *, delta: float = 1.0, weights: Any = None) -> jax.Array:
    """Squared near zero, absolute far away (Huber 1964), with e = |p - t|:

        e^2 / 2                    where e <= delta
        delta (e - delta / 2)      beyond

    Args:
      predictions, targets, weights: as for `mse`.
      delta: where the one becomes the other; positive.

    Example:

    >>> import jax.numpy as jnp
    >>> huber(jnp.array([1.0, 2.0]), jnp.array([2.0, 5.0]))
    Array(1.5, dtype=float32)
    """
    where = "huber"
    fine = not is_concrete(delta) or 0 < delta < np.inf
    check(fine, f"expected a positive delta, and a finite one (mae has none), got {delta}", where)
    error, w, factor = _errors(predictions, targets, weights, where)
    e = jnp.abs(error)
    near = jnp.minimum(e, delta)
    return poison(weighted_mean(near**2 / 2 + delta * (e - near), w), factor)


def binary_cross_entropy(
    logits: Any,
    labels: Any,
    *,
    weights: Any = None,
    from_logits: bool = True,
    label_smoothing: float = 0.0,
) -> jax.Array:
    """Binary cross-entropy: the mean of -y log p - (1 - y) log(1 - p), p = sigmoid(logit).

    Args:
      logits: (N, ...), floating: each a weighted sum before the sigmoid.
      labels: of the same shape: 0 and 1 (or booleans), or probabilities of 1.
      weights: (N,), or more leading axes, of nonnegative numbers or booleans.
      from_logits: `False` if `logits` went through a sigmoid already. Then a p or
        1 - p below the smallest normal number of the dtype counts as that number
        and has no gradient; logits don't have this limit.
      label_smoothing: s in [0, 1): the labels become (1 - s) y + s / 2.

    Returns:
      A scalar.

    Raises:
      JaxNodesError: unequal shapes, an empty batch, labels or probabilities
        outside [0, 1], or bad weights.

    Example:

    >>> import jax.numpy as jnp
    >>> binary_cross_entropy(jnp.array([0.0, 100.0]), jnp.array([1, 0]))
    Array(50.346573, dtype=float32)
    """
    where = "binary_cross_entropy"
    _check_smoothing(label_smoothing, where)
    scores = float_scores(logits, "logits", where)
    w, factor = sample_weights(weights, scores.shape, where)
    z, y, fine = binary_labels(scores, labels, w, where)
    factor = factor * fine * (1.0 if from_logits else _check_probabilities(logits, where))
    z = poison(z, factor)
    y = (1 - label_smoothing) * y + label_smoothing / 2
    if from_logits:
        log_p, log_not_p = jax.nn.log_sigmoid(z), jax.nn.log_sigmoid(-z)
    else:
        log_p, log_not_p = _log(z), _log(1 - z)
    return poison(weighted_mean(-y * log_p - (1 - y) * log_not_p, w), factor)


def cross_entropy(
    logits: Any,
    labels: Any,
    *,
    weights: Any = None,
    from_logits: bool = True,
    label_smoothing: float = 0.0,
    class_weights: Any = None,
) -> jax.Array:
    """Categorical cross-entropy: the mean of -sum_c y_c log p_c, p = softmax(logits).

    Args:
      logits: (..., C), floating, of C >= 2 classes: weighted sums before the softmax.
      labels: integers (...) in [0, C); or one-hot labels or probabilities (..., C).
      weights: one a label, or one for all labels behind a leading axis (N,):
        nonnegative numbers or booleans.
      from_logits: `False` if `logits` went through a softmax already. Then a p
        below the smallest normal number of the dtype counts as that number and
        has no gradient; logits don't have this limit.
      label_smoothing: s in [0, 1): the labels become (1 - s) y + s / C
        (Szegedy et al. 2016, arXiv:1512.00567).
      class_weights: (C,), nonnegative: multiplies a sample's weight by that of its
        class (for probabilities, by the mean over them).

    Returns:
      A scalar.

    Raises:
      JaxNodesError: shapes that don't fit, an empty batch, a label that is no
        class, float labels where integers are meant, labels or probabilities that
        don't sum to 1, or bad weights.

    Example:

    >>> import jax.numpy as jnp
    >>> logits = jnp.array([[0.0, 0.0], [0.0, 100.0]])
    >>> cross_entropy(logits, jnp.array([0, 1]))
    Array(0.34657359, dtype=float32)
    >>> cross_entropy(logits, jnp.array([0, 2]))
    Traceback (most recent call last):
    jaxnodes.errors.JaxNodesError: cross_entropy: expected labels from 0 to 1, got 2
    """
    where = "cross_entropy"
    _check_smoothing(label_smoothing, where)
    scores = class_scores(logits, where, "use binary_cross_entropy for a single logit a sample")
    w, factor = sample_weights(weights, scores.shape[:-1], where)
    z, y, fine = class_labels(scores, labels, w, where)
    factor = factor * fine * (1.0 if from_logits else _check_distributions(logits, where))
    if class_weights is not None:
        class_w, fine = _class_weights(class_weights, y, z, where)
        w = class_w if w is None else w.astype(z.dtype) * class_w
        factor = factor * fine
    if y.ndim == z.ndim or not from_logits:  # else a NaN result reaches each logit by the softmax
        z = poison(z, factor)
    each = _cross_entropies(z, y, label_smoothing, from_logits)
    return poison(weighted_mean(each, w), factor)


#: The losses that take logits, unless told `from_logits=False`.
ON_LOGITS = frozenset({binary_cross_entropy, cross_entropy})


def _cross_entropies(z: jax.Array, y: jax.Array, smoothing: float, from_logits: bool) -> jax.Array:
    if y.ndim == z.ndim:
        log_p = jax.nn.log_softmax(z) if from_logits else _log(z)
        y = (1 - smoothing) * y + smoothing / z.shape[-1]
        # A class of no probability costs nothing, even where log p is -inf.
        return -jnp.sum(y * jnp.where(y > 0, log_p, 0), axis=-1)
    if from_logits:
        # From the greatest up: -log p_y = log sum_c e^(z_c - top) + (top - z_y). Each z less the
        # top stays inside its sum; indexed, they would all be written out, at twice the time.
        top = jax.lax.stop_gradient(z.max(axis=-1, keepdims=True))
        log_sum = jnp.log(jnp.sum(jnp.exp(z - top), axis=-1, keepdims=True))
    else:
        z, top, log_sum = _log(z), 0.0, 0.0
    expected = (1 - smoothing) * (_of_class(z, y) - top)
    if smoothing:
        expected += smoothing * jnp.mean(z - top, axis=-1, keepdims=True)
    return (log_sum - expected)[..., 0]


@jax.custom_jvp
def _of_class(z: jax.Array, y: jax.Array) -> jax.Array:
    """(..., 1): z (..., C) at the classes y (...), with a gradient by comparing.

    An index's own gradient is a scatter. A label outside of the classes may point
    anywhere: the result is NaN already.
    """
    return jnp.take_along_axis(z, y[..., None], axis=-1, mode="clip")


@_of_class.defjvp
def _derived(primals, tangents):
    (z, y), (dz, _) = primals, tangents
    is_y = jnp.arange(z.shape[-1], dtype=y.dtype) == y[..., None]
    return _of_class(z, y), jnp.sum(jnp.where(is_y, dz, 0), axis=-1, keepdims=True)


def _class_weights(weights: Any, y: jax.Array, z: jax.Array, where: str) -> tuple[jax.Array, Any]:
    check(
        np.shape(weights) == z.shape[-1:],
        f"expected class_weights {z.shape[-1:]}, got {np.shape(weights)}; give one to each class",
        where,
    )
    w, factor = sample_weights(weights, z.shape[-1:], where)
    per_class = jnp.asarray(w.astype(z.dtype))
    if y.ndim < z.ndim:
        return jnp.take(per_class, y, mode="clip"), factor
    return y @ per_class, factor


def _errors(predictions: Any, targets: Any, weights: Any, where: str) -> tuple[Any, Any, Any]:
    predictions = float_scores(predictions, "predictions", where)
    w, factor = sample_weights(weights, predictions.shape, where)
    predictions, targets = regression_targets(predictions, targets, w, where)
    return poison(predictions, factor) - targets, w, factor


def _log(p: jax.Array) -> jax.Array:
    """log p, and at underflow the log of the smallest normal number, with no gradient."""
    return jnp.log(jnp.maximum(p, jnp.finfo(p.dtype).tiny))


def _check_probabilities(p: Any, where: str) -> Any:
    p = held(p)
    expected = "expected probabilities from 0 to 1 with from_logits=False"
    return insist((p >= 0) & (p <= 1), expected, p, where)


def _check_distributions(p: Any, where: str) -> Any:
    p = held(p)
    expected = "expected probabilities that sum to 1 over the last axis with from_logits=False"
    return check_distribution(p, expected, np.False_, where)


def _check_smoothing(smoothing: Any, where: str) -> None:
    fine = isinstance(smoothing, (int, float)) and math.isfinite(smoothing) and 0 <= smoothing < 1
    check(fine, f"expected label_smoothing in [0, 1), got {smoothing!r}", where)
