"""How many cores there are to share the work, and programs that run on each."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax


def cores() -> int:
    """The cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def workers(arrays: Any = ()) -> int:
    """How many programs the default device runs side by side: on CPU one on each core.

    Programs of arrays (a pytree) that are spread over devices share the work as they are.
    """
    leaves = jax.tree.leaves(arrays)
    spread = any(isinstance(leaf, jax.Array) and len(leaf.devices()) > 1 for leaf in leaves)
    return cores() if jax.default_backend() == "cpu" and not spread else 1


def run_side_by_side(function: Any, calls: Sequence[tuple]) -> list[Any]:
    """`function(*call)` of each call, as many at a time as there are workers.

    Args:
      function: a compiled one (`jax.jit`).
      calls: its arguments, pytrees of arrays alike in shapes and dtypes.
    """
    count = min(workers(calls), len(calls))
    if count <= 1:
        return [function(*call) for call in calls]
    # Threads have no settings of the caller's, such as x64: nothing is left to trace there.
    program = function.lower(*calls[0]).compile()

    def run(call):
        return jax.block_until_ready(program(*call))

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, calls))
