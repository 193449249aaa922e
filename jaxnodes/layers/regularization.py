"""Dropout: of single values, and of whole channels."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnodes.errors import JaxNodesError, check, check_key, describe, is_concrete
from jaxnodes.layers.base import Layer
from jaxnodes.layers.random_bits import uniform


def dropout(
    key: jax.Array, x: Any, rate: float | jax.Array, *, shared_axes: Sequence[int] = ()
) -> jax.Array:
    """Each value zero with probability `rate`, else divided by `1 - rate`.

    Inverted dropout (Srivastava et al. 2014): the mean stays as it was, so that there
    is nothing to do at inference. `rate` is the probability to drop, as in PyTorch,
    flax and keras; one minus the probability to keep.

    Args:
      key: a typed PRNG key; the same key drops the same values.
      x: floating, of any shape.
      rate: in [0, 1); may be traced. At 0 this is the identity.
      shared_axes: axes along which values are dropped together.

    Returns:
      An array of x's shape and dtype.

    Raises:
      JaxNodesError: a rate outside of [0, 1), an untyped key, an `x` that isn't floating,
        or an axis that it hasn't got.

    Example:

    >>> import jax, jax.numpy as jnp
    >>> y = dropout(jax.random.key(0), jnp.ones(1000), 0.25)
    >>> sorted(set(y.tolist()))
    [0.0, 1.3333334]
    """
    x = jnp.asarray(x)
    _check_rate(rate, "dropout")
    check_key(key, "dropout")
    check(
        jnp.issubdtype(x.dtype, jnp.floating),
        f"expected floating inputs, got {describe(x)}; scale them first (x / 255 for pixels)",
        "dropout",
    )
    check(
        all(-x.ndim <= axis < x.ndim for axis in shared_axes),
        f"expected shared_axes of an array of shape {x.shape}, got {tuple(shared_axes)}",
        "dropout",
    )
    if is_concrete(rate) and float(rate) == 0:
        return x
    shared = {axis % x.ndim for axis in shared_axes}
    shape = tuple(1 if axis in shared else size for axis, size in enumerate(x.shape))
    # Divided in float32 at least: 0.9 rounded to bfloat16 would scale the mean.
    wide = np.promote_types(x.dtype, np.float32)
    kept = (x.astype(wide) / jnp.asarray(1 - rate, wide)).astype(x.dtype)
    return jnp.where(_keep_mask(key, rate, shape), kept, 0)


def channel_dropout(key: jax.Array, x: Any, rate: float | jax.Array) -> jax.Array:
    """Dropout of whole channels of a sample (Tompson et al. 2014, arXiv:1411.4280).

    Neighboring pixels say much the same, and dropping one of them drops little;
    PyTorch's `Dropout2d`, keras's `SpatialDropout2D`.

    Args:
      key: a typed PRNG key.
      x: (B, *space, C), with one or more axes of space; floating.
      rate: in [0, 1); may be traced.

    Returns:
      (B, *space, C).

    Raises:
      JaxNodesError: as for `dropout`, or an `x` without space.
    """
    check(
        jnp.ndim(x) >= 3,
        f"expected a batch (B, *space, C) with space to drop channels over, got {describe(x)}; "
        "dropout drops single values",
        "channel_dropout",
    )
    return dropout(key, x, rate, shared_axes=range(1, jnp.ndim(x) - 1))


@dataclasses.dataclass(frozen=True, repr=False)
class Dropout(Layer):
    """Dropout in training, the identity at inference; see `dropout`. Names no nodes.

    Args:
      rate: the probability to drop a value, in [0, 1).
      shared_axes: axes along which values are dropped together.

    Shapes: any x to the same. No parameters; needs `key=` in training.

    Example:

    >>> import jax.numpy as jnp, jaxnodes as jn
    >>> jn.Dropout(0.5).predict(({}, {}), jnp.ones(3))
    Array([1., 1., 1.], dtype=float32)
    """

    rate: float
    _: dataclasses.KW_ONLY
    shared_axes: tuple[int, ...] = ()

    def __post_init__(self):
        _check_rate(self.rate, "Dropout")
        object.__setattr__(self, "rate", float(self.rate))
        axes = self.shared_axes
        check(
            isinstance(axes, Sequence) and all(type(axis) is int for axis in axes),
            f"expected shared_axes to be a tuple of axes, got {axes!r}",
            "Dropout",
        )
        object.__setattr__(self, "shared_axes", tuple(axes))

    def apply(self, params, state, x, *, key=None, training=False):
        if not training or self.rate == 0:
            return x, state
        key = _needed(key, "dropout")
        return dropout(key, x, self.rate, shared_axes=self.shared_axes), state


@dataclasses.dataclass(frozen=True, repr=False)
class ChannelDropout(Layer):
    """Dropout of whole channels in training; see `channel_dropout`. Names no nodes.

    Args:
      rate: the probability to drop a channel of a sample, in [0, 1).

    Shapes: x (B, *space, C) to the same. No parameters; needs `key=` in training.
    """

    rate: float

    def __post_init__(self):
        _check_rate(self.rate, "ChannelDropout")
        object.__setattr__(self, "rate", float(self.rate))

    def apply(self, params, state, x, *, key=None, training=False):
        if not training or self.rate == 0:
            return x, state
        key = _needed(key, "channel_dropout")
        return channel_dropout(key, x, self.rate), state


def _keep_mask(key: jax.Array, rate: float | jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """The one place that draws random numbers."""
    return uniform(key, shape) < jnp.asarray(1 - rate, jnp.float32)


def _check_rate(rate: Any, where: str) -> None:
    fine = jnp.issubdtype(getattr(rate, "dtype", type(rate)), jnp.number) and np.shape(rate) == ()
    if fine and is_concrete(rate):
        fine = 0 <= float(rate) < 1
    check(fine, f"expected a rate to drop in [0, 1), got {rate!r}", where)


def _needed(key: jax.Array | None, where: str) -> jax.Array:
    if key is None:
        raise JaxNodesError(
            "expected a key to draw random numbers in training, got none; the network needs key= "
            "(apply(..., key=jax.random.key(seed), training=True))",
            where,
        )
    return key
