"""Convolution and its transpose as layers."""

import dataclasses
from collections.abc import Callable
from typing import Any

from jaxnodes.activations import activation as resolve_activation
from jaxnodes.errors import check, check_count
from jaxnodes.initializers import he_normal, initializer, zeros
from jaxnodes.layers.arrays import cast_inputs, check_params, dtype_of
from jaxnodes.layers.base import Layer
from jaxnodes.layers.convolution import (
    check_rank,
    conv,
    conv_init,
    conv_transpose,
    conv_transpose_init,
)
from jaxnodes.layers.description import normalize
from jaxnodes.layers.sliding import Padding, Size, kernel_sizes, padding_for, shortest, sizes_for
from jaxnodes.primitive import node


@dataclasses.dataclass(frozen=True, repr=False)
class _Convolution(Layer):
    """What both kinds of convolution share."""

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
        """Everything checked, and brought to one form: layers that mean the same are equal."""
        where = type(self).__name__
        check_count(self.features, "features", where)
        kernel = kernel_sizes(self.kernel_size, where)
        ones = (1,) * len(kernel)

        def shortest_padding(padding):
            pads = padding_for(padding, kernel, kernel, ones, ones, where)
            return padding if isinstance(padding, str) else shortest(map(shortest, pads))

        normalize(
            self,
            activation=resolve_activation,
            w_init=initializer,
            b_init=initializer,
            kernel_size=lambda _: kernel,
            stride=lambda stride: shortest(sizes_for(stride, len(kernel), "stride", where)),
            dilation=lambda steps: shortest(sizes_for(steps, len(kernel), "dilation", where)),
            padding=shortest_padding,
        )

    def _init_by(self, init, key, x, where, **options):
        kernel: tuple = self.kernel_size  # pyright: ignore[reportAssignmentType]
        check_rank(x, len(kernel), where)
        params = init(
            key,
            x.shape[-1],
            self.features,
            kernel,
            w_init=initializer(self.w_init),
            b_init=initializer(self.b_init),
            dtype=dtype_of(x),
            **options,
        )
        return params if self.use_bias else {"w": params["w"]}, {}

    def _apply_by(self, function, params, x, where, **options):
        kernel: tuple = self.kernel_size  # pyright: ignore[reportAssignmentType]
        shapes = {"w": (*kernel, None, self.features), "b": (self.features,)}
        check_params(params, shapes if self.use_bias else {"w": shapes["w"]}, where)
        params, x = cast_inputs(params, x, self.dtype, where)
        sliding = {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}
        y = function(params, x, **sliding, **options)
        return node(y if self.activation is None else resolve_activation(self.activation)(y))


@dataclasses.dataclass(frozen=True, repr=False)
class Conv(_Convolution):
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

    _: dataclasses.KW_ONLY
    groups: int = 1

    def __post_init__(self):
        super().__post_init__()
        check_count(self.groups, "groups", "Conv")
        check(
            self.features % self.groups == 0,
            f"expected features to be a multiple of groups={self.groups}, got {self.features}",
            "Conv",
        )

    def init(self, key, x):
        return self._init_by(conv_init, key, x, "conv", groups=self.groups)

    def apply(self, params, state, x, *, key=None, training=False):
        return self._apply_by(conv, params, x, "conv", groups=self.groups), state


@dataclasses.dataclass(frozen=True, repr=False)
class ConvTranspose(_Convolution):
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

    def init(self, key, x):
        return self._init_by(conv_transpose_init, key, x, "conv_transpose")

    def apply(self, params, state, x, *, key=None, training=False):
        return self._apply_by(conv_transpose, params, x, "conv_transpose"), state
