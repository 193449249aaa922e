"""What the deep networks for images share: how samples come in, and convolutions with a norm."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from jaxnodes.activations import activation as resolve_activation
from jaxnodes.errors import check
from jaxnodes.initializers import he_normal, he_normal_fan_out
from jaxnodes.layers.base import Layer, as_layer, layer_name
from jaxnodes.layers.convolution_layers import Conv
from jaxnodes.layers.reshaping import Reshape
from jaxnodes.models.convolutional import image_shape


class Style(NamedTuple):
    """What all convolutions of a network have in common.

    Attributes:
      activation: a function.
      norm: the layer behind each convolution.
      dtype: to compute in; `None` is the parameters'.
    """

    activation: Callable
    norm: Layer
    dtype: Any

    @classmethod
    def of(cls, activation: Callable | str, norm: Any, dtype: Any, where: str) -> "Style":
        """The style of these, checked; a norm without a dtype takes the network's."""
        check(
            isinstance(norm, Layer),
            f"expected norm to be a layer (say jn.BatchNorm()), got {norm!r}",
            where,
        )
        if dtype is not None and getattr(norm, "dtype", dtype) is None:
            norm = dataclasses.replace(norm, dtype=dtype)  # pyright: ignore[reportCallIssue]
        return cls(resolve_activation(activation), norm, dtype)

    def conv(self, features: int, kernel_size: int, *, active: bool = True, **options) -> list:
        """A convolution, its norm, and if `active` the activation.

        The convolution has no bias: the norm would take it off again. Weights are He normal
        by fan out, as torchvision and EfficientNet's authors draw them. Each filter of a
        depthwise convolution makes one channel, so that its own fan out is its fan in.
        """
        depthwise = options.get("groups", 1) > 1
        conv = Conv(
            features,
            kernel_size,
            use_bias=False,
            w_init=he_normal if depthwise else he_normal_fan_out,
            dtype=self.dtype,
            **options,
        )
        return [conv, self.norm, *([self.activation] if active else [])]

    def activation_name(self, number: int) -> str:
        """What a `Sequential` would call the activation: `relu1`."""
        return f"{layer_name(as_layer(self.activation))}{number}"


def images_first(input_shape: Sequence[int], where: str) -> list[Layer]:
    """The layer that gives rows of pixels their shape back, where samples come as rows."""
    shape = image_shape(input_shape, where)
    return [] if len(input_shape) == 3 else [Reshape(shape)]
