"""A recurrent cell at every step of a sequence, its gradients formed after the loop.

Derived step by step, a loop adds to the weights' gradients at every step, each time reading
and writing arrays as large as the weights. But the tangents of a loop need the weights'
tangents only through those of its pre-activations,

    dz_t = dx_t w_i + x_t dw_i + h_(t-1) dw_h + db  +  dh_(t-1) w_h

of which all but the last term is known before the loop, for all steps in a few products. What
is left inside is linear and thin. Its transpose, the backward loop, hands out the gradients of
all dz_t; those of weights and inputs are the transposes of the same few products.

Where no gradient is asked for, the loop has its nodes in groups, so that cores share them.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from jaxnodes.cores import cores
from jaxnodes.layers.arrays import Params
from jaxnodes.layers.cell_parts import Carry, Cell, groups_of_nodes
from jaxnodes.primitive import node, node_p

_WAITING = 9  # operations; from one more on XLA calls another core
_WIDTH = 32  # nodes of a group, or a multiple of it: what its products are fast at
_SMALL_PRODUCT = 190_000  # operations of a product that is worth another core's while
_LARGE_STEP = 64e6  # operations that XLA splits by itself
_LARGE_WEIGHTS = 2**21  # numbers, more than the caches hold


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
    count = _groups(cell, params, math.prod(x.shape[1:-1]))
    pre = cell.pre if count == 1 else cell.apart
    pres = [pre(group) for group in groups_of_nodes(params, count)]

    def split(value):
        return tuple(jnp.split(value, count, axis=-1))

    def body(carry, slices):
        (h, *memory), (x, valid) = carry, slices
        z = [pre(x, h) for pre in pres]
        groups = map(cell.act, z, zip(split(h), *memory, strict=True))
        h, *memory = zip(*groups, strict=True)
        return _ended((jnp.concatenate(h, axis=-1), *memory), carry, valid, node)

    h, *memory = carry
    start = (h, *map(split, memory))
    (h, *memory), outputs = jax.lax.scan(body, start, (x, mask), reverse=reverse)
    return outputs, (h, *(jnp.concatenate(groups, axis=-1) for groups in memory))


def _groups(cell: Cell, params: Params, rows: int) -> int:
    """Into how many groups of nodes a step is split, each with products of its own.

    On CPU XLA gives a product of a step's size one core, however many there are. It hands
    thunks, its operations, to another core when more than eight of them wait; many small
    products are, then, what two cores share. `benchmarks.parts` has what that gains, and for
    which sizes: of 32 nodes and multiples of it, neither too small nor too large.
    """
    features, width = params["w_h"].shape
    inputs = params["w_i"].shape[0] + features
    if cell.apart is None or jax.default_backend() != "cpu" or cores() == 1:
        return 1
    if inputs * width >= _LARGE_WEIGHTS or 2 * rows * inputs * width > _LARGE_STEP:
        return 1
    for count in range(1, features // _WIDTH + 1):
        products = count * width // features
        if products > _WAITING and features % (count * _WIDTH) == 0:
            return count if 2 * rows * inputs * width >= products * _SMALL_PRODUCT else 1
    return 1


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
    after = jax.tree.map(functools.partial(jnp.where, valid), (h, *memory), before)
    return after, jnp.where(valid, h, 0)


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
