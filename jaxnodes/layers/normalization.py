"""Normalization: of each feature over the batch, or of each sample over its features.

All are `scale * (x - mean) / sqrt(variance + epsilon) + bias`, and differ in what
the mean and the variance are taken over. The variance is two-pass, the mean of
`(x - mean)^2`: `E[x^2] - E[x]^2` in float32 is all rounding error where the mean is
large beside the spread. Half-precision inputs are normalized in float32 and rounded.

The scale is often called gamma, and the bias beta.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnodes.errors import check, check_count, check_key, check_number
from jaxnodes.layers.arrays import Params, cast_inputs, check_params, dtype_of, features_of
from jaxnodes.layers.base import Layer
from jaxnodes.layers.description import normalize

AxisNames = str | tuple[str, ...] | None

_SHAPES = {"scale": ("F",), "bias": ("F",)}


def layer_norm_init(features: int, dtype: Any = jnp.float32) -> dict[str, jax.Array]:
    """Parameters of a layer norm: `{"scale": ones (F,), "bias": zeros (F,)}`."""
    return {**rms_norm_init(features, dtype), "bias": jnp.zeros(features, dtype)}


def layer_norm(params: Params, x: Any, *, epsilon: float = 1e-5) -> jax.Array:
    """Each sample normalized over its last axis (Ba et al. 2016, arXiv:1607.06450).

    Args:
      params: `{"scale": (F,), "bias": (F,)}`; `bias` may be left out.
      x: (..., F).
      epsilon: added to the variance; PyTorch's, where flax has 1e-6.

    Returns:
      (..., F).

    Raises:
      JaxNodesError: the last axis of `x` is not F long, or its dtype doesn't fit.

    Example:

    >>> import jax.numpy as jnp
    >>> layer_norm(layer_norm_init(2), jnp.array([1.0, 3.0]), epsilon=0.0)
    Array([-1.,  1.], dtype=float32)
    """
    check_params(params, _SHAPES, "layer_norm", may_lack="bias")
    params, x = cast_inputs(params, x, None, "layer_norm")
    check_features(params, x, "layer_norm")
    return normalized(params, x, *moments(x, (-1,)), epsilon)


def rms_norm_init(features: int, dtype: Any = jnp.float32) -> dict[str, jax.Array]:
    """Parameters of an RMS norm: `{"scale": ones (F,)}`."""
    check_count(features, "features", "norm")
    return {"scale": jnp.ones(features, dtype)}


def rms_norm(params: Params, x: Any, *, epsilon: float = 1e-6) -> jax.Array:
    """`scale * x / sqrt(mean(x^2) + epsilon)` (Zhang and Sennrich 2019, arXiv:1910.07467).

    A layer norm that neither takes off the mean nor adds a bias.

    Args:
      params: `{"scale": (F,)}`.
      x: (..., F).
      epsilon: added to the mean square.

    Returns:
      (..., F).

    Raises:
      JaxNodesError: the last axis of `x` is not F long, or its dtype doesn't fit.

    Example:

    >>> import jax.numpy as jnp
    >>> rms_norm(rms_norm_init(2), jnp.array([1.0, 7.0])).tolist()
    [0.2, 1.4]
    """
    check_params(params, {"scale": ("F",)}, "rms_norm")
    params, x = cast_inputs(params, x, None, "rms_norm")
    check_features(params, x, "rms_norm")
    mean_square = (x.astype(statistics_dtype(x)) ** 2).mean(-1, keepdims=True)
    return normalized(params, x, jnp.zeros_like(mean_square), mean_square, epsilon)


def group_norm_init(features: int, dtype: Any = jnp.float32) -> dict[str, jax.Array]:
    """Parameters of a group norm: `{"scale": ones (C,), "bias": zeros (C,)}`."""
    return layer_norm_init(features, dtype)


def group_norm(params: Params, x: Any, groups: int, *, epsilon: float = 1e-5) -> jax.Array:
    """Each sample normalized over space and a group of channels at a time.

    Wu and He 2018, arXiv:1803.08494. One channel a group is an instance norm.

    Args:
      params: `{"scale": (C,), "bias": (C,)}`.
      x: (B, ..., C).
      groups: how many groups of C / groups channels side by side.
      epsilon: added to the variance.

    Returns:
      (B, ..., C).

    Raises:
      JaxNodesError: `groups` doesn't divide C, the last axis of `x` is not C long, or
        its dtype doesn't fit.

    Example:

    >>> import jax.numpy as jnp
    >>> x = jnp.array([[1.0, 3.0, 10.0, 30.0]])
    >>> group_norm(group_norm_init(4), x, 2, epsilon=0.0).tolist()
    [[-1.0, 1.0, -1.0, 1.0]]
    """
    check_params(params, _SHAPES, "group_norm", may_lack="bias")
    params, x = cast_inputs(params, x, None, "group_norm")
    (channels,) = check_features(params, x, "group_norm")
    check_count(groups, "groups", "group_norm")
    check(x.ndim >= 2, f"expected a batch (B, ..., C), got {x.shape}", "group_norm")
    check(
        channels % groups == 0,
        f"expected a number of groups that divides the {channels} channels, got {groups}",
        "group_norm",
    )
    grouped = x.reshape(*x.shape[:-1], groups, channels // groups)
    mean, var = moments(grouped, (*range(1, x.ndim - 1), -1))
    each = (*x.shape[:1], *[1] * (x.ndim - 2), channels)
    mean, var = (jnp.broadcast_to(m, (*m.shape[:-1], channels // groups)) for m in (mean, var))
    return normalized(params, x, mean.reshape(each), var.reshape(each), epsilon)


def moments(
    x: jax.Array, axes: tuple[int, ...], axis_name: AxisNames = None
) -> tuple[jax.Array, jax.Array]:
    """Mean and two-pass variance over `axes`, kept with size one, in at least float32."""

    def mean_of(values):
        mean = values.mean(axes, keepdims=True)
        return mean if axis_name is None else jax.lax.pmean(mean, axis_name)

    wide = x.astype(statistics_dtype(x))
    mean = mean_of(wide)
    return mean, mean_of((wide - mean) ** 2)


def normalized(params: Params, x: jax.Array, mean: Any, var: Any, epsilon: float) -> jax.Array:
    """`scale * (x - mean) / sqrt(var + epsilon) + bias`, rounded to x's dtype at the end."""
    params = jax.tree.map(lambda p: p.astype(mean.dtype), params)
    y = (x.astype(mean.dtype) - mean) * (jax.lax.rsqrt(var + epsilon) * params["scale"])
    return (y + params["bias"] if "bias" in params else y).astype(x.dtype)


