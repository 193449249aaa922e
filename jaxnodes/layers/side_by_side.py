"""A loop over time on CPU as two loops over half of the rows each, on a core of its own.

XLA:CPU runs a loop's steps on one core, unless a step is so large that its products are worth
splitting. Two loops of half the rows would take half the time, but by themselves one waits for
the other, for reasons that are all in how XLA runs a program. It is a graph of operations
("thunks"), in which whatever shares memory waits for each other; the ones that wait for nothing
are in a queue, and when more than eight are left in it, its back half is handed to another
thread (`ThunkExecutor` in XLA's source, xla/backends/cpu/runtime). So here:

- *No memory is shared.* XLA would give the second loop the memory of the first one's
  intermediate values. What is carried from step to step is never shared; thus each intermediate
  value (`keep`) is carried, though no step reads that of the step before.
- *All begin at one moment.* Gates, loops that run no step, which XLA can't know, hold back all
  that the two loops need until everything is there.
- *Each loop is in its half of the queue.* Behind its own gate each loop has as many small
  operations as the other one, which fill its scratch memory and which it waits for. The queue
  is split between them.

Should any of this cease to hold in another version of XLA, the loops run one after the other,
and are as right as before.
"""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

_FILLS = 6  # operations behind each gate: of one they aren't split, of two they are
_COUNT = jnp.uint32  # unsigned, so that no index is checked for being negative

Keep = Callable[[jax.Array], jax.Array]
Step = Callable[[Any, Any, Any, Keep], tuple[Any, Any]]


def side_by_side(
    step: Step,
    constants: Any,
    carry: Any,
    xs: Any,
    apart: tuple[Any, Any] = (None, None),
    *,
    reverse: bool = False,
) -> tuple[Any, Any, tuple[Any, Any]]:
    """`jax.lax.scan` of a step that does to each row the same, in two loops.

    Args:
      step: `(constants, carry, (x, a), keep) -> (carry, (y, b))`. What it does has to pass each
        intermediate value that XLA will hold in memory through `keep`, which returns it.
      constants: a pytree of arrays, the same for all rows.
      carry: a pytree of arrays (rows, ...), of 2 rows or more.
      xs: a pytree of arrays (steps, rows, ...), of 1 step or more.
      apart: more of them, as `halves` has them.
      reverse: whether to begin at the last step; outputs stay where their inputs are.

    Returns:
      `(carry, ys, bs)`: as of `jax.lax.scan`, but for the bs, which stay apart.
    """
    inputs = zip(halves(carry, 0), zip(halves(xs, 1), apart, strict=True), strict=True)
    inputs = tuple(inputs)
    plans = [_plan(step, constants, *half) for half in inputs]
    # Different numbers, for XLA makes one array of two that are alike, and then a copy of it.
    numbers = itertools.count()
    room = [[_filled(y, next(numbers)) for y in jax.tree.leaves(ys)] for ys, _ in plans]
    never = lax.optimization_barrier(jnp.bool_(False))
    tokens = (jnp.float32(0),) * 3
    begun, (tokens, constants, inputs, room) = _gate(never, 1, (tokens, constants, inputs, room))
    gates = [_gate(never, k, token) for k, token in enumerate(tokens, start=2)]
    # One more operation behind each other's, for the queue is split when one is taken from it.
    gates.append(_gate(never, 5, gates[2][1]))
    loops = [
        _loop(step, reverse, never, constants, half, plan, space, token)
        for half, plan, space, (_, token) in zip(inputs, plans, room, gates[:2], strict=True)
    ]
    results, rest = zip(*loops, strict=True)
    # XLA uses memory again once nobody asks for what is in it. Here all of it is asked for after
    # both loops, by a question whose answer is always no: a loop is over when it need not go on.
    goes_on, *_ = rest[0]
    asked = goes_on & (sum(map(_first, jax.tree.leaves([begun, gates, rest]))) > 0)

    _, ((carry_a, (ys_a, bs_a)), (carry_b, (ys_b, bs_b))) = _gate(asked, 6, results)

    def joined(axis, a, b):
        return jax.tree.map(lambda *parts: jnp.concatenate(parts, axis=axis), a, b)

    return joined(0, carry_a, carry_b), joined(1, ys_a, ys_b), (bs_a, bs_b)


