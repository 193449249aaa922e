"""Many networks at once, in groups that share the cores of a CPU.

`jax.vmap` makes one program of many networks. On CPU its products, many small ones, run on one
core each time, and what a step reads and writes is as large as all networks together, larger
than any cache. Groups of a few networks stay in the caches, and cores work on one each.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from jaxnodes.compiling import compiler_options
from jaxnodes.cores import run_side_by_side, workers
from jaxnodes.errors import JaxNodesError, check, check_count

_LARGEST = 32  # networks of a group on CPU


def vmap_in_groups(
    f: Callable, in_axes: Any = 0, *, group_size: int | None = None
) -> Callable[..., Any]:
    """`jax.vmap(f, in_axes)`, compiled, and on CPU in groups that cores work on side by side.

    For programs that run for long, such as `jn.make_train` returns. All groups are one compiled
    program, each run by a thread. The last group overlaps the one before where the groups
    don't come out even.

    Args:
      f: a pure function of arrays.
      in_axes: as of `jax.vmap`: for each argument, or each array of it, the mapped axis or
        `None`.
      group_size: how many calls make a group. Default: on CPU as many as give every core a
        group, at most 32; elsewhere all. Fewer take less memory.

    Returns:
      A function of the same arguments that returns what `jax.vmap(f, in_axes)` returns, up to
      rounding. Inside of `jit`, `grad` or `vmap`, and for arrays on many devices, it
      is `jax.vmap(f, in_axes)`.

    Raises:
      JaxNodesError: mapped axes that don't fit each other.

    Example:

    >>> import jax, jax.numpy as jnp, jaxnodes as jn
    >>> x, y = jnp.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]), jnp.array([0, 1, 1, 0])
    >>> net = jn.Sequential(jn.Dense(8, "tanh"), jn.Dense(2))
    >>> train = jn.make_train(net, loss=jn.cross_entropy, optimizer=jn.adam, epochs=20)
    >>> train_all = jn.vmap_in_groups(train, in_axes=(0, None, None))
    >>> results = train_all(jax.random.split(jax.random.key(0), 5), (x, y), 0.1)
    >>> results.history["loss"].shape
    (5, 20)
    """
    if group_size is not None:
        check_count(group_size, "group_size", "vmap_in_groups")
    mapped = jax.vmap(f, in_axes)

    @functools.cache
    def whole():
        return jax.jit(mapped, compiler_options=compiler_options(False))

    @functools.cache
    def of_group(size):
        """`(start, arguments) -> f` of as many calls from `start` on."""

        def run(start, arguments):
            leaves, tree = jax.tree.flatten(arguments)
            taken = [
                leaf if axis is None else jax.lax.dynamic_slice_in_dim(leaf, start, size, axis)
                for leaf, axis in zip(leaves, _axes(in_axes, arguments), strict=True)
            ]
            return mapped(*tree.unflatten(taken))

        return jax.jit(run, compiler_options=compiler_options(False))

    def run(*arguments: Any) -> Any:
        """All calls; see `jaxnodes.vmap_in_groups`."""
        leaves = jax.tree.leaves(arguments)
        if any(isinstance(leaf, Tracer) for leaf in leaves):
            return mapped(*arguments)
        if any(isinstance(leaf, jax.Array) and len(leaf.devices()) > 1 for leaf in leaves):
            return whole()(*arguments)
        n = _calls(in_axes, arguments)
        on_cpu = jax.default_backend() == "cpu"
        largest = group_size or (min(math.ceil(n / workers()), _LARGEST) if on_cpu else n)
        count = math.ceil(n / largest)
        if count == 1:
            return whole()(*arguments)
        size = math.ceil(n / count)
        arguments = jax.tree.map(jnp.asarray, arguments)
        starts = [jnp.asarray(min(i * size, n - size)) for i in range(count)]
        calls = [(of_group(size), (start, arguments)) for start in starts]
        return _joined(list(run_side_by_side(calls)), n)

    return run


def _calls(in_axes: Any, arguments: tuple) -> int:
    """How many calls of `f` there are."""
    lengths = set()
    for leaf, axis in zip(jax.tree.leaves(arguments), _axes(in_axes, arguments), strict=True):
        if axis is not None:
            shape = jnp.shape(leaf)
            check(
                -len(shape) <= axis < len(shape),
                f"expected an array with an axis {axis}, got shape {shape}",
                "vmap_in_groups",
            )
            lengths.add(shape[axis])
    check(
        len(lengths) == 1 and 0 not in lengths,
        f"expected one length of all mapped axes, got {sorted(lengths) or 'no mapped axis'}",
        "vmap_in_groups",
    )
    return lengths.pop()


def _axes(in_axes: Any, arguments: tuple) -> list[int | None]:
    """The mapped axis of every array of the arguments."""
    prefix = tuple(in_axes) if isinstance(in_axes, list) else in_axes
    prefix = jax.tree.map(_Axis, prefix, is_leaf=lambda axis: axis is None)
    try:
        axes = jax.tree.broadcast(prefix, arguments)
    except ValueError as error:
        raise JaxNodesError(
            f"expected in_axes for {len(arguments)} arguments, got {in_axes!r}", "vmap_in_groups"
        ) from error
    return [axis.number for axis in jax.tree.leaves(axes)]


@dataclasses.dataclass(frozen=True)
class _Axis:
    """An axis as a leaf, also where it is `None`, which JAX takes for a tree without leaves."""

    number: int | None


@functools.partial(jax.jit, static_argnums=1)
def _joined(results: list, n: int) -> Any:
    """The groups' results one after the other; what the last one repeats is left out."""

    def join(*parts):
        *first, last = parts
        return jnp.concatenate([*first, last[sum(map(len, first)) - n :]])

    return jax.tree.map(join, *results)
