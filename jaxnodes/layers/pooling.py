"""Pooling: each window of an image, a signal or a volume made one value.

A window is folded from its taps: `x[:, i::stride, j::stride]` for every place
(i, j) within the window. Slices, comparisons and sums are all there is, so every
transformation of JAX applies, to any order; and XLA fuses them into loops, on CPU
about ten times as fast as the gradient of a `reduce_window`.

The gradient of a slice is a padded array, and a sum of those a loop with branches. Of the usual
windows, which lie side by side, it is said otherwise: each window's gradient is spread over its
values, where those that are not the largest get zero.
"""

import dataclasses
import functools
import itertools
import math
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnodes.errors import check, describe
from jaxnodes.layers.base import Layer
from jaxnodes.layers.sliding import Padding, Size, as_tuples, padding_for, sizes_for
from jaxnodes.stored import stored

Sizes = tuple[int, ...]


def max_pool(
    x: Any, window: Size, *, stride: Size | None = None, padding: Padding = "VALID"
) -> jax.Array:
    """The largest value of each window.

    The gradient goes to the largest value, of equal ones to the first (in row-major
    order), as in PyTorch. A NaN makes its windows NaN.

    Args:
      x: (B, *space, C), one to three axes of space; floating.
      window: sizes along the axes of space; a whole number stands for all of them.
      stride: steps from window to window; `None` is the window's size.
      padding: `"VALID"` (none: what is left over beyond the last whole window is
        dropped), `"SAME"` (ceil(size / stride) windows), an int for all sides, or for
        each axis of space an int or a pair (low, high). Padding never is the largest.

    Returns:
      (B, *windows, C).

    Raises:
      JaxNodesError: a window larger than the padded input or no larger than the
        padding, or an input that isn't a batch of floats.

    Example:

    >>> import jax.numpy as jnp
    >>> max_pool(jnp.array([1.0, 3.0, 2.0, 5.0, 4.0]).reshape(1, 5, 1), 2).ravel()
    Array([3., 5.], dtype=float32)
    """
    x, sizes, steps, pads = _resolved(x, window, stride, padding, "max_pool")
    return _fold(_largest, _padded(x, -jnp.inf, pads), sizes, steps)


def avg_pool(
    x: Any, window: Size, *, stride: Size | None = None, padding: Padding = "VALID"
) -> jax.Array:
    """The mean of each window, over the values that are not padding.

    So the mean of a constant is that constant up to the border: keras's meaning, PyTorch's
    with `count_include_pad=False`, and flax's.

    Args:
      x, window, stride, padding: as for `max_pool`.

    Returns:
      (B, *windows, C).

    Raises:
      JaxNodesError: as for `max_pool`.

    Example:

    >>> import jax.numpy as jnp
    >>> avg_pool(jnp.array([1.0, 3.0, 2.0]).reshape(1, 3, 1), 2, stride=1, padding="SAME").ravel()
    Array([2. , 2.5, 2. ], dtype=float32)
    """
    x, sizes, steps, pads = _resolved(x, window, stride, padding, "avg_pool")
    wide = x.astype(np.promote_types(x.dtype, jnp.float32))
    total = _fold(_sum, _padded(wide, 0.0, pads), sizes, steps)
    ones = np.pad(np.ones((1, *x.shape[1:-1], 1), wide.dtype), ((0, 0), *pads, (0, 0)))
    return (total / _fold(_total, ones, sizes, steps)).astype(x.dtype)


def global_max_pool(x: Any) -> jax.Array:
    """The largest value of each channel over all of space: (B, *space, C) to (B, C).

    The gradient goes to the first of equal ones. A NaN makes its channel NaN.

    Raises:
      JaxNodesError: no axis of space, an empty one, or an input that isn't floating.
    """
    x = _spatial(x, "global_max_pool")
    x = x.reshape(x.shape[0], -1, x.shape[-1])
    return jnp.take_along_axis(x, x.argmax(1, keepdims=True), axis=1).squeeze(1)


def global_avg_pool(x: Any) -> jax.Array:
    """The mean of each channel over all of space: (B, *space, C) to (B, C).

    Raises:
      JaxNodesError: no axis of space, an empty one, or an input that isn't floating.
    """
    x = _spatial(x, "global_avg_pool")
    return x.mean(tuple(range(1, x.ndim - 1)))


