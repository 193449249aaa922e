"""Fair timing: warm-up apart, repeats interleaved, medians and spread."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax


class Timing(NamedTuple):
    """Seconds: the first call (compilation and all), and the later ones."""

    first: float
    median: float
    least: float
    most: float


def timed(function: Callable) -> float:
    """Seconds until everything that `function` returns is there."""
    start = time.perf_counter()
    jax.block_until_ready(function())
    return time.perf_counter() - start


def compare(
    contestants: Mapping[str, Callable], repeats: int, once: tuple[str, ...] = ()
) -> dict[str, Timing]:
    """Times each contestant, in turn, `repeats` times; those in `once` a single time."""
    first = {name: timed(function) for name, function in contestants.items()}
    later: dict[str, list[float]] = {name: [] for name in contestants}
    for i in range(repeats):
        for name, function in contestants.items():
            if i == 0 or name not in once:
                later[name].append(timed(function))
    return {
        name: Timing(first[name], statistics.median(times), min(times), max(times))
        for name, times in later.items()
    }


def matmul_peak(size: int = 2048) -> float:
    """FLOP/s of a large float32 matrix product on this machine, now."""
    a = jax.random.normal(jax.random.key(0), (size, size))
    product = jax.jit(lambda a: a @ a)
    timed(lambda: product(a))
    return 2 * size**3 / min(timed(lambda: product(a)) for _ in range(5))
