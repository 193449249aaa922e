"""A recurrent cell at every step of a sequence, its gradients formed after the loop.

Derived step by step, a loop adds to the weights' gradients at every step, each time reading
and writing arrays as large as the weights. But the tangents of a loop need the weights'
tangents only through those of its pre-activations,

    dz_t = dx_t w_i + x_t dw_i + h_(t-1) dw_h + db  +  dh_(t-1) w_h

of which all but the last term is known before the loop, for all steps in a few products. What
is left inside is linear and thin. Its transpose, the backward loop, hands out the gradients of
all dz_t; those of weights and inputs are the transposes of the same few products.

On CPU a loop is two loops of half the rows (`side_by_side`), where that pays.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from jaxnodes.cores import workers
from jaxnodes.layers.arrays import Params
from jaxnodes.layers.cell_parts import Carry, Cell
from jaxnodes.layers.side_by_side import side_by_side
from jaxnodes.layers.two_forms import two_forms
from jaxnodes.primitive import node, node_p

_FEW_ROWS = 8
_LARGE_WEIGHTS = 2**20  # numbers
_LARGE_STEP = 64e6  # operations
_SHORT_LOOP = 25e6  # operations, of all its steps


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
    weights = cell.weights(params)

    def step(weights, carry, slices, keep):
        x, valid = slices
        after = cell.act(cell.pre(weights, x, carry[0], keep), carry)
        return _ended(after, carry, valid, node)

    def plain(weights, carry, xs):
        def body(carry, slices):
            return step(weights, carry, slices, _dropped)

        return jax.lax.scan(body, carry, xs, reverse=reverse)

    def in_halves(weights, carry, xs):
        rows = math.prod(carry[0].shape[:-1])
        shapes = jax.eval_shape(plain, weights, carry, xs)
        carry = jax.tree.map(lambda h: h.reshape(rows, -1), carry)
        xs = jax.tree.map(lambda x: x.reshape(len(x), rows, -1), xs)
        flat = side_by_side(step, weights, carry, xs, reverse=reverse)
        return jax.tree.map(lambda y, whole: y.reshape(whole.shape), flat, shapes)

    form = plain if not _pays(weights, x) else functools.partial(two_forms, plain, in_halves)
    last, outputs = form(weights, carry, (x, mask))
    return outputs, last


def _pays(weights: Any, x: jax.Array) -> bool:
    """Whether two loops over half of the rows are faster than one.

    They are where each core has rows enough, where the weights fit into its own cache, and
    where XLA does not split a step by itself; `benchmarks.parts` has how much.
    """
    steps, *leading, _ = x.shape
    rows, numbers = math.prod(leading), sum(w.size for w in jax.tree.leaves(weights))
    operations = 2 * rows * numbers
    alone = workers() < 2 * jax.local_device_count() or getattr(jax.typeof(x), "vma", None)
    fits = rows >= _FEW_ROWS and numbers <= _LARGE_WEIGHTS and operations <= _LARGE_STEP
    return not alone and fits and steps * operations >= _SHORT_LOOP


@functools.partial(_scanned.defjvp, symbolic_zeros=True)
def _derived(cell, reverse, primals, tangents):
    params, carry, x, mask = primals
    dparams, dcarry, dx, _ = tangents
    weights = cell.weights(params)

    def body(carry, slices):
        x, valid = slices
        after, factors = cell.slopes(cell.pre(weights, x, carry[0], _dropped), carry)
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


def _dropped(value):
    """`keep`, where nothing need be kept."""
    return value


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