@dataclasses.dataclass(frozen=True, repr=False)
class _Pool(Layer):
    window: Size
    _: dataclasses.KW_ONLY
    stride: Size | None = None
    padding: Padding = "VALID"

    def __post_init__(self):
        fields = ("window", "stride", "padding")
        for name in fields:
            object.__setattr__(self, name, as_tuples(getattr(self, name)))
        tuples = [v for v in map(self.__getattribute__, fields) if isinstance(v, tuple)]
        rank = len(tuples[0]) if tuples else 1
        _sliding(self.window, self.stride, self.padding, rank, type(self).__name__)


@dataclasses.dataclass(frozen=True, repr=False)
class MaxPool(_Pool):
    """The largest value of each window; see `max_pool`. Names no nodes.

    Args:
      window: sizes along the axes of space; a whole number stands for all of them.
      stride: steps from window to window; `None` is the window's size.
      padding: `"VALID"`, `"SAME"`, an int, or an int or a pair (low, high) an axis.

    Shapes: x (B, *space, C) to (B, *windows, C). No parameters.

    Example:

    >>> import jax.numpy as jnp, jaxnodes as jn
    >>> jn.MaxPool(2).predict(({}, {}), jnp.ones((8, 28, 28, 3))).shape
    (8, 14, 14, 3)
    """

    def apply(self, params, state, x, *, key=None, training=False):
        return max_pool(x, self.window, stride=self.stride, padding=self.padding), state


@dataclasses.dataclass(frozen=True, repr=False)
class AvgPool(_Pool):
    """The mean of each window; see `avg_pool`. Names no nodes.

    Args, shapes and parameters as for `MaxPool`.
    """

    def apply(self, params, state, x, *, key=None, training=False):
        return avg_pool(x, self.window, stride=self.stride, padding=self.padding), state


@dataclasses.dataclass(frozen=True, repr=False)
class GlobalMaxPool(Layer):
    """The largest value of each channel: (B, *space, C) to (B, C). Names no nodes."""

    def apply(self, params, state, x, *, key=None, training=False):
        return global_max_pool(x), state


@dataclasses.dataclass(frozen=True, repr=False)
class GlobalAvgPool(Layer):
    """The mean of each channel: (B, *space, C) to (B, C). Names no nodes."""

    def apply(self, params, state, x, *, key=None, training=False):
        return global_avg_pool(x), state


def _fold(combined: Callable, x: Any, window: Sizes, stride: Sizes) -> Any:
    """The values of each window combined, in row-major order.

    Windows of more than a few values are folded axis by axis, the last one first: the
    same order of comparisons, in the sum of the sizes instead of their product.
    """
    if math.prod(window) <= 4:
        return combined(x, window, stride)
    for axis in reversed(range(len(window))):
        alone = tuple(size if i == axis else 1 for i, size in enumerate(window))
        steps = tuple(step if i == axis else 1 for i, step in enumerate(stride))
        x = combined(x, alone, steps)
    return x


