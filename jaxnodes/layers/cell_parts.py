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
import numpy as np
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
      derived: `(z, carry, keep) -> (carry, factors)`: `act`, with what `tangent` needs to know of
        the step, but for its carry.
      tangent: `(carry, factors, dz, dcarry) -> dcarry`, the derivative of `act`: linear in the
        last two. dz is one array.
      cotangent: its transpose, `(carry, factors, ct_h, ct_rest, keep) -> (ct_rest, ct_dz, ct_z)`:
        of the carry, but for what comes through `h w_h`; of dz; and of `h w_h`.
      passes_h: whether h reaches the next h but through `h w_h`. `ct_rest` begins with it, then.
    """

    weights: Callable
    pre: Callable
    combine: Callable
    act: Callable
    derived: Callable
    tangent: Callable
    cotangent: Callable
    passes_h: bool

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

    def derived(z, carry, keep):
        return act(z, carry), z[0]

    def tangent(carry, z, dz, dcarry):
        return (jax.jvp(activation, (z,), (dz,))[1],)

    def cotangent(carry, z, ct_h, ct_rest, keep):
        (ct_z,) = jax.vjp(activation, z)[1](ct_h)
        ct_z = keep(ct_z)
        return (), ct_z, ct_z

    parts = act, derived, tangent, cotangent
    return Cell(_stacked, _together(1), operator.add, *parts, passes_h=False)


def _lstm_act(z, carry):
    (_, c), (i, f, g, o) = carry, z
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(c), c


def _lstm_derived(z, carry, keep):
    # One tanh for all gates, and each function once: sigmoid(z) is 1/2 + tanh(z / 2) / 2.
    (_, c), z = carry, jnp.concatenate(z, axis=-1)
    half = np.repeat([0.5, 0.5, 1, 0.5], c.shape[-1]).astype(z.dtype)
    gates = half * keep(tanh(half * z)) + (1 - half)
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    c = f * c + i * g
    tanh_c = keep(tanh(c))
    return (o * tanh_c, c), (gates, tanh_c)


def _lstm_tangent(carry, factors, dz, dcarry):
    (_, c), (gates, tanh_c) = carry, factors
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    di, df, dg, do = jnp.split(dz, 4, axis=-1)
    dc = f * dcarry[1] + g * i * (1 - i) * di + c * f * (1 - f) * df + i * (1 - g * g) * dg
    return tanh_c * o * (1 - o) * do + o * (1 - tanh_c * tanh_c) * dc, dc


def _lstm_cotangent(carry, factors, ct_h, ct_rest, keep):
    (_, c), (gates, tanh_c), (ct_c,) = carry, factors, ct_rest
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    ct_c = keep(ct_c + ct_h * o * (1 - tanh_c * tanh_c))
    ct_i, ct_f = ct_c * g * i * (1 - i), ct_c * c * f * (1 - f)
    ct_g, ct_o = ct_c * i * (1 - g * g), ct_h * tanh_c * o * (1 - o)
    ct_z = keep(jnp.concatenate([keep(ct) for ct in (ct_i, ct_f, ct_g, ct_o)], axis=-1))
    return (f * ct_c,), ct_z, ct_z


_LSTM_PARTS = _lstm_act, _lstm_derived, _lstm_tangent, _lstm_cotangent
LSTM_CELL = Cell(_stacked, _together(4), operator.add, *_LSTM_PARTS, passes_h=False)


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


def _gru_derived(pre, carry, keep):
    (h,), (r, z, n, n_h) = carry, pre
    r, z = keep(sigmoid(r)), keep(sigmoid(z))
    n = keep(tanh(n + r * n_h))
    return ((1 - z) * n + z * h,), (r, z, n, n_h)


def _gru_tangent(carry, factors, dz, dcarry):
    (h,), (r, z, n, n_h) = carry, factors
    dr_z, dz_z, dn_z, dn_h = jnp.split(dz, 4, axis=-1)
    dn = (1 - z) * (1 - n * n) * (dn_z + r * dn_h + n_h * r * (1 - r) * dr_z)
    return (dn + (h - n) * z * (1 - z) * dz_z + z * dcarry[0],)


def _gru_cotangent(carry, factors, ct_h, ct_rest, keep):
    (h,), (r, z, n, n_h), (passed,) = carry, factors, ct_rest
    ct_h = keep(ct_h + passed)
    ct_n = keep(ct_h * (1 - z) * (1 - n * n))
    ct_r, ct_z = keep(ct_n * n_h * r * (1 - r)), keep(ct_h * (h - n) * z * (1 - z))
    ct_n_h = keep(ct_n * r)
    ct_dz = keep(jnp.concatenate([ct_r, ct_z, ct_n, ct_n_h], axis=-1))
    return (z * ct_h,), ct_dz, keep(jnp.concatenate([ct_r, ct_z, ct_n_h], axis=-1))


_GRU_PARTS = _gru_act, _gru_derived, _gru_tangent, _gru_cotangent
GRU_CELL = Cell(_gru_weights, _gru_pre, _gru_combine, *_GRU_PARTS, passes_h=True)
