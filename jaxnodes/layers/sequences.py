"""Recurrent layers over sequences, as pure functions: cells run along the time axis.

Every step's hidden state is a node inside the loop, and what the node holds is
what goes on into the next step: a gate on it acts as it would on the unit itself.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn import tanh

from jaxnodes.errors import check, describe, is_concrete
from jaxnodes.layers.arrays import Params
from jaxnodes.layers.cell_parts import GRU_CELL, LSTM_CELL, simple_rnn_with
from jaxnodes.layers.cells import CELLS, prepare, prepare_carry
from jaxnodes.layers.over_time import over_time


def simple_rnn(
    params: Params,
    x: Any,
    *,
    initial: jax.Array | None = None,
    mask: jax.Array | None = None,
    reverse: bool = False,
    activation: Callable = tanh,
) -> tuple[jax.Array, jax.Array]:
    """A simple recurrent layer over sequences: `simple_rnn_cell` at every step.

    Args:
      params: `{"w_i": (D, H), "w_h": (H, H), "b": (H,)}`.
      x: (..., T, D).
      initial: the hidden state before the first step, (..., H); zeros by default.
      mask: (..., T), boolean, for sequences of different lengths (`lengths_to_mask`). A
        step that is False leaves the hidden state as it is, and its output is zero.
      reverse: whether to run from the last step to the first. Outputs stay where their
        inputs are.
      activation: an elementwise function.

    Returns:
      `(outputs, last)`: the hidden states, (..., T, H), and the one after the last step
      (the first if reversed), (..., H), from which the next chunk can go on.

    Raises:
      JaxNodesError: shapes or dtypes that don't fit.

    Example:

    >>> import jax, jax.numpy as jnp, jaxnodes as jn
    >>> params = jn.simple_rnn_init(jax.random.key(0), 3, 5)
    >>> outputs, last = jn.simple_rnn(params, jnp.ones((2, 7, 3)))
    >>> outputs.shape, bool((outputs[:, -1] == last).all())
    ((2, 7, 5), True)
    """
    params, *inputs = _prepared(params, initial, x, mask, "simple_rnn")
    outputs, (h,) = over_time(simple_rnn_with(activation), params, *inputs, reverse)
    return outputs, h


def lstm(
    params: Params,
    x: Any,
    *,
    initial: Sequence[jax.Array] | None = None,
    mask: jax.Array | None = None,
    reverse: bool = False,
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """An LSTM over sequences: `lstm_cell` at every step.

    Args:
      params: `{"w_i": (D, 4 H), "w_h": (H, 4 H), "b": (4 H,)}`, gates i, f, g, o.
      x: (..., T, D).
      initial: the pair (h, c) before the first step, each (..., H); zeros by default.
      mask, reverse: as in `simple_rnn`.

    Returns:
      `(outputs, (h, c))`: the hidden states, (..., T, H), and the carry after the last step.

    Raises:
      JaxNodesError: shapes or dtypes that don't fit.

    Example:

    >>> import jax, jax.numpy as jnp, jaxnodes as jn
    >>> params = jn.lstm_init(jax.random.key(0), 3, 5)
    >>> mask = jn.lengths_to_mask(jnp.array([7, 4]), 7)
    >>> outputs, (h, c) = jn.lstm(params, jnp.ones((2, 7, 3)), mask=mask)
    >>> bool((outputs[1, 3] == h[1]).all()), float(jnp.abs(outputs[1, 4:]).max())
    (True, 0.0)
    """
    params, *inputs = _prepared(params, initial, x, mask, "lstm")
    outputs, (h, c) = over_time(LSTM_CELL, params, *inputs, reverse)
    return outputs, (h, c)


def gru(
    params: Params,
    x: Any,
    *,
    initial: jax.Array | None = None,
    mask: jax.Array | None = None,
    reverse: bool = False,
) -> tuple[jax.Array, jax.Array]:
    """A GRU over sequences: `gru_cell` at every step.

    Args:
      params: `{"w_i": (D, 3 H), "w_h": (H, 3 H), "b": (4 H,)}`, as `gru_init` says.
      x: (..., T, D).
      initial, mask, reverse: as in `simple_rnn`.

    Returns:
      `(outputs, last)`: the hidden states, (..., T, H), and the one after the last step.

    Raises:
      JaxNodesError: shapes or dtypes that don't fit.

    Example:

    >>> import jax, jax.numpy as jnp, jaxnodes as jn
    >>> params = jn.gru_init(jax.random.key(0), 3, 5)
    >>> outputs, last = jn.gru(params, jnp.ones((2, 7, 3)), reverse=True)
    >>> bool((outputs[:, 0] == last).all())
    True
    """
    params, *inputs = _prepared(params, initial, x, mask, "gru")
    outputs, (h,) = over_time(GRU_CELL, params, *inputs, reverse)
    return outputs, h


def lengths_to_mask(lengths: Any, steps: int) -> jax.Array:
    """The mask of sequences of these lengths, padded at the end to `steps` steps.

    Args:
      lengths: integers from 0 to `steps`, of any shape (...).
      steps: T.

    Returns:
      (..., T), boolean: True at the first `length` steps.

    Raises:
      JaxNodesError: lengths that aren't whole numbers, or (where they are concrete) out of range.

    Example:

    >>> import jax.numpy as jnp
    >>> lengths_to_mask(jnp.array([3, 1]), 3)
    Array([[ True,  True,  True],
           [ True, False, False]], dtype=bool)
    """
    # Checked as they came: NumPy's int64 becomes int32 on the way into JAX.
    lengths = lengths if isinstance(lengths, jax.Array) else np.asarray(lengths)
    check(
        jnp.issubdtype(lengths.dtype, jnp.integer),
        f"expected whole numbers as lengths, got {describe(lengths)}",
        "lengths_to_mask",
    )
    if is_concrete(lengths) and lengths.size:
        least, most = int(np.min(lengths)), int(np.max(lengths))
        check(
            least >= 0 and most <= steps,
            f"expected lengths from 0 to {steps}, got {least} to {most}; pad to the longest",
            "lengths_to_mask",
        )
    count = jnp.arange(steps)
    return count < jnp.asarray(lengths, count.dtype)[..., None]


def _prepared(params: Params, initial: Any, x: Any, mask: Any, where: str):
    """All that a loop needs, checked: parameters, carry, inputs and mask."""
    params, x = prepare(params, x, where)
    check_sequences(x, where)
    *leading, steps, _ = x.shape
    if initial is None:
        # Like x: inside shard_map it is to vary over the mesh as x does.
        zeros = jnp.zeros_like(x, shape=(*leading, params["w_h"].shape[0]))
        carry = (zeros,) * len(CELLS[where][2])
    else:
        carry = prepare_carry(
            initial if where == "lstm" else (initial,), params, tuple(leading), where
        )
    if mask is not None:
        mask = check_mask(mask, (*leading, steps), where)
    return params, carry, x, mask


def check_mask(mask: Any, shape: tuple[int, ...], where: str) -> jax.Array:
    """The mask of a batch of sequences as an array, or an error."""
    mask = jnp.asarray(mask)
    check(
        mask.dtype == bool and mask.shape == tuple(shape),
        f"expected a boolean mask of shape {tuple(shape)}, True at the steps that count, "
        f"got {describe(mask)}; jn.lengths_to_mask makes one",
        where,
    )
    return mask


def split_mask(x: Any, where: str) -> tuple[Any, Any]:
    """`(x, mask)` of a layer's input, which is either that pair or `x` alone."""
    if not isinstance(x, tuple):
        return x, None
    check(len(x) == 2, f"expected x or the pair (x, mask), got {len(x)} values", where)
    return x


def check_sequences(x: Any, where: str) -> None:
    """Raises unless `x` has the axes of a batch of sequences."""
    check(
        jnp.ndim(x) >= 2, f"expected sequences (batch, steps, features), got {describe(x)}", where
    )
