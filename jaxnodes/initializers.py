"""Initializers: `(key, shape, dtype=float32) -> array`, each one its formula.

A weight of shape (*receptive, in, out), of a dense layer or a convolution, has

    fan_in = prod(receptive) * in,    fan_out = prod(receptive) * out.

Normal here is the plain normal distribution, not cut off at two standard
deviations. Half-precision weights are drawn in float32 and rounded.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnodes.errors import check, check_key, is_concrete
from jaxnodes.registry import choose, registered_name, resolve

Initializer = Callable[..., jax.Array]


def xavier_uniform(key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
    """Uniform within +-sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010)."""
    fan_in, fan_out = fans(shape)
    return _uniform(key, shape, dtype, math.sqrt(6 / (fan_in + fan_out)))


def xavier_normal(key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
    """Normal of std sqrt(2 / (fan_in + fan_out)) (Glorot and Bengio 2010)."""
    fan_in, fan_out = fans(shape)
    return _normal(key, shape, dtype, math.sqrt(2 / (fan_in + fan_out)))


glorot_uniform, glorot_normal = xavier_uniform, xavier_normal


def he_uniform(key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
    """Uniform within +-sqrt(6 / fan_in) (He et al. 2015, arXiv:1502.01852)."""
    fan_in, _ = fans(shape)
    return _uniform(key, shape, dtype, math.sqrt(6 / fan_in))


def he_normal(key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
    """Normal of std sqrt(2 / fan_in) (He et al. 2015, arXiv:1502.01852).

    Keeps the size of activations from layer to layer under ReLU.

    Args:
      key: a typed PRNG key.
      shape: (*receptive, in, out).
      dtype: a floating one.

    Raises:
      JaxNodesError: an untyped key, a shape without fans, or a dtype that isn't floating.

    Example:

    >>> import jax
    >>> w = he_normal(jax.random.key(0), (784, 256))
    >>> round(float(w.std() / (2 / 784) ** 0.5), 2)
    1.0
    """
    fan_in, _ = fans(shape)
    return _normal(key, shape, dtype, math.sqrt(2 / fan_in))


def he_uniform_fan_out(key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
    """Uniform within +-sqrt(6 / fan_out): keeps the size of gradients instead of activations."""
    _, fan_out = fans(shape)
    return _uniform(key, shape, dtype, math.sqrt(6 / fan_out))


def he_normal_fan_out(key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
    """Normal of std sqrt(2 / fan_out): keeps the size of gradients instead of activations."""
    _, fan_out = fans(shape)
    return _normal(key, shape, dtype, math.sqrt(2 / fan_out))


def lecun_uniform(key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
    """Uniform within +-sqrt(3 / fan_in) (LeCun et al. 1998, Efficient BackProp)."""
    fan_in, _ = fans(shape)
    return _uniform(key, shape, dtype, math.sqrt(3 / fan_in))


def lecun_normal(key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
    """Normal of std sqrt(1 / fan_in) (LeCun et al. 1998, Efficient BackProp)."""
    fan_in, _ = fans(shape)
    return _normal(key, shape, dtype, math.sqrt(1 / fan_in))


def orthogonal(key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
    """Orthonormal rows or columns, whichever are fewer, of the weight as (-1, out).

    Saxe et al. 2013, arXiv:1312.6120.
    """
    dtype, drawn = _checked(key, shape, dtype)
    fans(shape)
    return jax.nn.initializers.orthogonal(column_axis=-1)(key, tuple(shape), drawn).astype(dtype)


def zeros(key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
    """All zero; biases are. The key makes no difference."""
    return _constant(key, shape, dtype, 0)


def ones(key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
    """All one. The key makes no difference."""
    return _constant(key, shape, dtype, 1)


def variance_scaling(
    scale: float, mode: str = "fan_in", distribution: str = "normal"
) -> Initializer:
    """An initializer of variance `scale / fan`, of which Xavier, He and LeCun are cases.

    Args:
      scale: positive.
      mode: the fan: `"fan_in"`, `"fan_out"`, or `"fan_avg"`, their mean.
      distribution: `"normal"`, or `"uniform"`, whose limit is sqrt(3 scale / fan).

    Returns:
      An initializer; equal arguments give the same one.

    Example:

    >>> variance_scaling(2.0, "fan_avg") is variance_scaling(2, mode="fan_avg")
    True
    """
    where = "variance_scaling"
    modes = {name: name for name in ("fan_in", "fan_out", "fan_avg")}
    distributions = {name: name for name in ("normal", "uniform")}
    return _variance_scaling(
        _number(scale, "scale", where, positive=True),
        choose(mode, modes, "a mode", where),
        choose(distribution, distributions, "a distribution", where),
    )


def normal(std: float) -> Initializer:
    """An initializer: normal of mean 0 and standard deviation `std`, a positive number."""
    return _cached(_normal, "normal", _number(std, "std", "normal", positive=True))


def uniform(limit: float) -> Initializer:
    """An initializer: uniform within +-`limit`, a positive number."""
    return _cached(_uniform, "uniform", _number(limit, "limit", "uniform", positive=True))


def constant(value: float) -> Initializer:
    """An initializer: `value` everywhere.

    Example:

    >>> import jax
    >>> constant(0.5)(jax.random.key(0), (2,))
    Array([0.5, 0.5], dtype=float32)
    """
    return _cached(_constant, "constant", _number(value, "value", "constant"))


#: Every initializer that has a name. Aliases: `glorot_uniform`, `glorot_normal`.
INITIALIZERS: dict[str, Initializer] = {
    "xavier_uniform": xavier_uniform,
    "xavier_normal": xavier_normal,
    "glorot_uniform": glorot_uniform,
    "glorot_normal": glorot_normal,
    "he_uniform": he_uniform,
    "he_normal": he_normal,
    "he_uniform_fan_out": he_uniform_fan_out,
    "he_normal_fan_out": he_normal_fan_out,
    "lecun_uniform": lecun_uniform,
    "lecun_normal": lecun_normal,
    "orthogonal": orthogonal,
    "zeros": zeros,
    "ones": ones,
}


def initializer(name_or_function: Any) -> Initializer:
    """The initializer of that name, however it is spelled; a function is itself.

    Raises:
      JaxNodesError: no initializer has that name; lists those there are.

    Example:

    >>> initializer("He-normal") is he_normal
    True
    """
    return resolve(name_or_function, INITIALIZERS, "an initializer", "initializer")


def initializer_name(function: Any) -> str | None:
    """The name an initializer is registered by; `None` if it isn't."""
    return registered_name(function, INITIALIZERS)


