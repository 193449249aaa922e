"""Networks of fully connected layers."""

import math
from collections.abc import Callable, Sequence

from jaxnodes.errors import check_count
from jaxnodes.initializers import zeros
from jaxnodes.layers.combinators import Sequential
from jaxnodes.layers.heads import fully_connected
from jaxnodes.layers.reshaping import Flatten


def mlp(
    input_shape: Sequence[int],
    outputs: int,
    hidden: Sequence[int] = (256, 128),
    activation: Callable | str = "relu",
    *,
    dropout: float = 0.0,
) -> Sequential:
    """A multilayer perceptron: `jn.fully_connected`, for samples of any shape.

    Args:
      input_shape: of a sample, without the batch axis; more axes than one are flattened.
      outputs: nodes of the last layer, whose weighted sums are the output.
      hidden: nodes of each hidden layer.
      activation: of the hidden layers, by function or by name.
      dropout: the rate after each hidden layer.

    Returns:
      A `Sequential`, (B, *input_shape) to (B, outputs).

    Raises:
      JaxNodesError: a size that isn't a positive whole number, or a rate outside [0, 1).

    Example:

    >>> mlp((28, 28, 1), 10, dropout=0.5)
    Sequential(
      flatten1=Flatten(),
      dense1=Dense(256, activation=relu, in_features=784),
      dropout1=Dropout(0.5),
      dense2=Dense(128, activation=relu, in_features=256),
      dropout2=Dropout(0.5),
      dense3=Dense(10, in_features=128),
    )
    """
    sizes = [_inputs(input_shape, "mlp"), *hidden, outputs]
    return _flattening(input_shape, fully_connected(sizes, activation, dropout=dropout))


def linear(input_shape: Sequence[int], outputs: int) -> Sequential:
    """A linear model as a network of one layer: linear or logistic regression, by its loss.

    Args:
      input_shape: of a sample, without the batch axis; more axes than one are flattened.
      outputs: one node for each quantity or class.

    Returns:
      A `Sequential`, (B, *input_shape) to (B, outputs). Weights start at zero: there is no
      symmetry to break, and nothing random to unlearn.

    Example:

    >>> linear((3,), 1)
    Sequential(
      dense1=Dense(1, w_init=zeros, in_features=3),
    )
    """
    sizes = [_inputs(input_shape, "linear"), outputs]
    return _flattening(input_shape, fully_connected(sizes, w_init=zeros))


def _inputs(input_shape: Sequence[int], where: str) -> int:
    """How many numbers a sample holds."""
    for size in input_shape:
        check_count(size, "each size of input_shape", where)
    return math.prod(input_shape)


def _flattening(input_shape: Sequence[int], net: Sequential) -> Sequential:
    """The network, with a flattening before it where samples have more axes than one."""
    return net if len(input_shape) == 1 else Sequential(flatten1=Flatten(), **dict(net.layers))