def _taps(x: Any, window: Sizes, stride: Sizes) -> list[Any]:
    if window == stride:
        x = _tiles(x, window)
        places = itertools.product(*map(range, window))
        return [x[:, *itertools.chain(*((slice(None), i) for i in place))] for place in places]
    sizes = [(n - w) // s + 1 for n, w, s in zip(x.shape[1:-1], window, stride, strict=True)]

    def strided(place):
        spans = zip(place, sizes, stride, strict=True)
        return x[:, *(slice(first, first + (n - 1) * step + 1, step) for first, n, step in spans)]

    return [strided(place) for place in itertools.product(*map(range, window))]


def _tiles(x: Any, window: Sizes) -> Any:
    """Windows side by side: axes of their own, (B, n1, w1, n2, w2, C), which slice faster."""
    sizes = [n // w for n, w in zip(x.shape[1:-1], window, strict=True)]
    whole = (slice(n * w) for n, w in zip(sizes, window, strict=True))
    blocks = itertools.chain(*zip(sizes, window, strict=True))
    return x[:, *whole].reshape(x.shape[0], *blocks, x.shape[-1])


def _within(window: Sizes) -> tuple[int, ...]:
    """The axes of a window in `_tiles`."""
    return tuple(range(2, 2 * len(window) + 1, 2))


def _total(x: Any, window: Sizes, stride: Sizes) -> Any:
    return functools.reduce(operator.add, _taps(x, window, stride))


def _sum(x: jax.Array, window: Sizes, stride: Sizes) -> jax.Array:
    return _sum_of_tiles(x, window) if window == stride else _total(x, window, stride)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _sum_of_tiles(x: jax.Array, window: Sizes) -> jax.Array:
    return _total(x, window, window)


@_sum_of_tiles.defjvp
def _sum_derived(window, primals, tangents):
    (x,), (dx,) = primals, tangents
    return _sum_of_tiles(x, window), _tiles(dx, window).sum(_within(window))


def _largest(x: jax.Array, window: Sizes, stride: Sizes) -> jax.Array:
    if window == stride:
        return _largest_of_tiles(x, window)
    return functools.reduce(_first_largest, _taps(x, window, stride))


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _largest_of_tiles(x: jax.Array, window: Sizes) -> jax.Array:
    return functools.reduce(_first_largest, _taps(x, window, window))


@_largest_of_tiles.defjvp
def _largest_derived(window, primals, tangents):
    (x,), (dx,) = primals, tangents
    first, *others = _taps(x, window, window)
    dtype = np.min_scalar_type(len(others))
    largest, place = first, jnp.zeros(first.shape, dtype)
    for number, tap in enumerate(others, 1):
        place = jnp.where(_is_larger(tap, largest), dtype.type(number), place)
        largest = _first_largest(largest, tap)
    within, numbers = _within(window), np.arange(math.prod(window), dtype=dtype)
    along = (1, *itertools.chain(*((1, w) for w in window)), 1)
    here = jnp.expand_dims(stored(place), within) == numbers.reshape(along)
    changes = jnp.where(here, _tiles(dx, window), 0).sum(within)
    return _largest_of_tiles(x, window), changes


def _first_largest(a: jax.Array, b: jax.Array) -> jax.Array:
    return jax.lax.select(_is_larger(b, a), b, a)


def _is_larger(b: jax.Array, a: jax.Array) -> jax.Array:
    return (b > a) | jnp.isnan(b)


def _resolved(x: Any, window: Any, stride: Any, padding: Any, where: str):
    """The input checked; window, stride and (low, high) padding, one an axis of space."""
    x = _spatial(x, where)
    space = x.shape[1:-1]
    window, stride = _sliding(window, stride, padding, len(space), where)
    pads = padding_for(padding, space, window, stride, (1,) * len(space), where)
    fits = [max(pad) < w <= n + sum(pad) for n, w, pad in zip(space, window, pads, strict=True)]
    check(
        all(fits),
        f"expected windows within the padded input and larger than its padding, got windows of "
        f"{window} over {space} padded by {pads}",
        where,
    )
    return x, window, stride, pads


def _sliding(window: Any, stride: Any, padding: Any, rank: int, where: str) -> tuple[Sizes, Sizes]:
    check(1 <= rank <= 3, f"expected 1 to 3 axes of space, got {rank}", where)
    window = sizes_for(window, rank, "window", where)
    stride = window if stride is None else sizes_for(stride, rank, "stride", where)
    padding_for(padding, window, window, stride, (1,) * rank, where)
    return window, stride


def _spatial(x: Any, where: str) -> jax.Array:
    x = jnp.asarray(x)
    check(
        jnp.issubdtype(x.dtype, jnp.floating),
        f"expected floating inputs, got {describe(x)}; scale them first (x / 255 for pixels)",
        where,
    )
    check(
        3 <= x.ndim <= 5 and math.prod(x.shape[1:-1]),
        f"expected a batch (B, *space, C) with one to three axes of space, none empty, "
        f"got {x.shape}",
        where,
    )
    return x


def _padded(x: jax.Array, value: float, pads: tuple[tuple[int, int], ...]) -> jax.Array:
    config = ((0, 0, 0), *((before, after, 0) for before, after in pads), (0, 0, 0))
    return jax.lax.pad(x, jnp.array(value, x.dtype), config) if any(map(any, pads)) else x
