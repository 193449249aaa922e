"""The arithmetic of one recurrent step, in the parts that loops and gradients are made of.

The weights of the gates lie side by side on the last axis, so that one product serves them
all. Another kind of cell is another `Cell` here; its functions for users go into
`jaxnodes.layers.cells`.
"""

import functools
import operator
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import sigmoid, tanh

from jaxnodes.layers.arrays import Params

Carry = tuple[jax.Array, ...]


class Cell(NamedTuple):
    """One step of a recurrent layer, in the parts its gradients are made of.

    A step is `act(pre(weights, x, h), carry)`. The pre-activations z are linear in x and h.

    Attributes:
      weights: `params -> weights`, in the form that is fastest in a loop on CPU.
      pre: `(weights, x, h, keep) -> z`, a sequence of blocks (..., H). Products and what they are
        made of pass through `keep`, an identity, for `side_by_side`.
      combine: z in one array, without the bias, from the products `x w_i` and `h w_h`.
      act: `(z, carry) -> carry`.
      slopes: `(z, carry) -> (carry, factors)`, with what `tangent` needs to know of the step.
      tangent: `(factors, dz, dcarry) -> dcarry`, the derivative of `act`: linear in the
        last two. dz is one array.
    """

    weights: Callable
    pre: Callable
    combine: Callable
    act: Callable
    slopes: Callable
    tangent: Callable

    def __call__(self, params: Params, carry: Carry, x: jax.Array) -> Carry:
        return self.act(self.pre(self.weights(params), x, carry[0], lambda z: z), carry)


def _stacked(params: Params) -> tuple[jax.Array, jax.Array]:
    return jnp.concatenate([params["w_i"], params["w_h"]]), params["b"]


def _together(gates: int) -> Callable:
    """`pre` as one product with [x, h]."""

    def pre(weights, x, h, keep):
        w, b = weights
        both = keep(jnp.concatenate([x, h], axis=-1))
        return jnp.split(keep(both @ w) + b, gates, axis=-1)

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

    return Cell(_stacked, _together(1), operator.add, act, slopes, tangent)


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


LSTM_CELL = Cell(_stacked, _together(4), operator.add, _lstm_act, _lstm_slopes, _lstm_tangent)


# Of a GRU z has four blocks, as its bias: r, z, and the two parts of n, which r keeps apart.


def _gru_combine(from_x, from_h):
    r, z, n = jnp.split(from_x, 3, axis=-1)
    r_h, z_h, n_h = jnp.split(from_h, 3, axis=-1)
    return jnp.concatenate([r + r_h, z + z_h, n, n_h], axis=-1)


def _gru_weights(params: Params) -> tuple[jax.Array, ...]:
    return params["w_i"], params["w_h"], params["b"]


def _gru_pre(weights, x, h, keep):
    w_i, w_h, b = weights
    r, z, n = jnp.split(keep(x @ w_i) + b[: w_i.shape[1]], 3, axis=-1)
    r_h, z_h, n_h = jnp.split(keep(h @ w_h), 3, axis=-1)
    return r + r_h, z + z_h, n, n_h + b[w_i.shape[1] :]


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


GRU_CELL = Cell(_gru_weights, _gru_pre, _gru_combine, _gru_act, _gru_slopes, _gru_tangent)