def halves(tree: Any, axis: int) -> tuple[Any, Any]:
    """Arrays in two along an axis, the first part the smaller one if they differ."""

    def half(k):
        def of(x):
            cut = x.shape[axis] // 2
            bounds = (0, cut) if k == 0 else (cut, x.shape[axis])
            return lax.slice_in_dim(x, *bounds, axis=axis)

        return jax.tree.map(of, tree)

    return half(0), half(1)


def _loop(step, reverse, never, constants, half, plan, room, token):
    """One of the two loops: `((carry, ys), what else is left of it)`."""
    (carry, xs), (ys, scratch) = half, plan
    steps = jax.tree.leaves(xs)[0].shape[0]
    first, last, onward = (steps - 1, 0, 2**32 - 1) if reverse else (0, steps - 1, 1)
    index, spare = (token.astype(_COUNT) + _COUNT(k) for k in (first, steps))
    numbers = itertools.count(1)
    filled = [_filled(s, token + jnp.float32(next(numbers))) for s in scratch]
    pads = [_gate(never, 7 + k, token) for k in range(_FILLS - 2 - len(filled))]

    def body(loop):
        _, i, _, carry, old, room = loop
        old = iter(old)
        kept = []

        def keep(value):
            kept.append(lax.optimization_barrier((value, next(old)))[0])
            return kept[-1]

        x = jax.tree.map(lambda x: keep(lax.dynamic_slice(x, *_place(x, i))[0]), xs)
        carry, y = step(constants, carry, x, keep)
        room = [
            lax.dynamic_update_slice(stack, y[None], _place(stack, i)[0])
            for stack, y in zip(room, jax.tree.leaves(y), strict=True)
        ]
        # `i` goes on twice: what reads it and what replaces it would need a copy of it.
        return i != last, i + _COUNT(onward), i, carry, kept, room

    loop = (jnp.bool_(True), index, spare, carry, filled, room)
    go_on, index, spare, carry, kept, room = lax.while_loop(lambda loop: loop[0], body, loop)
    ys = jax.tree.unflatten(jax.tree.structure(ys), room)
    return (carry, ys), (go_on, index, spare, kept, pads)


def _plan(step, constants, carry, xs):
    """The shapes of the stacked outputs, and of what is kept at a step."""
    kept = []

    def keep(value):
        kept.append(jax.ShapeDtypeStruct(value.shape, value.dtype))
        return value

    def one(constants, carry, xs):
        x = jax.tree.map(lambda x: keep(x[0]), xs)
        return step(constants, carry, x, keep)[1]

    steps = jax.tree.leaves(xs)[0].shape[0]
    y = jax.eval_shape(one, constants, carry, xs)
    return jax.tree.map(lambda y: jax.ShapeDtypeStruct((steps, *y.shape), y.dtype), y), kept


def _gate(never, number, values):
    """`(never, values)`, once all of them are there; the number tells gates apart."""

    def body(loop):
        changed = jax.tree.map(lambda x: x + jnp.full((), number, x.dtype), loop[1])
        return jnp.bool_(False), changed

    return lax.while_loop(lambda loop: loop[0], body, (never, values))


def _place(x, i):
    """Where step `i` begins, and its size."""
    return (i, *[_COUNT(0)] * (x.ndim - 1)), (1, *x.shape[1:])


def _filled(shape, value):
    return jnp.full(shape.shape, jnp.asarray(value).astype(shape.dtype), shape.dtype)


def _first(x):
    return x[(0,) * x.ndim].astype(jnp.float32)
