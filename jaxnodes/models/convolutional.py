"""Networks for images."""

import math
from collections.abc import Callable, Sequence

from jaxnodes.errors import check, check_count
from jaxnodes.layers.combinators import Sequential
from jaxnodes.layers.convolution_layers import Conv
from jaxnodes.layers.neurons import Dense
from jaxnodes.layers.pooling import MaxPool
from jaxnodes.layers.regularization import Dropout
from jaxnodes.layers.reshaping import Flatten, Reshape


def cnn(
    input_shape: Sequence[int],
    outputs: int,
    channels: Sequence[int] = (32, 64),
    hidden: Sequence[int] = (128,),
    activation: Callable | str = "relu",
    *,
    dropout: float = 0.0,
) -> Sequential:
    """A small convolutional network, after LeNet-5 (LeCun et al. 1998).

    A 3 x 3 convolution and a pooling by two for each entry of `channels`, then fully
    connected layers. 28 x 28 pixels go down to 14 and 7 on a side, 8 x 8 to 4 and 2.

    Args:
      input_shape: of a sample, without the batch axis: (H, W, C), or (H * H,) for square
        gray images as rows, which the network gives their shape back.
      outputs: nodes of the last layer, whose weighted sums are the output.
      channels: filters of each convolution.
      hidden: nodes of each fully connected layer behind them.
      activation: of all layers but the last, by function or by name.
      dropout: the rate after each hidden fully connected layer.

    Returns:
      A `Sequential`, (B, *input_shape) to (B, outputs).

    Raises:
      JaxNodesError: samples that are no images, or too small to be pooled as often.

    Example:

    >>> cnn((28, 28, 1), 10)
    Sequential(
      conv1=Conv(32, (3, 3), activation=relu),
      max_pool1=MaxPool(2),
      conv2=Conv(64, (3, 3), activation=relu),
      max_pool2=MaxPool(2),
      flatten1=Flatten(),
      dense1=Dense(128, activation=relu),
      dense2=Dense(10),
    )
    """
    check_count(outputs, "outputs", "cnn")
    height, width, depth = image_shape(input_shape, "cnn")
    least = 2 ** len(channels)
    check(
        min(height, width) >= least,
        f"expected images of {least} x {least} pixels or more for {len(channels)} poolings, "
        f"got {height} x {width}; give fewer channels",
        "cnn",
    )
    layers = [] if len(input_shape) == 3 else [Reshape((height, width, depth))]
    for features in channels:
        layers += [Conv(features, 3, activation), MaxPool(2)]
    layers += [Flatten()]
    for features in hidden:
        layers += [Dense(features, activation), *([Dropout(dropout)] if dropout else [])]
    return Sequential(*layers, Dense(outputs))


def image_shape(input_shape: Sequence[int], where: str) -> tuple[int, int, int]:
    """(H, W, C) of samples that are images, as they are or as rows of a square one's pixels.

    `where` is the model, for errors.
    """
    shape = tuple(input_shape)
    for size in shape:
        check_count(size, "each size of input_shape", where)
    side = math.isqrt(shape[0]) if len(shape) == 1 else 0
    check(
        len(shape) == 3 or (side >= 8 and side**2 == shape[0]),
        f"expected images (H, W, C), or rows of 8 x 8 pixels or more that make a square, got "
        f"samples of shape {shape}; mlp takes any",
        where,
    )
    return shape if len(shape) == 3 else (side, side, 1)
