"""Recurrent cells: one step of each recurrent layer, and the parameters of all its steps.

What users call, with its checks; the arithmetic of a step is in `jaxnodes.layers.cell_parts`. A
cell takes what is carried from step to step and gives back what is carried on; it names no
nodes: `jaxnodes.layers.over_time` does.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.nn import tanh

from jaxnodes.errors import check, check_count, check_key, describe
from jaxnodes.initializers import orthogonal, xavier_uniform, zeros
from jaxnodes.layers.arrays import Params, cast_inputs, check_params
from jaxnodes.layers.cell_parts import GRU_CELL, LSTM_CELL, Carry, simple_rnn_with

#: Of each cell: blocks of H columns in the weights, in the bias, and the names of its carry.
CELLS = {
    "simple_rnn": (1, 1, ("h",)),
    "lstm": (4, 4, ("h", "c")),
    "gru": (3, 4, ("h",)),
}


def simple_rnn_init(
    key: jax.Array,
    in_features: int,
    features: int,
    *,
    w_init: Callable = xavier_uniform,
    recurrent_init: Callable = orthogonal,
    b_init: Callable = zeros,
    dtype: Any = jnp.float32,
) -> dict[str, jax.Array]:
    """Parameters of a simple recurrent layer.

    Args:
      key: a typed PRNG key.
      in_features: size D of the last axis of the inputs.
      features: number of nodes, H.
      w_init, recurrent_init, b_init: initializers `(key, shape, dtype)` of the input
        weights, the recurrent weights and the bias.
      dtype: of all arrays.

    Returns:
      `{"w_i": (D, H), "w_h": (H, H), "b": (H,)}`. Torch's `weight_ih` and `weight_hh` are
      the transposes of `w_i` and `w_h`, and its two biases add up to `b`.
    """
    inits = (w_init, recurrent_init, b_init)
    return _init(key, in_features, features, "simple_rnn", inits, dtype)


def simple_rnn_cell(
    params: Params, carry: jax.Array, x: Any, *, activation: Callable = tanh
) -> jax.Array:
    """One step of a simple recurrent layer: `h' = activation(x w_i + h w_h + b)`.

    Args:
      params: `{"w_i": (D, H), "w_h": (H, H), "b": (H,)}`.
      carry: the hidden state h, (..., H).
      x: (..., D).
      activation: an elementwise function.

    Returns:
      The hidden state after the step, (..., H).

    Raises:
      JaxNodesError: shapes or dtypes that don't fit.

    Source: Elman 1990, Finding Structure in Time.

    Example:

    >>> import jax.numpy as jnp
    >>> params = {"w_i": jnp.eye(2), "w_h": -jnp.eye(2), "b": jnp.zeros(2)}
    >>> simple_rnn_cell(params, jnp.array([1.0, 2.0]), jnp.array([1.5, 2.0])).round(4)
    Array([0.4621, 0.    ], dtype=float32)
    """
    params, x = prepare(params, x, "simple_rnn")
    (h,) = prepare_carry((carry,), params, x.shape[:-1], "simple_rnn")
    return simple_rnn_with(activation)(params, (h,), x)[0]


def lstm_init(
    key: jax.Array,
    in_features: int,
    features: int,
    *,
    w_init: Callable = xavier_uniform,
    recurrent_init: Callable = orthogonal,
    b_init: Callable = zeros,
    forget_bias: float = 0.0,
    dtype: Any = jnp.float32,
) -> dict[str, jax.Array]:
    """Parameters of an LSTM; each gate's weights are drawn on their own.

    Args:
      key, in_features, features, w_init, recurrent_init, b_init, dtype: as in
        `simple_rnn_init`.
      forget_bias: added to the forget gate's bias (1 makes the memory last longer at first).

    Returns:
      `{"w_i": (D, 4 H), "w_h": (H, 4 H), "b": (4 H,)}`, the gates in the order i, f, g, o: that
      of torch, whose `weight_ih` and `weight_hh` are the transposes of `w_i` and `w_h` and
      whose two biases add up to `b`; of flax (`ii, if, ig, io` and `hi, hf, hg, ho` side by side)
      and of equinox. Haiku's order is i, g, f, o, and it adds 1 to the forget gate when run.
    """
    inits = (w_init, recurrent_init, b_init)
    params = _init(key, in_features, features, "lstm", inits, dtype)
    if forget_bias:
        forget = slice(features, 2 * features)
        params["b"] = params["b"].at[forget].add(jnp.asarray(forget_bias, params["b"].dtype))
    return params


def lstm_cell(params: Params, carry: Sequence[jax.Array], x: Any) -> tuple[jax.Array, jax.Array]:
    """One step of an LSTM.

        i, f, g, o = [x, h] W + b
        c' = sigmoid(f) c + sigmoid(i) tanh(g)
        h' = sigmoid(o) tanh(c')

    Args:
      params: `{"w_i": (D, 4 H), "w_h": (H, 4 H), "b": (4 H,)}`; W is `w_i` above `w_h`.
      carry: the pair (h, c), each (..., H). (flax carries c first.)
      x: (..., D).

    Returns:
      The pair (h, c) after the step.

    Raises:
      JaxNodesError: shapes or dtypes that don't fit.

    Source: Hochreiter and Schmidhuber 1997; the forget gate, Gers et al. 2000.

    Example:

    >>> import jax, jax.numpy as jnp
    >>> params = lstm_init(jax.random.key(0), 3, 5)
    >>> h, c = lstm_cell(params, (jnp.zeros((2, 5)), jnp.zeros((2, 5))), jnp.ones((2, 3)))
    >>> h.shape, c.shape
    ((2, 5), (2, 5))
    """
    params, x = prepare(params, x, "lstm")
    h, c = prepare_carry(carry, params, x.shape[:-1], "lstm")
    h, c = LSTM_CELL(params, (h, c), x)
    return h, c


def gru_init(
    key: jax.Array,
    in_features: int,
    features: int,
    *,
    w_init: Callable = xavier_uniform,
    recurrent_init: Callable = orthogonal,
    b_init: Callable = zeros,
    dtype: Any = jnp.float32,
) -> dict[str, jax.Array]:
    """Parameters of a GRU; each gate's weights are drawn on their own.

    Args:
      key, in_features, features, w_init, recurrent_init, b_init, dtype: as in
        `simple_rnn_init`.

    Returns:
      `{"w_i": (D, 3 H), "w_h": (H, 3 H), "b": (4 H,)}`. The weights' blocks are r, z, n; the
      bias's r, z, n of the input and n of the hidden state, for the reset gate stands between
      the last two. From torch: the weights transposed, and b = [b_ir + b_hr, b_iz + b_hz,
      b_in, b_hn]. From flax: `ir, iz, in` and `hr, hz, hn` side by side, and b = [ir, iz, in, hn].
    """
    inits = (w_init, recurrent_init, b_init)
    return _init(key, in_features, features, "gru", inits, dtype)


def gru_cell(params: Params, carry: jax.Array, x: Any) -> jax.Array:
    """One step of a GRU, the reset gate after the product, as in cuDNN.

        r = sigmoid(x w_ir + h w_hr + b_r)
        z = sigmoid(x w_iz + h w_hz + b_z)
        n = tanh(x w_in + b_in + r (h w_hn + b_hn))
        h' = (1 - z) n + z h

    Args:
      params: `{"w_i": (D, 3 H), "w_h": (H, 3 H), "b": (4 H,)}`, as `gru_init` says.
      carry: the hidden state h, (..., H).
      x: (..., D).

    Returns:
      The hidden state after the step, (..., H).

    Raises:
      JaxNodesError: shapes or dtypes that don't fit.

    Source: Cho et al. 2014, arXiv:1406.1078v1 (in its v3 r multiplies h, before the product).

    Example:

    >>> import jax, jax.numpy as jnp
    >>> params = gru_init(jax.random.key(0), 3, 5)
    >>> gru_cell(params, jnp.zeros((2, 5)), jnp.ones((2, 3))).shape
    (2, 5)
    """
    params, x = prepare(params, x, "gru")
    (h,) = prepare_carry((carry,), params, x.shape[:-1], "gru")
    return GRU_CELL(params, (h,), x)[0]


def prepare(params: Params, x: Any, where: str) -> tuple[Params, jax.Array]:
    """Parameters and inputs (..., D), checked, in one dtype."""
    gates, biases, _ = CELLS[where]
    shape = jnp.shape(params["w_h"]) if isinstance(params, Mapping) and "w_h" in params else ()
    features = shape[0] if shape else None
    w, b = (features and blocks * features for blocks in (gates, biases))
    check_params(params, {"w_i": (None, w), "w_h": (features, w), "b": (b,)}, where)
    params, x = cast_inputs(params, x, None, where)
    expected = params["w_i"].shape[0]
    check(
        x.ndim >= 1 and x.shape[-1] == expected,
        f"expected {expected} features on the last axis, got "
        f"{x.shape[-1] if x.ndim else 'a scalar'} (input {x.shape})",
        where,
    )
    return params, x


def prepare_carry(carry: Any, params: Params, leading: tuple[int, ...], where: str) -> Carry:
    """The carry as a tuple of arrays, checked: of shape (*leading, H), in the weights' dtype."""
    names = CELLS[where][2]
    check(
        isinstance(carry, (tuple, list)) and len(carry) == len(names),
        f"expected the pair ({', '.join(names)}) to be carried, got {describe(carry)}",
        where,
    )
    shape, dtype = (*leading, params["w_h"].shape[0]), params["w_h"].dtype
    for name, value in zip(names, carry, strict=True):
        fits = jnp.shape(value) == shape and jnp.result_type(value) == dtype
        check(
            fits,
            f"expected the carried {name} as {dtype} {shape}, got {describe(value)}; "
            "start from zeros of that shape and dtype",
            where,
        )
    return tuple(jnp.asarray(value) for value in carry)


def _init(key, in_features, features, where, inits, dtype) -> dict[str, jax.Array]:
    check_key(key, where)
    check_count(in_features, "in_features", where)
    check_count(features, "features", where)
    gates, biases, _ = CELLS[where]
    w_init, recurrent_init, b_init = inits
    w_key, recurrent_key, b_key = jax.random.split(key, 3)

    def side_by_side(init, key, rows):
        keys = jax.random.split(key, gates)
        return jnp.concatenate([init(k, (rows, features), dtype) for k in keys], axis=-1)

    return {
        "w_i": side_by_side(w_init, w_key, in_features),
        "w_h": side_by_side(recurrent_init, recurrent_key, features),
        "b": b_init(b_key, (biases * features,), dtype),
    }