def statistics_dtype(x: jax.Array) -> Any:
    return np.promote_types(x.dtype, np.float32)


def check_features(params: Params, x: jax.Array, where: str) -> tuple[int]:
    (expected,) = params["scale"].shape
    check(
        x.ndim >= 1 and x.shape[-1] == expected,
        f"expected {expected} features on the last axis, got "
        f"{x.shape[-1] if x.ndim else 'a scalar'} (input {x.shape})",
        where,
    )
    return (expected,)


@dataclasses.dataclass(frozen=True, repr=False)
class LayerNorm(Layer):
    """Normalization of each sample over its last axis; see `layer_norm`. Names no nodes.

    Args:
      epsilon: added to the variance.
      use_bias: whether there is a `bias`.
      dtype: the dtype of the output (say `jnp.bfloat16`); `None` is the parameters'.

    Shapes: x (..., F) to the same. Parameters `{"scale": (F,), "bias": (F,)}`.

    Example:

    >>> import jax, jax.numpy as jnp, jaxnodes as jn
    >>> layer, x = jn.LayerNorm(epsilon=0.0), jnp.array([[1.0, 3.0]])
    >>> layer.predict(layer.init(jax.random.key(0), x), x)
    Array([[-1.,  1.]], dtype=float32)
    """

    epsilon: float = 1e-5
    _: dataclasses.KW_ONLY
    use_bias: bool = True
    dtype: Any = None

    def __post_init__(self):
        check_number(self.epsilon, "epsilon", "LayerNorm", least=0)
        normalize(self)

    def init(self, key, x):
        check_key(key, "layer_norm")
        make = layer_norm_init if self.use_bias else rms_norm_init
        return make(features_of(x, "layer_norm"), dtype_of(x)), {}

    def apply(self, params, state, x, *, key=None, training=False):
        names = ("scale", "bias") if self.use_bias else ("scale",)
        check_params(params, dict.fromkeys(names, (None,)), "layer_norm")
        params, x = cast_inputs(params, x, self.dtype, "layer_norm")
        return layer_norm(params, x, epsilon=self.epsilon), state


@dataclasses.dataclass(frozen=True, repr=False)
class RMSNorm(Layer):
    """Division of each sample by its root mean square; see `rms_norm`. Names no nodes.

    Args:
      epsilon: added to the mean square.
      dtype: the dtype of the output (say `jnp.bfloat16`); `None` is the parameters'.

    Shapes: x (..., F) to the same. Parameters `{"scale": (F,)}`.
    """

    epsilon: float = 1e-6
    _: dataclasses.KW_ONLY
    dtype: Any = None

    def __post_init__(self):
        check_number(self.epsilon, "epsilon", "RMSNorm", least=0)
        normalize(self)

    def init(self, key, x):
        check_key(key, "rms_norm")
        return rms_norm_init(features_of(x, "rms_norm"), dtype_of(x)), {}

    def apply(self, params, state, x, *, key=None, training=False):
        check_params(params, {"scale": (None,)}, "rms_norm")
        params, x = cast_inputs(params, x, self.dtype, "rms_norm")
        return rms_norm(params, x, epsilon=self.epsilon), state


@dataclasses.dataclass(frozen=True, repr=False)
class GroupNorm(Layer):
    """Normalization of each sample by groups of channels; see `group_norm`. Names no nodes.

    Args:
      groups: how many; they divide the channels.
      epsilon: added to the variance.
      dtype: the dtype of the output (say `jnp.bfloat16`); `None` is the parameters'.

    Shapes: x (B, ..., C) to the same. Parameters `{"scale": (C,), "bias": (C,)}`.
    """

    groups: int
    epsilon: float = 1e-5
    _: dataclasses.KW_ONLY
    dtype: Any = None

    def __post_init__(self):
        check_count(self.groups, "groups", "GroupNorm")
        check_number(self.epsilon, "epsilon", "GroupNorm", least=0)
        normalize(self)

    def init(self, key, x):
        check_key(key, "group_norm")
        return group_norm_init(features_of(x, "group_norm"), dtype_of(x)), {}

    def apply(self, params, state, x, *, key=None, training=False):
        check_params(params, {"scale": (None,), "bias": (None,)}, "group_norm")
        params, x = cast_inputs(params, x, self.dtype, "group_norm")
        return group_norm(params, x, self.groups, epsilon=self.epsilon), state
