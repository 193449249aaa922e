"""Recurrent cells: one step of each recurrent layer, and the parameters of all its steps.

The weights of the gates lie side by side on the last axis, so that one product
serves them all. A cell takes what is carried from step to step and gives back
what is carried on; it names no nodes: `jaxnodes.layers.over_time` does.
"""

import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import sigmoid, tanh

from jaxnodes.errors import check, check_count, check_key, describe
from jaxnodes.initializers import orthogonal, xavier_uniform, zeros
from jaxnodes.layers.arrays import Params, cast_inputs, check_params

Carry = tuple[jax.Array, ...]

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


class Cell(NamedTuple):
    """One step of a recurrent layer, in the parts its gradients are made of.

    A step is `act(pre(params)(x, h), carry)`. The pre-activations z are linear in x and h.
    Nodes meet in `pre` only: `act` does to some of them what it does to all.

    Attributes:
      pre: `params -> (x, h) -> z`, a sequence of blocks (..., H), in the form that is fastest
        in a loop on CPU.
      apart: `pre` with products of their own for each gate; `None` for a cell without gates.
      combine: z in one array, without the bias, from the products `x w_i` and `h w_h`.
      act: `(z, carry) -> carry`.
      slopes: `(z, carry) -> (carry, factors)`, with what `tangent` needs to know of the step.
      tangent: `(factors, dz, dcarry) -> dcarry`, the derivative of `act`: linear in the
        last two. dz is one array.
    """

    pre: Callable
    apart: Callable | None
    combine: Callable
    act: Callable
    slopes: Callable
    tangent: Callable

    def __call__(self, params: Params, carry: Carry, x: jax.Array) -> Carry:
        return self.act(self.pre(params)(x, carry[0]), carry)


def groups_of_nodes(params: Params, count: int) -> list[Params]:
    """The parameters of `count` groups of nodes, as many in each: all of `w_h`'s rows."""
    nodes = params["w_h"].shape[0]

    def group(array, i):
        gates = jnp.split(array, array.shape[-1] // nodes, axis=-1)
        return jnp.concatenate([jnp.split(gate, count, axis=-1)[i] for gate in gates], axis=-1)

    return [{name: group(array, i) for name, array in params.items()} for i in range(count)]


def _together(gates: int) -> Callable:
    """`pre` as one product with [x, h]."""

    def pre(params):
        w, b = jnp.concatenate([params["w_i"], params["w_h"]]), params["b"]
        return lambda x, h: jnp.split(jnp.concatenate([x, h], axis=-1) @ w + b, gates, axis=-1)

    return pre


def _apart(gates: int) -> Callable:
    """`pre` as a product with [x, h] for each gate."""

    def pre(params):
        w = jnp.concatenate([params["w_i"], params["w_h"]])
        ws, bs = (jnp.split(array, gates, axis=-1) for array in (w, params["b"]))

        def products(x, h):
            both = jnp.concatenate([x, h], axis=-1)
            return [both @ w + b for w, b in zip(ws, bs, strict=True)]

        return products

    return pre


@functools.lru_cache(maxsize=64)
def simple_rnn_with(activation: Callable) -> Cell:
    """The cell with this activation: always the same one, so that it compiles once."""

    def act(z, carry):
        return (activation(z[0]),)

    def slopes(z, carry):
        return act(z, carry), z[0]

    def tangent(z, dz, dcarry):
        return (jax.jvp(activation, (z,), (dz,))[1],)

    return Cell(_together(1), None, operator.add, act, slopes, tangent)


def _lstm_act(z, carry):
    (_, c), (i, f, g, o) = carry, z
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(c), c


def _lstm_slopes(z, carry):
    (_, before), (i, f, g, o) = carry, z
    i, f, g, o = sigmoid(i), sigmoid(f), tanh(g), sigmoid(o)
    c = f * before + i * g
    t = tanh(c)
    of_z = [g * i * (1 - i), before * f * (1 - f), i * (1 - g * g), t * o * (1 - o)]
    return (o * t, c), (jnp.concatenate(of_z, axis=-1), f, o * (1 - t * t))


def _lstm_tangent(factors, dz, dcarry):
    of_z, c_by_c, h_by_c = factors
    i, f, g, o = jnp.split(of_z * dz, 4, axis=-1)
    c = c_by_c * dcarry[1] + i + f + g
    return o + h_by_c * c, c


LSTM_CELL = Cell(_together(4), _apart(4), operator.add, _lstm_act, _lstm_slopes, _lstm_tangent)


# Of a GRU z has four blocks, as its bias: r, z, and the two parts of n, which r keeps apart.


def _gru_combine(from_x, from_h):
    r, z, n = jnp.split(from_x, 3, axis=-1)
    r_h, z_h, n_h = jnp.split(from_h, 3, axis=-1)
    return jnp.concatenate([r + r_h, z + z_h, n, n_h], axis=-1)


def _gru_pre(params: Params) -> Callable:
    w_i, w_h, b = params["w_i"], params["w_h"], params["b"]

    def pre(x, h):
        r, z, n = jnp.split(x @ w_i + b[: w_i.shape[1]], 3, axis=-1)
        r_h, z_h, n_h = jnp.split(h @ w_h, 3, axis=-1)
        return r + r_h, z + z_h, n, n_h + b[w_i.shape[1] :]

    return pre


def _gru_apart(params: Params) -> Callable:
    of_x, of_h = (jnp.split(params[name], 3, axis=-1) for name in ("w_i", "w_h"))
    b_r, b_z, b_n, b_h = jnp.split(params["b"], 4)

    def pre(x, h):
        (r, z, n), (r_h, z_h, n_h) = (x @ w for w in of_x), (h @ w for w in of_h)
        return r + r_h + b_r, z + z_h + b_z, n + b_n, n_h + b_h

    return pre


def _gru_act(pre, carry):
    (h,), (r, z, n, n_h) = carry, pre
    z, n = sigmoid(z), tanh(n + sigmoid(r) * n_h)
    return ((1 - z) * n + z * h,)


def _gru_slopes(pre, carry):
    (h,), (r, z, n, n_h) = carry, pre
    r, z = sigmoid(r), sigmoid(z)
    n = tanh(n + r * n_h)
    by_n = (1 - z) * (1 - n * n)
    of_pre = [by_n * n_h * r * (1 - r), (h - n) * z * (1 - z), by_n, by_n * r]
    return ((1 - z) * n + z * h,), (jnp.concatenate(of_pre, axis=-1), z)


def _gru_tangent(factors, dz, dcarry):
    of_pre, h_by_h = factors
    return (sum(jnp.split(of_pre * dz, 4, axis=-1)) + h_by_h * dcarry[0],)


GRU_CELL = Cell(_gru_pre, _gru_apart, _gru_combine, _gru_act, _gru_slopes, _gru_tangent)


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
