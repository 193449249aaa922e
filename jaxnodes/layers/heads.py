"""Output heads, and the fully connected network from a list of sizes.

A head ends in logits, the weighted sums themselves, which the losses take;
`as_probabilities=True` puts the softmax or the sigmoid behind them, for networks
whose outputs people read.
"""

import dataclasses
from collections.abc import Callable, Sequence

import jax.numpy as jnp

from jaxnodes.errors import check, check_count, check_number
from jaxnodes.initializers import he_normal
from jaxnodes.layers.arrays import dtype_of
from jaxnodes.layers.base import Layer
from jaxnodes.layers.combinators import Sequential
from jaxnodes.layers.neurons import Dense
from jaxnodes.layers.regularization import Dropout
from jaxnodes.registry import choose

Initializer = Callable | str


def multiclass_head(
    classes: int, *, as_probabilities: bool = False, w_init: Initializer = he_normal
) -> Dense:
    """One node a class: (..., D) to logits (..., C), for `cross_entropy`.

    Args:
      classes: C, two or more.
      as_probabilities: whether a softmax follows; take the loss from the logits.
      w_init: an initializer, by function or by name.

    Example:

    >>> multiclass_head(10)
    Dense(10)
    >>> multiclass_head(10, as_probabilities=True)
    Dense(10, activation=softmax)
    """
    check_count(classes, "classes", "multiclass_head", least=2)
    return Dense(classes, "softmax" if as_probabilities else None, w_init=w_init)


def binary_head(*, as_probabilities: bool = False, w_init: Initializer = he_normal) -> Dense:
    """One node for two classes: (..., D) to the logit (..., 1), for `binary_cross_entropy`.

    Args:
      as_probabilities: whether a sigmoid follows: the probability of class 1.
      w_init: an initializer, by function or by name.
    """
    return Dense(1, "sigmoid" if as_probabilities else None, w_init=w_init)


def two_class_head(*, as_probabilities: bool = False, w_init: Initializer = he_normal) -> Dense:
    """Two nodes for two classes: (..., D) to logits (..., 2), for `cross_entropy`.

    Args and meaning as for `multiclass_head`.
    """
    return multiclass_head(2, as_probabilities=as_probabilities, w_init=w_init)


def regression_head(outputs: int = 1, *, w_init: Initializer = he_normal) -> Dense:
    """A weighted sum a quantity, any number: (..., D) to (..., outputs), for `mse`.

    Args:
      outputs: how many quantities.
      w_init: an initializer, by function or by name.
    """
    check_count(outputs, "outputs", "regression_head")
    return Dense(outputs, w_init=w_init)


def bounded_head(
    low: float,
    high: float,
    outputs: int = 1,
    *,
    activation: str = "sigmoid",
    w_init: Initializer = he_normal,
) -> Sequential:
    """Quantities between two bounds: (..., D) to (..., outputs), for `mse`.

    Args:
      low, high: the bounds, approached and never passed.
      outputs: how many quantities.
      activation: `"sigmoid"` or `"tanh"`, whose range is stretched to the bounds.
      w_init: an initializer, by function or by name.

    Example:

    >>> bounded_head(0, 40, activation="tanh")
    Sequential(
      dense1=Dense(1, activation=tanh),
      rescale1=Rescale(20.0, shift=20.0),
    )
    """
    check_number(low, "low", "bounded_head")
    check_number(high, "high", "bounded_head")
    check(low < high, f"expected low < high, got {low!r} and {high!r}", "bounded_head")
    check_count(outputs, "outputs", "bounded_head")
    floor = choose(activation, {"sigmoid": 0, "tanh": -1}, "an activation", "bounded_head")
    scale = (high - low) / (1 - floor)
    return Sequential(
        Dense(outputs, activation, w_init=w_init), Rescale(scale, low - floor * scale)
    )


def fully_connected(
    sizes: Sequence[int],
    activation: Callable | str = "relu",
    output: Callable | str | None = None,
    *,
    dropout: float = 0.0,
    w_init: Initializer = he_normal,
) -> Sequential:
    """A fully connected network: `[784, 256, 128, 10]` has two hidden layers.

    Args:
      sizes: of the input, of each hidden layer, and of the output.
      activation: of the hidden layers.
      output: of the last layer; `None` leaves the logits that losses take, `"softmax"`
        makes probabilities of them.
      dropout: the rate after each hidden layer.
      w_init: an initializer, by function or by name; biases are zero.

    Returns:
      A `Sequential` of `dense1`, `dense2`, ...; inputs of another size are refused. The
      activations of every layer: `jn.record(net.predict)(variables, x)`.

    Raises:
      JaxNodesError: fewer than two sizes, or one that isn't a positive whole number.

    Example:

    >>> import jax, jax.numpy as jnp
    >>> net = fully_connected([784, 256, 128, 10], dropout=0.5)
    >>> params, _ = net.init(jax.random.key(0), jnp.ones((1, 784)))
    >>> sum(p.size for p in jax.tree.leaves(params))
    235146
    """
    check(
        isinstance(sizes, Sequence) and not isinstance(sizes, str) and len(sizes) >= 2,
        f"expected the sizes of the input, the hidden layers and the output, got {sizes!r}",
        "fully_connected",
    )
    for size in sizes:
        check_count(size, "each size", "fully_connected")
    *hidden, last = sizes[1:]
    layers: list[Layer] = []
    for before, size in zip(sizes, hidden, strict=False):
        layers.append(Dense(size, activation, in_features=before, w_init=w_init))
        layers += [Dropout(dropout)] if dropout else []
    return Sequential(*layers, Dense(last, output, in_features=sizes[-2], w_init=w_init))


@dataclasses.dataclass(frozen=True, repr=False)
class Rescale(Layer):
    """`scale * x + shift`, for fixed numbers: a change of units. Names no nodes.

    Args:
      scale, shift: finite numbers.

    Shapes: any x to the same; whole numbers become floats. No parameters.

    Example:

    >>> import jax.numpy as jnp
    >>> Rescale(1 / 255).predict(({}, {}), jnp.array([0, 255], jnp.uint8))
    Array([0., 1.], dtype=float32)
    """

    scale: float
    shift: float = 0.0

    def __post_init__(self):
        for name in ("scale", "shift"):
            check_number(getattr(self, name), name, "Rescale")
            object.__setattr__(self, name, float(getattr(self, name)))

    def apply(self, params, state, x, *, key=None, training=False):
        x = jnp.asarray(x)
        x = x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(dtype_of(x))
        return self.scale * x + self.shift, state
