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
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from jaxnodes.cores import workers
from jaxnodes.layers.arrays import Params
from jaxnodes.layers.cell_parts import Carry, Cell
from jaxnodes.layers.side_by_side import halves, side_by_side
from jaxnodes.primitive import node, node_p
from jaxnodes.two_forms import two_forms, two_linear_forms
from jaxnodes.varying import vary_alike, varying

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
    params, carry, x, mask = vary_alike((params, carry, x, mask))
    if mask is not None:
        mask = mask[..., None]
        x = jnp.where(mask, x, 0)  # else a NaN in the padding would reach the gradient
        mask = jnp.moveaxis(mask, -2, 0)
    outputs, carry = _scanned(cell, reverse, params, carry, jnp.moveaxis(x, -2, 0), mask)
    return jnp.moveaxis(outputs, 0, -2), carry


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _scanned(cell, reverse, params, carry, x, mask):
    """`over_time` with the time axis first."""

    def step(weights, carry, slices, keep):
        (x, valid), _ = slices
        carry = _if_masked(keep, carry, valid)
        after = cell.act(cell.pre(weights, x, carry[0], keep), carry)
        after = _if_masked(keep, after, valid)
        after, h = _ended(after, carry, valid, node)
        return after, (h, None)

    weights = cell.weights(params)
    loop = _loop(step, reverse, _parts(weights, x))
    last, outputs, _ = loop.run(weights, carry, (x, mask))
    return outputs, last


@functools.partial(_scanned.defjvp, symbolic_zeros=True)
def _derived(cell, reverse, primals, tangents):
    params, carry, x, mask = primals
    dparams, dcarry, dx, _ = tangents
    weights = cell.weights(params)
    parts = _parts(weights, x)

    def step(weights, carry, slices, keep):
        (x, valid), _ = slices
        carry = _if_masked(keep, carry, valid)
        after, factors = cell.derived(cell.pre(weights, x, carry[0], keep), carry, keep)
        after = _if_masked(keep, after, valid)
        after, h = _ended(after, carry, valid, _derived_node)
        # What is carried is replaced by what comes after it: to write both at once takes a copy,
        # for which two loops would share memory.
        return after, (h, (carry, factors)) if parts == 1 else (None, (after, factors))

    last, outputs, steps = _loop(step, reverse, parts).run(weights, carry, (x, mask))
    if parts > 1:
        outputs = jnp.concatenate([states[0] for states, _ in steps], axis=1)
        outputs = outputs if mask is None else jnp.where(mask, outputs, 0)
        starts = _in_parts(parts, 0, carry)
        steps = [
            (tuple(_before(*pair, reverse) for pair in zip(states, start, strict=True)), factors)
            for (states, factors), start in zip(steps, starts, strict=True)
        ]
    xs, dxs = _in_parts(parts, 1, x), _in_parts(parts, 1, dx)
    known = [
        cell.combine(
            _product(x, dparams["w_i"], x) + _product(dx, params["w_i"], x),
            _product(before[0], dparams["w_h"], x),
        )
        + _filled(dparams["b"], params["b"])
        for x, dx, (before, _) in zip(xs, dxs, steps, strict=True)
    ]
    dcarry = tuple(map(_filled, dcarry, carry))
    constants = params["w_h"], mask, steps
    dlast, doutputs = _tangent_loop(cell, reverse, parts)(constants, (dcarry, known))
    return (outputs, last), (doutputs, dlast)


