"""How many cores there are to share the work, and programs that run on each."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax


def cores() -> int:
    """The cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def workers() -> int:
    """How many programs the default device runs side by side: on CPU one on each core."""
    return cores() if jax.default_backend() == "cpu" else 1


def run_side_by_side(program: Callable, calls: Sequence[tuple]) -> list[Any]:
    """`program(*call)` of each call, as many at a time as there are workers.

    Threads have no settings of the caller's, such as x64: the program is a compiled one
    (`jax.jit(f).lower(...).compile()`), and calls have arrays, so that there is nothing to
    trace or to compile.
    """

    def run(call):
        return jax.block_until_ready(program(*call))

    with ThreadPoolExecutor(min(len(calls), workers())) as pool:
        return list(pool.map(run, calls))
