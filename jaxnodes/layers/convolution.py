"""Convolution and its transpose, in 1, 2 and 3 dimensions, channels last."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxnodes.activations import activation as resolve_activation
from jaxnodes.conv_primitive import Geometry, convolve, convolve_transpose
from jaxnodes.errors import check, check_count, check_key, describe
from jaxnodes.initializers import he_normal, initializer, zeros
from jaxnodes.layers.arrays import Params, cast_inputs, check_params, dtype_of
from jaxnodes.layers.base import Layer
from jaxnodes.layers.description import normalize
from jaxnodes.layers.sliding import Padding, Size, as_tuples, kernel_sizes, padding_for, sizes_for
from jaxnodes.primitive import node


def conv_init(
    key: jax.Array,
    in_features: int,
    features: int,
    kernel_size: Size,
    *,
    groups: int = 1,
    w_init: Callable = he_normal,
    b_init: Callable = zeros,
    dtype: Any = jnp.float32,
) -> dict[str, jax.Array]:
    """Parameters of a convolution.

    Args:
      key: a typed PRNG key.
      in_features: channels C of the inputs; a multiple of `groups`.
      features: number of filters F; a multiple of `groups`.
      kernel_size: an int k is k x k; tuples give 1, 2 or 3 dimensions.
      groups: into how many groups the channels are split; C of them make it depthwise.
      w_init, b_init: initializers `(key, shape, dtype)`.
      dtype: of both arrays.

    Returns:
      `{"w": (*kernel_size, C / groups, F), "b": (F,)}`.
    """
    check_key(key, "conv")
    kernel = kernel_sizes(kernel_size, "conv")
    for count, name in ((in_features, "in_features"), (features, "features"), (groups, "groups")):
        check_count(count, name, "conv")
    _check_groups(in_features, features, groups, "conv")
    w_key, b_key = jax.random.split(key)
    return {
        "w": w_init(w_key, (*kernel, in_features // groups, features), dtype),
        "b": b_init(b_key, (features,), dtype),
    }


def conv(
    params: Params,
    x: Any,
    *,
    stride: Size = 1,
    padding: Padding = "SAME",
    dilation: Size = 1,
    groups: int = 1,
) -> jax.Array:
    """Cross-correlation of `x` with each filter, plus its bias (no kernel is flipped).

    Args:
      params: `{"w": (*kernel, C / groups, F), "b": (F,)}`; `b` may be left out. The
        kernel's rank says how many spatial dimensions there are: 1, 2 or 3.
      x: (N, *spatial, C).
      stride: how far the kernel moves, for all or for each spatial axis.
      padding: `"SAME"` (output size is input size / stride, rounded up), `"VALID"`
        (none), an int for all sides, or for each axis an int or a pair (low, high).
      dilation: distance of neighbors in the kernel.
      groups: each group of C / groups channels makes F / groups of the features.

    Returns:
      (N, *outputs, F), with outputs `(size + padding - dilation (kernel - 1) - 1) // stride + 1`.

    Raises:
      JaxNodesError: rank, channels, dtype or options that don't fit, or a kernel that
        is larger than the padded input.

    Example:

    >>> import jax.numpy as jnp
    >>> params = {"w": jnp.array([1.0, -1.0]).reshape(2, 1, 1), "b": jnp.zeros(1)}
    >>> conv(params, jnp.array([1.0, 4.0, 9.0]).reshape(1, 3, 1), padding="VALID").ravel()
    Array([-3., -5.], dtype=float32)
    """
    params, x = cast_inputs(params, x, None, "conv")
    w = params["w"]
    rank = _check_input(w, x, "conv")
    _check_groups(w.shape[-2] * groups, w.shape[-1], groups, "conv")
    check(
        x.shape[-1] == w.shape[-2] * groups,
        f"expected {w.shape[-2] * groups} channels on the last axis, got {x.shape[-1]} "
        f"(input {x.shape})",
        "conv",
    )
    inputs, kernel = x.shape[1:-1], w.shape[:rank]
    strides = sizes_for(stride, rank, "stride", "conv")
    dilations = sizes_for(dilation, rank, "dilation", "conv")
    pads = padding_for(padding, inputs, kernel, strides, dilations, "conv")
    geometry = Geometry(inputs, kernel, strides, pads, dilations, groups)
    check(
        min(geometry.outputs) >= 1,
        f"expected an input that the kernel fits in, got spatial sizes {inputs} for kernel "
        f"{kernel}, dilation {dilations}, padding {pads}; padding='SAME' always fits",
        "conv",
    )
    return _with_bias(convolve(x, w, geometry), params)


def conv_transpose_init(
    key: jax.Array,
    in_features: int,
    features: int,
    kernel_size: Size,
    *,
    w_init: Callable = he_normal,
    b_init: Callable = zeros,
    dtype: Any = jnp.float32,
) -> dict[str, jax.Array]:
    """Parameters of a transposed convolution: `{"w": (*kernel_size, C, F), "b": (F,)}`.

    Args: as of `conv_init`.
    """
    return conv_init(
        key, in_features, features, kernel_size, w_init=w_init, b_init=b_init, dtype=dtype
    )


def conv_transpose(
    params: Params, x: Any, *, stride: Size = 1, padding: Padding = "SAME", dilation: Size = 1
) -> jax.Array:
    """Transposed convolution: the gradient of `conv` for its input, plus a bias.

    Each input value spreads a kernel's worth of outputs. As in torch and keras the
    kernel is that of the forward convolution, its channel axes exchanged; flax's
    is flipped.

    Args:
      params: `{"w": (*kernel, C, F), "b": (F,)}`; `b` may be left out.
      x: (N, *spatial, C).
      stride: how far apart the kernels of neighboring inputs lie.
      padding: of the forward convolution. `"SAME"`: outputs are inputs * stride;
        `"VALID"`: every value that a kernel reaches; an int, or for each axis an
        int or a pair: so many values taken off the low and high end.
      dilation: distance of neighbors in the kernel.

    Returns:
      (N, *outputs, F); for explicit padding, with outputs
      `(size - 1) stride + dilation (kernel - 1) + 1 - padding`.
    """
    params, x = cast_inputs(params, x, None, "conv_transpose")
    w = params["w"]
    rank = _check_input(w, x, "conv_transpose")
    check(
        x.shape[-1] == w.shape[-2],
        f"expected {w.shape[-2]} channels on the last axis, got {x.shape[-1]} (input {x.shape})",
        "conv_transpose",
    )
    inputs, kernel = x.shape[1:-1], w.shape[:rank]
    strides = sizes_for(stride, rank, "stride", "conv")
    dilations = sizes_for(dilation, rank, "dilation", "conv")
    reach = tuple(d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True))
    if padding == "SAME":
        outputs = tuple(n * s for n, s in zip(inputs, strides, strict=True))
        pads = padding_for("SAME", outputs, kernel, strides, dilations, "conv")
    else:
        pads = padding_for(padding, inputs, kernel, strides, dilations, "conv")
        outputs = tuple(
            (n - 1) * s + r - low - high
            for n, s, r, (low, high) in zip(inputs, strides, reach, pads, strict=True)
        )
    check(
        min(outputs) >= 1,
        f"expected less padding than output, got padding {pads} and outputs {outputs}",
        "conv_transpose",
    )
    geometry = Geometry(outputs, kernel, strides, pads, dilations, 1)
    return _with_bias(convolve_transpose(x, w.swapaxes(-1, -2), geometry), params)


@dataclasses.dataclass(frozen=True, repr=False)
class Conv(Layer):
    """Convolution: `activation(conv(x, w) + b)`. Its channels are nodes.

    Args:
      features: number of filters, F.
      kernel_size: an int k is k x k; tuples give 1, 2 or 3 dimensions.
      activation: a function or a name; `None` leaves the weighted sum.
      stride, padding, dilation, groups: as of `jn.conv`.
      w_init, b_init: initializers, by function or by name.
      use_bias: whether there is a `b`.
      dtype: the dtype to compute in; `None` is the parameters'.

    Shapes: x (N, *spatial, C) to (N, *outputs, F). Parameters
    `{"w": (*kernel_size, C / groups, F), "b": (F,)}`.

    Example:

    >>> import jax, jax.numpy as jnp, jaxnodes as jn
    >>> layer = jn.Conv(32, 3, "relu", padding="VALID")
    >>> variables = layer.init(jax.random.key(0), jnp.ones((8, 28, 28, 1)))
    >>> layer.predict(variables, jnp.ones((8, 28, 28, 1))).shape
    (8, 26, 26, 32)
    """

    features: int
    kernel_size: Size
    activation: Callable | str | None = None
    _: dataclasses.KW_ONLY
    stride: Size = 1
    padding: Padding = "SAME"
    dilation: Size = 1
    groups: int = 1
    w_init: Callable | str = he_normal
    b_init: Callable | str = zeros
    use_bias: bool = True
    dtype: Any = None

    def __post_init__(self):
        check_count(self.features, "features", "Conv")
        check_count(self.groups, "groups", "Conv")
        check(
            self.features % self.groups == 0,
            f"expected features to be a multiple of groups={self.groups}, got {self.features}",
            "Conv",
        )
        _normalize_sizes(self, "Conv")

    def init(self, key, x):
        _check_rank(x, self.kernel_size, "conv")
        params = conv_init(
            key,
            x.shape[-1],
            self.features,
            self.kernel_size,
            groups=self.groups,
            w_init=initializer(self.w_init),
            b_init=initializer(self.b_init),
            dtype=dtype_of(x),
        )
        return params if self.use_bias else {"w": params["w"]}, {}

    def apply(self, params, state, x, *, key=None, training=False):
        params, x = _checked(self, params, x, "conv")
        y = conv(
            params,
            x,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
        )
        return node(_activated(self.activation, y)), state


@dataclasses.dataclass(frozen=True, repr=False)
class ConvTranspose(Layer):
    """Transposed convolution, for upsampling. Its channels are nodes.

    Args:
      features: number of output channels, F.
      kernel_size: an int k is k x k; tuples give 1, 2 or 3 dimensions.
      activation: a function or a name; `None` leaves the weighted sum.
      stride, padding, dilation: as of `jn.conv_transpose`.
      w_init, b_init, use_bias, dtype: as of `jn.Conv`.

    Shapes: x (N, *spatial, C) to (N, *outputs, F). Parameters
    `{"w": (*kernel_size, C, F), "b": (F,)}`.

    Example:

    >>> import jax, jax.numpy as jnp, jaxnodes as jn
    >>> layer = jn.ConvTranspose(3, 4, stride=2)
    >>> variables = layer.init(jax.random.key(0), jnp.ones((1, 8, 8, 16)))
    >>> layer.predict(variables, jnp.ones((1, 8, 8, 16))).shape
    (1, 16, 16, 3)
    """

    features: int
    kernel_size: Size
    activation: Callable | str | None = None
    _: dataclasses.KW_ONLY
    stride: Size = 1
    padding: Padding = "SAME"
    dilation: Size = 1
    w_init: Callable | str = he_normal
    b_init: Callable | str = zeros
    use_bias: bool = True
    dtype: Any = None

    def __post_init__(self):
        check_count(self.features, "features", "ConvTranspose")
        _normalize_sizes(self, "ConvTranspose")

    def init(self, key, x):
        _check_rank(x, self.kernel_size, "conv_transpose")
        params = conv_transpose_init(
            key,
            x.shape[-1],
            self.features,
            self.kernel_size,
            w_init=initializer(self.w_init),
            b_init=initializer(self.b_init),
            dtype=dtype_of(x),
        )
        return params if self.use_bias else {"w": params["w"]}, {}

    def apply(self, params, state, x, *, key=None, training=False):
        params, x = _checked(self, params, x, "conv_transpose")
        y = conv_transpose(
            params, x, stride=self.stride, padding=self.padding, dilation=self.dilation
        )
        return node(_activated(self.activation, y)), state


def _activated(activation: Callable | str | None, y: jax.Array) -> jax.Array:
    return y if activation is None else resolve_activation(activation)(y)


def _with_bias(y: jax.Array, params: Params) -> jax.Array:
    return y + params["b"] if "b" in params else y


def _checked(layer: Conv | ConvTranspose, params: Params, x: Any, where: str):
    kernel: tuple = layer.kernel_size  # pyright: ignore[reportAssignmentType]
    shapes = {"w": (*kernel, None, layer.features), "b": (layer.features,)}
    check_params(params, shapes if layer.use_bias else {"w": shapes["w"]}, where)
    return cast_inputs(params, x, layer.dtype, where)


def _normalize_sizes(layer: Conv | ConvTranspose, where: str) -> None:
    """Sizes as tuples, so that layers that mean the same are equal; options validated."""
    kernel = kernel_sizes(layer.kernel_size, where)
    for name in ("stride", "dilation"):
        sizes_for(getattr(layer, name), len(kernel), name, where)
    padding_for(layer.padding, kernel, kernel, (1,) * len(kernel), (1,) * len(kernel), where)

    def hashable(value):
        return value if isinstance(value, (int, str)) else as_tuples(value)

    normalize(
        layer,
        activation=resolve_activation,
        w_init=initializer,
        b_init=initializer,
        kernel_size=lambda _: kernel,
        stride=hashable,
        dilation=hashable,
        padding=hashable,
    )


def _check_rank(x: Any, kernel_size: Any, where: str) -> None:
    rank = len(kernel_size)
    spatial = ("height, width" if rank == 2 else "length") if rank < 3 else "depth, height, width"
    check(
        len(x.shape) == rank + 2,
        f"expected inputs of {rank + 2} axes (batch, {spatial}, channels), got {describe(x)}",
        where,
    )


def _check_input(w: jax.Array, x: jax.Array, where: str) -> int:
    rank = w.ndim - 2
    check(1 <= rank <= 3, f"expected a kernel of 3 to 5 axes, got {w.shape}", where)
    _check_rank(x, w.shape[:rank], where)
    return rank


def _check_groups(channels: int, features: int, groups: int, where: str) -> None:
    check(
        channels % groups == 0 and features % groups == 0,
        f"expected channels and features to be multiples of groups={groups}, "
        f"got {channels} channels and {features} features",
        where,
    )