def fans(shape: Sequence[int]) -> tuple[int, int]:
    """`(fan_in, fan_out)` of a weight of shape (*receptive, in, out).

    Example:

    >>> fans((3, 3, 32, 64))
    (288, 576)
    """
    sizes = _sizes(shape)
    check(
        len(sizes) >= 2 and min(sizes) >= 1,
        f"expected a shape (*receptive, in, out) without zeros, got {shape}; "
        "a vector has no fans: use zeros, constant or normal",
        "initializer",
    )
    receptive = math.prod(sizes[:-2])
    return receptive * sizes[-2], receptive * sizes[-1]


def _normal(key: jax.Array, shape: Sequence[int], dtype: Any, std: float) -> jax.Array:
    dtype, drawn = _checked(key, shape, dtype)
    return _scaled_normal(key, std, tuple(shape), drawn).astype(dtype)


# One program for each shape. The barrier keeps the two products of the formula apart, so that
# inside of a larger program, too, it gives the same numbers to the last bit.
@functools.partial(jax.jit, static_argnames=("shape", "dtype"), inline=True)
def _scaled_normal(key: jax.Array, std: float, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    row = jax.random.normal(key, _row(shape), dtype)
    return (std * jax.lax.optimization_barrier(row)).reshape(shape)


def _uniform(key: jax.Array, shape: Sequence[int], dtype: Any, limit: float) -> jax.Array:
    dtype, drawn = _checked(key, shape, dtype)
    return _limited_uniform(key, limit, tuple(shape), drawn).astype(dtype)


@functools.partial(jax.jit, static_argnames=("shape", "dtype"), inline=True)
def _limited_uniform(key: jax.Array, limit: float, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    # Within +-1 numbers are exact; drawn within +-limit, those near zero would be rounded twice.
    return (limit * jax.random.uniform(key, _row(shape), dtype, -1, 1)).reshape(shape)


def _row(shape: tuple[int, ...]) -> tuple[int, ...]:
    """In which shape to draw: the numbers are the same.

    XLA takes three times as long to compile a generator that fills rows of ten numbers, say,
    as one that fills a single long row. A large array may have to be drawn in shards.
    """
    size = math.prod(shape)
    return (size,) if size < 2**22 else shape


def _constant(key: jax.Array, shape: Sequence[int], dtype: Any, value: float) -> jax.Array:
    dtype, _ = _checked(key, shape, dtype)
    if is_concrete(key):
        return jax.device_put(np.full(shape, value, dtype))  # `jnp.full` compiles each shape
    return jnp.full(shape, value, dtype)


@functools.cache
def _cached(fill: Callable, name: str, number: float) -> Initializer:
    """One function object per number, so that equal layers are equal and compile once."""

    def init(key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
        return fill(key, shape, dtype, number)

    return _named(init, f"{name}({number!r})")


@functools.cache
def _variance_scaling(scale: float, mode: str, distribution: str) -> Initializer:
    def init(key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
        fan_in, fan_out = fans(shape)
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[mode]
        if distribution == "normal":
            return _normal(key, shape, dtype, math.sqrt(scale / fan))
        return _uniform(key, shape, dtype, math.sqrt(3 * scale / fan))

    return _named(init, f"variance_scaling({scale!r}, {mode!r}, {distribution!r})")


def _named(function: Callable, name: str) -> Callable:
    function.__name__ = function.__qualname__ = name
    return function


def _checked(key: jax.Array, shape: Sequence[int], dtype: Any) -> tuple[Any, Any]:
    """The dtype to return, and the one of at least float32 to draw in."""
    check_key(key, "initializer")
    _sizes(shape)
    check(
        jnp.issubdtype(dtype, jnp.floating),
        f"expected a floating dtype, got {jnp.dtype(dtype).name}; weights are floats",
        "initializer",
    )
    dtype = jax.dtypes.canonicalize_dtype(dtype)
    return dtype, np.promote_types(dtype, np.float32)


def _sizes(shape: Any) -> list[int]:
    fine = isinstance(shape, Sequence) and all(
        isinstance(size, (int, np.integer)) and size >= 0 for size in shape
    )
    check(fine, f"expected a shape, a tuple of whole numbers, got {shape!r}", "initializer")
    return list(shape)


def _number(value: Any, name: str, where: str, *, positive: bool = False) -> float:
    fine = isinstance(value, (int, float, np.integer, np.floating)) and math.isfinite(value)
    fine = fine and not isinstance(value, bool) and (value > 0 or not positive)
    kind = "a positive number" if positive else "a finite number"
    check(fine, f"expected {name} to be {kind}, got {value!r}", where)
    return float(value)
