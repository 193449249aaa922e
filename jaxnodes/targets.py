"""What losses and metrics ask of their inputs, and the mean that they share.

Shapes and dtypes are checked always, values whenever they are concrete. For
values that are still being traced a factor stands for the check: 1 where they
turn out fine, else NaN, which makes the result NaN, and all of its gradient.
"""

import textwrap
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnodes.errors import JaxNodesError, check, describe, is_concrete

#: Concrete values are held by NumPy, since under jit `jnp` would trace them.
Array = Any


def held(x: Any) -> Array:
    """Concrete values as NumPy holds them, so that no int64 label is cut short unseen."""
    return np.asarray(x) if is_concrete(x) else jnp.asarray(x)


def insist(fine: Array, problem: str, values: Array, where: str) -> Any:
    """The factor 1 or NaN of a check; concrete, an error that shows the first bad value."""
    if not is_concrete(fine):
        return jnp.where(jnp.all(fine), 1.0, jnp.nan)
    if not np.all(fine):
        first = " ".join(str(np.asarray(values)[~np.asarray(fine)][0]).split())
        raise JaxNodesError(f"{problem}, got {textwrap.shorten(first, 60)}", where)
    return 1.0


def poison(x: jax.Array, factor: Any) -> jax.Array:
    """`x` by a factor of 1 or NaN.

    Losses apply it to the predictions, since a select or a gather behind them may
    keep a NaN from their gradient, and to the result, since it may keep one from that.
    """
    return x if isinstance(factor, float) else x * factor


def float_scores(x: Any, name: str, where: str) -> jax.Array:
    """What a network made, in float32 or wider, and not empty."""
    x = jnp.asarray(x)
    check(
        jnp.issubdtype(x.dtype, jnp.floating),
        f"expected floating {name}, got {describe(x)}; pass what the network returns",
        where,
    )
    check(x.size, f"expected at least one sample, got {name} of shape {x.shape}", where)
    return x.astype(np.promote_types(x.dtype, np.float32))


def class_scores(logits: Any, where: str, mend: str) -> jax.Array:
    """`float_scores` (..., C) of two or more classes."""
    logits = float_scores(logits, "logits", where)
    check(
        logits.ndim and logits.shape[-1] > 1,
        f"expected logits (..., C) of two or more classes, got {logits.shape}; {mend}",
        where,
    )
    return logits


def sample_weights(weights: Any, shape: tuple[int, ...], where: str) -> tuple[Array, Any]:
    """Weights on the leading axes of `shape`, with ones for the others, and their factor."""
    if weights is None:
        return None, 1.0
    w = held(weights)
    fits = w.shape == shape[: w.ndim] and (w.ndim or not shape)
    check(fits, f"expected weights {shape[:1]} or {shape}, got {describe(w)}", where)
    check(not jnp.iscomplexobj(w), f"expected real weights, got {describe(w)}", where)
    w = w.astype(np.float32) if w.dtype == bool else w
    w = w.reshape(w.shape + (1,) * (len(shape) - w.ndim))
    factor = insist(w >= 0, "expected nonnegative weights", w, where)
    positive = (w > 0).any()
    return w, factor * insist(positive, "expected a weight above zero", "zeros only", where)


def regression_targets(
    predictions: jax.Array, targets: Any, w: Array, where: str
) -> tuple[jax.Array, jax.Array]:
    """Predictions, and targets of their shape, both in the wider dtype of the two."""
    targets = held(targets)
    _check_shape(targets, predictions, "targets", "predictions", where)
    dtype = _wider(predictions.dtype, targets)
    return predictions.astype(dtype), _used(targets.astype(dtype), w)


def binary_labels(
    logits: jax.Array, labels: Any, w: Array, where: str, *, hard: bool = False
) -> tuple[jax.Array, jax.Array, Any]:
    """Logits, and labels of their shape, both as floats of the wider dtype; the factor.

    Labels are 0, 1 or between; if `hard`, 0 or 1.
    """
    labels = held(labels)
    _check_shape(labels, logits, "labels", "logits", where)
    labels = labels.astype(np.float32) if labels.dtype == bool else labels
    fine = (labels == 0) | (labels == 1) if hard else (labels >= 0) & (labels <= 1)
    expected = f"expected labels {'0 or 1' if hard else 'from 0 to 1'}"
    factor = insist(fine | _unused(w), expected, labels, where)
    dtype = _wider(logits.dtype, labels)
    return logits.astype(dtype), _used(labels.astype(dtype), w), factor


