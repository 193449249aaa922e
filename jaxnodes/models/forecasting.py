"""Networks that look ahead in time series."""

from collections.abc import Sequence

from jaxnodes.errors import check, check_count
from jaxnodes.layers.combinators import Sequential
from jaxnodes.layers.neurons import Dense
from jaxnodes.layers.recurrent import GRU, LSTM, SimpleRNN
from jaxnodes.layers.regularization import Dropout
from jaxnodes.layers.reshaping import Reshape
from jaxnodes.layers.sequence_layers import LastStep
from jaxnodes.registry import choose

_KINDS = {"lstm": LSTM, "gru": GRU, "rnn": SimpleRNN}


def forecaster(
    input_shape: Sequence[int],
    horizon: int = 1,
    outputs: int | None = None,
    kind: str = "lstm",
    hidden: Sequence[int] = (64,),
    *,
    dropout: float = 0.0,
) -> Sequential:
    """A recurrent network that reads a window of a series and predicts the steps after it.

    Recurrent layers, one upon the other, and a linear layer that makes all of the horizon at
    once of the last step's hidden state. Windows of another length may follow, as recurrent
    layers take any. For `x, y = jn.data.windows(series, width, horizon=...)` it is
    `forecaster(x.shape[1:], *y.shape[1:])`.

    Args:
      input_shape: of a window, without the batch axis: (steps, features).
      horizon: steps to predict.
      outputs: quantities to predict at each step; `None` is one, without an axis of its own.
      kind: `"lstm"`, `"gru"` or `"rnn"`.
      hidden: nodes of each recurrent layer.
      dropout: the rate after each recurrent layer; after the last one, of its last step.

    Returns:
      A `Sequential`, (B, *input_shape) to (B, horizon, outputs), or (B, horizon).

    Raises:
      JaxNodesError: windows that are not (steps, features), a size that isn't a positive
        whole number, no hidden layer, or a rate outside [0, 1).

    Example:

    >>> import jax, numpy as np, jaxnodes as jn
    >>> x, y = jn.data.windows(np.sin(np.arange(100.0)), 24, horizon=6)
    >>> net = forecaster(x.shape[1:], *y.shape[1:], "gru", hidden=(32, 16))
    >>> net
    Sequential(
      gru1=GRU(32),
      gru2=GRU(16),
      last_step1=LastStep(),
      dense1=Dense(6),
      reshape1=Reshape((6, 1)),
    )
    >>> net.predict(net.init(jax.random.key(0), x), x).shape == y.shape
    True
    """
    check(
        len(input_shape) == 2,
        f"expected windows (steps, features), got samples of shape {tuple(input_shape)}; a "
        "series of one quantity has 1 feature",
        "forecaster",
    )
    for size in input_shape:
        check_count(size, "each size of input_shape", "forecaster")
    check_count(horizon, "horizon", "forecaster")
    if outputs is not None:
        check_count(outputs, "outputs", "forecaster")
    check(len(hidden), "expected at least one hidden layer, got none", "forecaster")
    recurrent = choose(kind, _KINDS, "a kind of recurrent layer", "forecaster")
    after = [Dropout(dropout)] if dropout else []
    layers = []
    for features in hidden:
        layers += [recurrent(features), *after]
    layers = layers[: len(layers) - len(after)] + [LastStep(), *after]
    if outputs is None:
        return Sequential(*layers, Dense(horizon))
    return Sequential(*layers, Dense(horizon * outputs), Reshape((horizon, outputs)))
