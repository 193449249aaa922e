"""How many cores there are to share the work, and programs that run on each."""

import os
from collections.abc import Iterator, Sequence
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


def run_side_by_side(calls: Sequence[tuple[Any, tuple]]) -> Iterator[Any]:
    """What each call returns, in order, as many calls at a time as there are workers.

    They begin when the first result is asked for.

    Args:
      calls: compiled functions (`jax.jit`), each with its arguments, pytrees of arrays; calls of
        one function are alike in shapes and dtypes.
    """
    count = min(workers([arguments for _, arguments in calls]), len(calls))
    if count <= 1:
        for function, arguments in calls:
            yield function(*arguments)
        return
    # Threads have no settings of the caller's, such as x64: nothing is left to trace there.
    programs = {f: f.lower(*arguments).compile() for f, arguments in dict(calls).items()}

    def run(call):
        function, arguments = call
        return jax.block_until_ready(programs[function](*arguments))

    with ThreadPoolExecutor(count) as pool:
        yield from pool.map(run, calls)
