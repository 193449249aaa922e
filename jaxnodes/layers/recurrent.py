"""Recurrent layers: the descriptions of `simple_rnn`, `lstm` and `gru`.

A layer takes a batch of sequences, or a pair of one and its mask, and gives back
the same: `y` for `x`, `(y, mask)` for `(x, mask)`, so that masked layers chain.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jaxnodes.activations import activation, tanh
from jaxnodes.errors import check, check_count, check_number
from jaxnodes.initializers import initializer, orthogonal, xavier_uniform, zeros
from jaxnodes.layers.arrays import cast_inputs, check_params, dtype_of
from jaxnodes.layers.base import Layer
from jaxnodes.layers.cells import CELLS, gru_init, lstm_init, simple_rnn_init
from jaxnodes.layers.description import normalize
from jaxnodes.layers.sequences import check_sequences, gru, lstm, simple_rnn, split_mask


@dataclasses.dataclass(frozen=True, repr=False)
class _Recurrent(Layer):
    """What the three recurrent layers share."""

    features: int
    _: dataclasses.KW_ONLY
    reverse: bool = False
    stateful: bool = False
    w_init: Callable | str = xavier_uniform
    recurrent_init: Callable | str = orthogonal
    b_init: Callable | str = zeros
    dtype: Any = None

    _kind: ClassVar[str]
    _init: ClassVar[Callable[..., dict[str, jax.Array]]]
    _run: ClassVar[Callable[..., tuple[jax.Array, Any]]]

    def __post_init__(self):
        check_count(self.features, "features", type(self).__name__)
        normalize(self, w_init=initializer, recurrent_init=initializer, b_init=initializer)

    def init(self, key, x):
        x, _ = split_mask(x, self._kind)
        check_sequences(x, self._kind)
        params = self._init(
            key,
            x.shape[-1],
            self.features,
            w_init=self.w_init,
            recurrent_init=self.recurrent_init,
            b_init=self.b_init,
            dtype=dtype_of(x),
        )
        if not self.stateful:
            return params, {}
        carried = jnp.zeros((*x.shape[:-2], self.features), self.dtype or dtype_of(x))
        return params, dict.fromkeys(CELLS[self._kind][2], carried)

    def apply(self, params, state, x, *, key=None, training=False):
        gates, biases, _ = CELLS[self._kind]
        shapes = {
            "w_i": (None, gates * self.features),
            "w_h": (self.features, gates * self.features),
            "b": (biases * self.features,),
        }
        check_params(params, shapes, self._kind)
        x, mask = split_mask(x, self._kind)
        params, x = cast_inputs(params, x, self.dtype, self._kind)
        initial = self._initial(state, x) if self.stateful else None
        y, last = self._run(params, x, initial=initial, mask=mask, reverse=self.reverse)
        if self.stateful:
            carry = last if isinstance(last, tuple) else (last,)
            state = dict(zip(CELLS[self._kind][2], carry, strict=True))
        return (y if mask is None else (y, mask)), state

    def _initial(self, state, x):
        """The carry that `state` holds, in the form the function takes it."""
        names = CELLS[self._kind][2]
        expected = dict.fromkeys(names, (*x.shape[:-2], self.features))
        came = {name: jnp.shape(value) for name, value in state.items()}
        check(
            came == expected,
            f"expected a carried state of shapes {expected} for inputs {x.shape}, got {came}; "
            "keep to the batch size of init, or begin again with the state of init for this one",
            self._kind,
        )
        return tuple(state[name] for name in names) if len(names) > 1 else state["h"]


@dataclasses.dataclass(frozen=True, repr=False)
class SimpleRNN(_Recurrent):
    """A simple recurrent layer: `h = activation(x w_i + h w_h + b)` at every step.

    Every step's hidden state is a node. The options are those of all recurrent layers.

    Args:
      features: number of nodes, H.
      activation: a function or a name.
      reverse: whether to run from the last step to the first; outputs stay in place.
      stateful: whether a batch goes on where the one before it ended. The hidden state
        is then part of the layer's state, of the batch size that init saw; it starts at
        zero, and `reset_state` puts it back.
      w_init, recurrent_init, b_init: initializers, by function or by name. Each gate's
        weights are drawn on their own.
      dtype: the dtype to compute in; `None` is the parameters'.

    Shapes: x (B, T, D) to (B, T, H). With a mask (B, T), True at the steps that count,
    `(x, mask)` to `(y, mask)`: the other steps change nothing, and their outputs are zero.
    Parameters `{"w_i": (D, H), "w_h": (H, H), "b": (H,)}`, state `{"h": (B, H)}` if stateful.

    Example:

    >>> import jax, jax.numpy as jnp, jaxnodes as jn
    >>> net = jn.Sequential(jn.SimpleRNN(16), jn.LastStep(), jn.Dense(2))
    >>> variables = net.init(jax.random.key(0), jnp.ones((8, 20, 3)))
    >>> net.predict(variables, jnp.ones((8, 20, 3))).shape
    (8, 2)
    """

    activation: Callable | str = tanh

    _kind = "simple_rnn"
    _init = staticmethod(simple_rnn_init)

    def __post_init__(self):
        super().__post_init__()
        normalize(self, activation=activation)

    def _run(self, params, x, **options):
        return simple_rnn(params, x, activation=activation(self.activation), **options)


@dataclasses.dataclass(frozen=True, repr=False)
class LSTM(_Recurrent):
    """An LSTM, as `lstm_cell` has it. Every step's hidden state h is a node.

    Args:
      features: number of nodes, H.
      forget_bias: added to the forget gate's bias at init.
      reverse, stateful, w_init, recurrent_init, b_init, dtype: as in `SimpleRNN`.

    Shapes: x (B, T, D) to (B, T, H), or with a mask as in `SimpleRNN`. Parameters
    `{"w_i": (D, 4 H), "w_h": (H, 4 H), "b": (4 H,)}`, gates i, f, g, o; state
    `{"h": (B, H), "c": (B, H)}` if stateful.

    Example: a long sequence in chunks.

    >>> import jax, jax.numpy as jnp, jaxnodes as jn
    >>> layer = jn.LSTM(16, stateful=True)
    >>> x = jax.random.normal(jax.random.key(1), (8, 20, 3))
    >>> params, state = layer.init(jax.random.key(0), x)
    >>> whole, _ = layer.apply(params, state, x)
    >>> first, state = layer.apply(params, state, x[:, :12])
    >>> second, state = layer.apply(params, state, x[:, 12:])
    >>> bool(jnp.allclose(jnp.concatenate([first, second], axis=1), whole, atol=1e-6))
    True
    """

    _: dataclasses.KW_ONLY
    forget_bias: float = 0.0

    _kind = "lstm"
    _run = staticmethod(lstm)

    def __post_init__(self):
        super().__post_init__()
        check_number(self.forget_bias, "forget_bias", "LSTM")

    def _init(self, *sizes, **options):
        return lstm_init(*sizes, forget_bias=self.forget_bias, **options)


@dataclasses.dataclass(frozen=True, repr=False)
class GRU(_Recurrent):
    """A GRU, as `gru_cell` has it. Every step's hidden state is a node.

    Args:
      features: number of nodes, H.
      reverse, stateful, w_init, recurrent_init, b_init, dtype: as in `SimpleRNN`.

    Shapes: x (B, T, D) to (B, T, H), or with a mask as in `SimpleRNN`. Parameters
    `{"w_i": (D, 3 H), "w_h": (H, 3 H), "b": (4 H,)}`, as `gru_init` says; state
    `{"h": (B, H)}` if stateful.

    Example: sequences of different lengths.

    >>> import jax, jax.numpy as jnp, jaxnodes as jn
    >>> net = jn.Sequential(jn.GRU(16), jn.GRU(16), jn.LastStep(), jn.Dense(2))
    >>> x, mask = jnp.ones((8, 20, 3)), jn.lengths_to_mask(jnp.arange(1, 9), 20)
    >>> variables = net.init(jax.random.key(0), (x, mask))
    >>> net.predict(variables, (x, mask)).shape
    (8, 2)
    """

    _kind = "gru"
    _init = staticmethod(gru_init)
    _run = staticmethod(gru)


def reset_state(state: Any) -> Any:
    """The state of a network with what its layers carry from batch to batch at zero.

    Args:
      state: a network's or a layer's. Hidden states (`{"h"}`, `{"h", "c"}`), key/value
        caches (`{"k", "v", "index"}`) and positions (`{"index"}`) start anew; all else, as
        running statistics, stays.

    Returns:
      A state of the same structure.

    Example:

    >>> import jax.numpy as jnp
    >>> reset_state({"gru1": {"h": jnp.ones(2)}, "batch_norm1": {"mean": jnp.ones(1)}})
    {'gru1': {'h': Array([0., 0.], dtype=float32)},
     'batch_norm1': {'mean': Array([1.], dtype=float32)}}
    """
    if not isinstance(state, Mapping):
        return state
    if is_carried(state):
        return jax.tree.map(jnp.zeros_like, dict(state))
    return {name: reset_state(inner) for name, inner in state.items()}


def is_carried(state: Mapping[str, Any]) -> bool:
    """Whether this is what one layer carries from batch to batch, by its names."""
    of_layers = any(isinstance(value, Mapping) for value in state.values())
    return not of_layers and set(state) in ({"h"}, {"h", "c"}, {"k", "v", "index"}, {"index"})
