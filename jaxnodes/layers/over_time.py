"""A recurrent cell at every step of a sequence, its gradients formed after the loop.

Derived step by step, a loop adds to the weights' gradients at every step, each time reading
and writing arrays as large as the weights. But the tangents of a loop need the weights'
tangents only through those of its pre-activations,

    dz_t = dx_t w_i + x_t dw_i + h_(t-1) dw_h + db  +  dh_(t-1) w_h

of which all but the last term is known before the loop, for all steps in a few products. What
is left inside is linear and thin. Its transpose, the backward loop, hands out the gradients of
all dz_t; those of weights and inputs are the transposes of the same few products.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from jaxnodes.layers.arrays import Params
from jaxnodes.layers.cells import Carry, Cell
from jaxnodes.primitive import node, node_p


# Compiled, so that outside of jit a second call compiles nothing; inlined, so that inside
# of it there is one program.
@functools.partial(jax.jit, static_argnames=("cell", "reverse"), inline=True)
def over_time(
    cell: Cell, params: Params, carry: Carry, x: jax.Array, mask: jax.Array | None, reverse: bool
) -> tuple[jax.Array, Carry]:
    """Scans `cell` over the time axis: the hidden states (..., T, H) and the last carry.

    Args:
      cell: what to do at a step.
      params: `{"w_i", "w_h", "b"}`.
      carry: before the first step, of arrays (..., H).
      x: (..., T, D).
      mask: (..., T), boolean, or `None`.
      reverse: whether to begin at the last step.
    """
    if mask is not None:
        mask = mask[..., None]
        x = jnp.where(mask, x, 0)  # else a NaN in the padding would reach the gradient
        mask = jnp.moveaxis(mask, -2, 0)
    outputs, carry = _scanned(cell, reverse, params, carry, jnp.moveaxis(x, -2, 0), mask)
    return jnp.moveaxis(outputs, 0, -2), carry


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _scanned(cell, reverse, params, carry, x, mask):
    """`over_time` with the time axis first."""
    pre = cell.pre(params)

    def body(carry, slices):
        x, valid = slices
        return _ended(cell.act(pre(x, carry[0]), carry), carry, valid, node)

    carry, outputs = jax.lax.scan(body, carry, (x, mask), reverse=reverse)
    return outputs, carry


@functools.partial(_scanned.defjvp, symbolic_zeros=True)
def _derived(cell, reverse, primals, tangents):
    params, carry, x, mask = primals
    dparams, dcarry, dx, _ = tangents
    pre = cell.pre(params)

    def body(carry, slices):
        x, valid = slices
        after, factors = cell.slopes(pre(x, carry[0]), carry)
        after, h = _ended(after, carry, valid, _derived_node)
        return after, (h, carry[0], factors)

    def tangent(dcarry, slices):
        dz, factors, valid = slices
        by_h = dcarry[0] @ params["w_h"]
        dz = dz + cell.combine(jnp.zeros_like(by_h), by_h)
        return _ended(cell.tangent(factors, dz, dcarry), dcarry, valid)

    last, (outputs, before, factors) = jax.lax.scan(body, carry, (x, mask), reverse=reverse)
    known = cell.combine(
        _product(x, dparams["w_i"]) + _product(dx, params["w_i"]), _product(before, dparams["w_h"])
    )
    known = known + _filled(dparams["b"], params["b"])
    dcarry = tuple(map(_filled, dcarry, carry))
    dlast, doutputs = jax.lax.scan(tangent, dcarry, (known, factors, mask), reverse=reverse)
    return (outputs, last), (doutputs, dlast)


def _ended(after, before, valid, named=lambda h: h):
    """What is carried on, and the hidden state as an output; both as they were at a masked step."""
    h, *memory = after
    if valid is None:
        h = named(h)
        return (h, *memory), h
    h = named(jnp.where(valid, h, 0))  # so that padding is no part of a node's statistics
    after = [jnp.where(valid, new, old) for new, old in zip((h, *memory), before, strict=True)]
    return tuple(after), jnp.where(valid, h, 0)


def _derived_node(h):
    """A node that `intervene` refuses to patch, for the tangents would not follow."""
    return node_p.bind(h, name=None, axis=h.ndim - 1, differentiated=True)


def _product(a: Any, w: Any) -> jax.Array:
    """(T, ..., D) by (D, W), where either may be a known zero."""
    if _is_zero(a) or _is_zero(w):
        return jnp.zeros((*a.shape[:-1], w.shape[-1]), w.dtype)
    if jax.default_backend() != "cpu":
        return a @ w
    # In one product of matrices: XLA copies the factors of the transpose of any other.
    rows = a.reshape(math.prod(a.shape[:-1]), a.shape[-1])
    return (rows @ w).reshape(*a.shape[:-1], w.shape[-1])


def _filled(tangent: Any, like: jax.Array) -> jax.Array:
    # Made of the primal value: inside shard_map it is to vary over the mesh as that does.
    return jnp.zeros_like(like) if _is_zero(tangent) else tangent


def _is_zero(tangent: Any) -> bool:
    return isinstance(tangent, SymbolicZero)