def _tangent_loop(cell: Cell, reverse: bool, parts: int) -> Callable:
    """`(constants, (dcarry, dz)) -> (dcarry, doutputs)`, linear in the latter."""

    def tangent(w_h, dcarry, slices, keep):
        valid, ((carry, factors), dz) = slices
        by_h = keep(dcarry[0] @ w_h)
        dz = dz + cell.combine(jnp.zeros_like(by_h), by_h)
        after, dh = _ended(cell.tangent(carry, factors, dz, dcarry), dcarry, valid)
        return after, (dh, None)

    def cotangent(w_h, ct_carry, slices, keep):
        (ct_y, valid), (carry, factors) = slices
        ct_by_h, *ct_rest = _if_masked(keep, ct_carry, valid)
        if valid is None:
            args = ct_y + ct_by_h, ct_rest
        else:
            ct_after = (ct_by_h + ct_rest[0], *ct_rest[1:])
            ct_h, *ct_memory = (jnp.where(valid, ct, 0) for ct in ct_after)
            args = jnp.where(valid, ct_y, 0) + ct_h, [*_passed(cell, ct_h), *ct_memory]
        ct_rest, ct_dz, ct_z = cell.cotangent(carry, factors, *args, keep)
        if valid is not None:
            ct_rest = ct_rest if cell.passes_h else (jnp.zeros_like(ct_by_h), *ct_rest)
            ct_rest = [
                ct + jnp.where(valid, 0, past) for ct, past in zip(ct_rest, ct_after, strict=True)
            ]
        return (ct_z @ w_h.T, *ct_rest), (None, ct_dz)

    def formed(form):
        def run(constants, operands):
            (w_h, mask, steps), (dcarry, dz) = constants, operands
            dlast, doutputs, _ = form(w_h, dcarry, mask, list(zip(steps, dz, strict=True)))
            return dlast, doutputs

        return run

    def transpose(constants, cotangents):
        (w_h, mask, steps), (ct_last, ct_outputs) = constants, cotangents
        passed = _passed(cell, ct_last[0], always=mask is not None)
        ct_carry = (ct_last[0], *passed, *ct_last[1:])
        run = _loop(cotangent, not reverse, parts).run
        (ct_h, *ct_rest), _, ct_dz = run(w_h, ct_carry, (ct_outputs, mask), steps)
        if passed:
            ct_h = ct_h + ct_rest.pop(0)
        return (ct_h, *ct_rest), ct_dz

    loop = _loop(tangent, reverse, parts)
    forms = (loop.plain, loop.on_cpu if parts > 1 else loop.plain)
    return functools.partial(two_linear_forms, *map(formed, forms), transpose)


def _passed(cell: Cell, like: jax.Array, always: bool = False) -> list[jax.Array]:
    """A cotangent of what has not yet come, where h reaches the next h but through `h w_h`."""
    return [jnp.zeros_like(like)] if cell.passes_h or always else []


def _if_masked(keep, values, valid):
    """What a mask chooses from is kept, for it is used twice."""
    return values if valid is None else tuple(map(keep, values))


class _Loop(NamedTuple):
    """A loop over time in its forms: `(constants, carry, xs, apart) -> (carry, ys, bs)`.

    What is apart (and the bs, of what the step returns) is a list of as many parts as the loop
    has; everything else is whole.
    """

    plain: Callable
    on_cpu: Callable
    run: Callable


def _loop(step: Callable, reverse: bool, parts: int) -> _Loop:
    def plain(constants, carry, xs, apart=(None,) * parts):
        def body(carry, slices):
            return step(constants, carry, slices, _unchanged)

        joined = jax.tree.map(lambda *a: jnp.concatenate(a, axis=1), *apart)
        last, (ys, bs) = jax.lax.scan(body, carry, (xs, joined), reverse=reverse)
        return last, ys, _in_parts(parts, 1, bs)

    def on_cpu(constants, carry, xs, apart=(None,) * parts):
        last, ys, bs = side_by_side(step, constants, carry, xs, tuple(apart), reverse=reverse)
        return last, ys, list(bs)

    run = plain if parts == 1 else functools.partial(two_forms, plain, on_cpu)
    return _Loop(plain, on_cpu, run)


def _in_parts(parts: int, axis: int, tree: Any) -> list:
    return [tree] * parts if parts == 1 or _is_zero(tree) else list(halves(tree, axis))


def _before(states: jax.Array, start: jax.Array, reverse: bool) -> jax.Array:
    """Of each step, the state before it."""
    if reverse:
        return jnp.concatenate([states[1:], start[None]])
    return jnp.concatenate([start[None], states[:-1]])


def _parts(weights: Any, x: jax.Array) -> int:
    """How many loops are fastest: one, or two of half the rows.

    Two are, where a core has rows enough, its cache holds the weights, and XLA does not split
    a step by itself. `benchmarks.parts` has how much that gains.
    """
    steps, *leading, _ = x.shape
    rows, numbers = math.prod(leading), sum(w.size for w in jax.tree.leaves(weights))
    operations = 2 * rows * numbers
    alone = workers() < 2 * jax.local_device_count() or varying(x)
    fits = leading and leading[0] > 1 and rows >= _FEW_ROWS
    fits = fits and numbers <= _LARGE_WEIGHTS and operations <= _LARGE_STEP
    return 2 if not alone and fits and steps * operations >= _SHORT_LOOP else 1


def _unchanged(value):
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


def _product(a: Any, w: Any, like: jax.Array) -> jax.Array:
    """(T, ..., D) by (D, W), where either may be a known zero; as many rows as `like` has."""
    if _is_zero(a) or _is_zero(w):
        return jnp.zeros((*like.shape[:-1], w.shape[-1]), w.dtype)
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