def class_labels(
    logits: jax.Array, labels: Any, w: Array, where: str
) -> tuple[jax.Array, jax.Array, Any]:
    """Logits, and labels: integers (...), or probabilities (..., C) as floats; the factor."""
    labels = held(labels)
    leading, classes = logits.shape[:-1], logits.shape[-1]
    if labels.shape == leading:
        check(
            jnp.issubdtype(labels.dtype, jnp.integer),
            f"expected integer labels, got {describe(labels)}; astype(int) if they are whole",
            where,
        )
        if labels.dtype.itemsize < 4:  # may be too narrow for the number of classes
            labels = labels.astype(np.int32)
        fine = (labels >= 0) & (labels < classes)
        expected = f"expected labels from 0 to {classes - 1}"
        factor = insist(fine | _unused(w), expected, labels, where)
        return logits, _used(labels, w), factor
    check(
        labels.shape == logits.shape,
        f"expected integer labels {leading} or one-hot labels {logits.shape}, got "
        f"{describe(labels)}{_reshaping(labels.shape, leading)}",
        where,
    )
    expected = "expected one-hot labels, or probabilities that sum to 1 over the last axis"
    factor = check_distribution(labels, expected, _unused(w), where)
    dtype = _wider(logits.dtype, labels)
    w = w if w is None else w[..., None]
    return logits.astype(dtype), _used(labels.astype(dtype), w), factor


def class_indices(
    logits: Any, labels: Any, weights: Any, where: str, mend: str
) -> tuple[jax.Array, jax.Array, Array, Any]:
    """Logits (..., C), integer labels (...), weights, and the factor of all checks."""
    scores = class_scores(logits, where, mend)
    w, factor = sample_weights(weights, scores.shape[:-1], where)
    scores, y, fine = class_labels(scores, labels, w, where)
    return scores, y if y.ndim < scores.ndim else jnp.argmax(y, axis=-1), w, factor * fine


def check_distribution(p: Array, expected: str, unused: Array, where: str) -> Any:
    """The factor for nonnegative `p` (..., C) that sum to 1, as far as its dtype can tell."""
    tolerance = 1e-2 if p.dtype.itemsize <= 2 else 1e-3
    wide = p.astype(_wider(jnp.float32, p))
    fine = (wide >= 0).all(-1) & (abs(wide.sum(-1) - 1) <= tolerance)
    of = f"(of {p.shape}" + (", one sample)" if p.ndim == 1 else ")")
    return insist(fine | unused, f"{expected} {of}", p, where)


def weighted_mean(values: jax.Array, w: Array) -> jax.Array:
    """sum(w values) / sum(w), with one weight for all that lies behind a leading axis."""
    if w is None:
        return jnp.mean(values)
    w = jnp.broadcast_to(jnp.asarray(w.astype(values.dtype)), values.shape)
    return jnp.sum(w * values) / jnp.sum(w)


def _wider(dtype: Any, x: Array) -> Any:
    if jnp.issubdtype(x.dtype, jnp.floating):
        dtype = np.promote_types(x.dtype, dtype)
    return jax.dtypes.canonicalize_dtype(dtype)


def _unused(w: Array) -> Array:
    """Where the weight is zero: the target there counts for nothing, and may be anything."""
    return np.False_ if w is None else w == 0


def _used(x: Array, w: Array) -> jax.Array:
    """Targets, with zeros for those of no weight: zero times NaN would be NaN."""
    if w is None:
        return jax.device_put(x) if is_concrete(x) else x  # `jnp.asarray` compiles a program
    return jnp.where(w == 0, 0, x)


def _check_shape(x: Array, like: jax.Array, name: str, like_name: str, where: str) -> None:
    check(
        x.shape == like.shape,
        f"expected {name} of the same shape as the {like_name}, {like.shape}, got {x.shape}"
        f"{_reshaping(x.shape, like.shape)}",
        where,
    )
    check(not jnp.iscomplexobj(x), f"expected real {name}, got {describe(x)}", where)


def _reshaping(shape: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    if shape == (*wanted, 1):
        return "; [..., 0] takes the last axis off"
    return "; [..., None] adds the last axis" if (*shape, 1) == wanted else ""
