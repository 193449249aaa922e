"""Convolution and its transpose, in 1, 2 and 3 dimensions, channels last."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxnodes.conv_primitive import Geometry, convolve, convolve_transpose
from jaxnodes.errors import check, check_count, check_key, describe
from jaxnodes.initializers import he_normal, zeros
from jaxnodes.layers.arrays import Params, cast_inputs, check_names
from jaxnodes.layers.sliding import Padding, Size, kernel_sizes, padding_for, sizes_for


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
    check_names(params, ("w", "b"), "conv", may_lack="b")
    params, x = cast_inputs(params, x, None, "conv")
    w = params["w"]
    check_count(groups, "groups", "conv")
    rank = _check_arrays(params, x, groups, "conv")
    _check_groups(x.shape[-1], w.shape[-1], groups, "conv")
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
    y = convolve(x, w, geometry)
    return y + params["b"] if "b" in params else y


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

    Each input value spreads a kernel's worth of outputs, kernels where strides take them:
    `y[stride i + k] += x[i] w[k]`. As in torch and keras; flax's kernel is flipped.

    Args:
      params: `{"w": (*kernel, C, F), "b": (F,)}`; `b` may be left out.
      x: (N, *spatial, C).
      stride: how far apart the kernels of neighboring inputs lie.
      padding: of the forward convolution. `"SAME"`: outputs are inputs * stride;
        `"VALID"`: every value that a kernel reaches (keras and flax add zeros where the
        stride is longer than the kernel); an int, or for each axis an int or a pair:
        so many values taken off the low and high end, as in torch.
      dilation: distance of neighbors in the kernel.

    Returns:
      (N, *outputs, F); for explicit padding, with outputs
      `(size - 1) stride + dilation (kernel - 1) + 1 - padding`.

    Raises:
      JaxNodesError: rank, channels, dtype or options that don't fit, or padding that
        leaves nothing.

    Example:

    >>> import jax.numpy as jnp
    >>> params = {"w": jnp.array([1.0, 10.0]).reshape(2, 1, 1), "b": jnp.zeros(1)}
    >>> conv_transpose(params, jnp.array([1.0, 2.0]).reshape(1, 2, 1), stride=2).ravel()
    Array([ 1., 10.,  2., 20.], dtype=float32)
    """
    check_names(params, ("w", "b"), "conv_transpose", may_lack="b")
    params, x = cast_inputs(params, x, None, "conv_transpose")
    w = params["w"]
    rank = _check_arrays(params, x, 1, "conv_transpose")
    inputs, kernel = x.shape[1:-1], w.shape[:rank]
    strides = sizes_for(stride, rank, "stride", "conv_transpose")
    dilations = sizes_for(dilation, rank, "dilation", "conv_transpose")
    reach = tuple(d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True))
    if padding == "SAME":
        outputs = tuple(n * s for n, s in zip(inputs, strides, strict=True))
        pads = padding_for("SAME", outputs, kernel, strides, dilations, "conv_transpose")
    else:
        pads = padding_for(padding, inputs, kernel, strides, dilations, "conv_transpose")
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
    y = convolve_transpose(x, w.swapaxes(-1, -2), geometry)
    return y + params["b"] if "b" in params else y


def check_rank(x: Any, rank: int, where: str) -> None:
    """Raises unless `x` is a batch with `rank` spatial axes."""
    spatial = ("length", "height, width", "depth, height, width")[rank - 1]
    check(
        len(getattr(x, "shape", ())) == rank + 2,
        f"expected inputs of {rank + 2} axes (batch, {spatial}, channels), got {describe(x)}",
        where,
    )


def _check_arrays(params: Params, x: jax.Array, groups: int, where: str) -> int:
    """How many spatial axes there are, if kernel, input and bias fit together."""
    w = params["w"]
    rank = w.ndim - 2
    check(1 <= rank <= 3, f"expected a kernel of 3 to 5 axes, got {w.shape}", where)
    check_rank(x, rank, where)
    channels, features = w.shape[-2] * groups, w.shape[-1]
    check(
        x.shape[-1] == channels,
        f"expected {channels} channels on the last axis, got {x.shape[-1]} (input {x.shape})",
        where,
    )
    bias = jnp.shape(params["b"]) if "b" in params else (features,)
    check(bias == (features,), f"expected a bias of shape {(features,)}, got {bias}", where)
    return rank


def _check_groups(channels: int, features: int, groups: int, where: str) -> None:
    check(
        channels % groups == 0 and features % groups == 0,
        f"expected channels and features to be multiples of groups={groups}, "
        f"got {channels} channels and {features} features",
        where,
    )
