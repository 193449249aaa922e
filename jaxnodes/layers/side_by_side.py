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
- *All begin at one moment.* A gate, which is a loop that runs no step, though XLA can't know
  that, holds back what both loops need until all of it is there.
- *Each loop is on a thread of its own.* A tree of small gates is behind the first one. Its first
  branch is idle and stays on the thread that began the program; the queue's back half, which is
  the other branch, goes to a worker, which gives its own back half, the second loop, to the next
  worker. Neither loop is left to the first thread, for an operating system that finds no core
  idle in time wakes a worker on the core of the thread that calls it, and leaves both there for
  milliseconds. Workers that have nothing but a loop to do stay on the cores they had last.

Should any of this cease to hold in another version of XLA, the loops run one after the other,
and are as right as before.
"""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

# Gates behind a gate. Each copies its flag and its token, which is six operations of one gate,
# which are not split, and twelve of two, of which the second gate's six go to another thread.
_BRANCHES = 3
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
    carries = halves(carry, 0)
    slices = halves(xs, 1)
    inputs = zip(carries, zip(slices, apart, strict=True), strict=True)
    plans = [_plan(step, constants, *half) for half in inputs]
    # Different numbers, for XLA makes one array of two that are alike, and then a copy of it.
    numbers = itertools.count()
    space = jax.tree.map(lambda shape: _filled(shape, next(numbers)), plans)

    # The token, a number, is there when they are; they themselves might take a copy in a gate.
    constants, apart = lax.optimization_barrier((constants, apart))
    token = sum(map(_first, jax.tree.leaves((constants, apart))), jnp.float32(0))
    gates = _Gates()
    never = lax.optimization_barrier(jnp.bool_(False))
    flag, (token, halved, space) = gates.gate(never, (token, (carries, slices), space))
    stays, goes = gates.behind((flag, token), 2)
    gates.behind(stays, _BRANCHES)
    first, second, _ = gates.behind(goes, _BRANCHES)
    begins = [gates.behind(first, _BRANCHES), gates.behind(second, _BRANCHES)]

    loops = [
        _half_loop(step, reverse, constants, carry, (x, a), *half)
        for carry, x, a, *half in zip(*halved, apart, space, begins, strict=True)
    ]
    results, rest = zip(*loops, strict=True)
    # XLA uses memory again once nobody asks for what is in it. Here all of it is asked for after
    # both loops, by a question whose answer is always no: a loop is over when it need not go on.
    goes_on, *_ = rest[0]
    left = jax.tree.leaves((flag, token, gates.passed, rest))
    asked = goes_on & (sum(map(_first, left)) > 0)
    _, ((carry_a, (ys_a, bs_a)), (carry_b, (ys_b, bs_b))) = gates.gate(asked, results)

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


def _half_loop(step, reverse, constants, carry, xs, space, begins):
    """One of the two loops: `((carry, ys), what else is left of it)`."""
    ys, scratch = space
    steps = jax.tree.leaves(xs)[0].shape[0]
    first, last, onward = (steps - 1, 0, 2**32 - 1) if reverse else (0, steps - 1, 1)
    never = functools.reduce(jnp.logical_or, [flag for flag, _ in begins])
    index, spare = (never.astype(_COUNT) + _COUNT(k) for k in (first, steps))

    def body(loop):
        _, i, _, carry, old, stacks = loop
        old = iter(old)
        kept = []

        def keep(value):
            kept.append(lax.optimization_barrier((value, next(old)))[0])
            return kept[-1]

        x = jax.tree.map(lambda x: keep(lax.dynamic_slice(x, *_place(x, i))[0]), xs)
        carry, y = step(constants, carry, x, keep)
        stacks = [
            lax.dynamic_update_slice(stack, y[None], _place(stack, i)[0])
            for stack, y in zip(stacks, jax.tree.leaves(y), strict=True)
        ]
        # `i` goes on twice: what reads it and what replaces it would need a copy of it.
        return i != last, i + _COUNT(onward), i, carry, kept, stacks

    loop = (~never, index, spare, carry, scratch, jax.tree.leaves(ys))
    go_on, index, spare, carry, kept, stacks = lax.while_loop(lambda loop: loop[0], body, loop)
    ys = jax.tree.unflatten(jax.tree.structure(ys), stacks)
    return (carry, ys), (go_on, index, spare, kept)


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


class _Gates:
    """Gates, no two of them alike, for XLA makes one of two that are.

    Attributes:
      passed: what those have let through that are behind others: a flag and a token each.
    """

    def __init__(self):
        self.passed = []
        self._numbers = itertools.count(1)

    def gate(self, never: jax.Array, values: Any) -> tuple[jax.Array, Any]:
        """The flag, which is down, and the values, once `never` and all of them are there."""
        number = next(self._numbers)

        def body(loop):
            changed = jax.tree.map(lambda x: x + jnp.full((), number, x.dtype), loop[1])
            return jnp.bool_(False), changed

        return lax.while_loop(lambda loop: loop[0], body, (never, values))

    def behind(self, passed: tuple[jax.Array, jax.Array], count: int) -> list[tuple]:
        """`(flag, token)` of each of `count` gates that wait for one, of which `passed` came."""
        gates = [self.gate(*passed) for _ in range(count)]
        self.passed += gates
        return gates


def _place(x, i):
    """Where step `i` begins, and its size."""
    return (i, *[_COUNT(0)] * (x.ndim - 1)), (1, *x.shape[1:])


def _filled(shape, value):
    return jnp.full(shape.shape, jnp.asarray(value).astype(shape.dtype), shape.dtype)


def _first(x):
    return x[(0,) * x.ndim].astype(jnp.float32)
