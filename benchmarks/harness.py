"""Fair timing: every contestant in fresh processes, in turn, its answer compared first.

Libraries leave threads behind that spin while another one computes, so two contestants never
share a process. A round runs each of them once: a process that builds the problem, calls
the contestant once (compilation and all), then times it a few times more, and last
computes its answer, where that is another question than the one timed.
"""

import importlib.util
import json
import math
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class Contestant(NamedTuple):
    """One way to do a workload.

    Attributes:
      make: without arguments, builds the problem and returns the function to be timed, which
        takes none either and returns arrays (a pytree), or `None` if there is no answer.
      needs: the package to import; where it isn't installed the contestant is left out.
      slow: whether to time it only once a process.
      steps: how many steps a call makes; times are shown for one of them.
      answer: computes the answer to compare where the timed function's isn't one: it draws
        random numbers, say, and this one does the same without them.
    """

    make: Callable[[], Callable[[], Any]]
    needs: str = "jax"
    slow: bool = False
    steps: int = 1
    answer: Callable[[], Any] | None = None


class Timing(NamedTuple):
    """Seconds: of the first call, and of a step in the later ones; bytes at the most."""

    first: float
    median: float
    least: float
    most: float
    peak: int


class Workload(NamedTuple):
    """Something to measure, a module for each.

    Attributes:
      name: such as `"W5"`.
      title: what is done, in a line.
      contestants: by name; the first one is ours.
      goals: by contestant, how many times as fast ours is to be.
      tolerance: how far answers may lie apart.
      facts: by contestant, what else the table shows: `{column: {contestant: value}}`.
      flops: of the matrix products of a step, at the least.
      bytes: that a step reads and writes, at the least.
    """

    name: str
    title: str
    contestants: dict[str, Contestant]
    goals: dict[str, float]
    tolerance: float = 0.0
    facts: Callable[[], dict[str, dict[str, Any]]] = dict
    flops: float = 0.0
    bytes: float = 0.0

    def floor(self, machine: "Peaks") -> float:
        """The seconds below which no step can be on this machine: its roofline; 0 if unknown."""
        return max(self.flops / machine.flops, self.bytes / machine.bytes)


class Peaks(NamedTuple):
    """What the machine does at best, in a second."""

    flops: float
    bytes: float


def load(place: str) -> Workload:
    """The workload at `module`, or at `module:NAME` where a module holds several."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name or "WORKLOAD")


def wait_for(value: Any) -> Any:
    """`value`, when everything in it has been computed."""
    if value is None or "jax" not in sys.modules:
        return value
    return sys.modules["jax"].block_until_ready(value)


def run_one(place: str, name: str, repeats: int, answer: Path | None) -> dict[str, Any]:
    """Times one contestant in this process; writes its answer to a file."""
    contestant = load(place).contestants[name]
    run = contestant.make()
    built = time.perf_counter()
    made = wait_for(run())
    first = time.perf_counter() - built
    times = []
    for _ in range(1 if contestant.slow else repeats):
        start = time.perf_counter()
        wait_for(run())
        times.append((time.perf_counter() - start) / contestant.steps)
    peak = _peak_memory()
    if contestant.answer is not None:
        made = contestant.answer()
    if answer is not None and made is not None:
        import jax

        leaves = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(made)]
        np.savez(answer, *leaves)
    return {"first": first, "times": times, "peak": peak}


def _peak_memory() -> int:
    """Bytes this process, or a child of it, held at most.

    On Linux a new process starts with the most that its parent held as its `ru_maxrss`;
    what /proc says is its own.
    """
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    status = Path("/proc/self/status")
    if not status.is_file():
        return max(children, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return max(children, int(line.split()[1]) * 1024)


def measure(place: str, repeats: int, rounds: int, peers: list[str]) -> dict[str, Any]:
    """Runs a workload, prints its table, and returns all of it as JSON values."""
    workload = load(place)
    chosen = [name for name in workload.contestants if not peers or _matches(name, workload, peers)]
    chosen = [name for name in chosen if _installed(workload.contestants[name].needs, name)]
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in chosen}
    with tempfile.TemporaryDirectory() as folder:
        answers = {name: Path(folder) / f"{i}.npz" for i, name in enumerate(chosen)}
        for number in range(rounds):
            for name in chosen:
                if number and workload.contestants[name].slow:
                    continue
                rows[name].append(_in_a_process(place, name, repeats, answers[name]))
        apart = _differences(answers)
    timings = {name: _summarized(found) for name, found in rows.items()}
    peaks = Peaks(matmul_peak(), copy_bandwidth())
    facts = workload.facts()
    _print(workload, timings, apart, peaks, facts)
    wrong = [name for name, d in apart.items() if d is not None and not d <= workload.tolerance]
    if wrong:
        raise SystemExit(f"{workload.name}: expected equal answers, got others from {wrong}")
    return {
        "title": workload.title,
        "matmul_peak_flops": peaks.flops,
        "copy_bandwidth_bytes": peaks.bytes,
        "floor": workload.floor(peaks) or None,
        "rounds": rounds,
        "repeats": repeats,
        "rows": {
            name: {
                **timing._asdict(),
                "times_ours": timing.median / next(iter(timings.values())).median,
                "goal": workload.goals.get(name),
                "largest_difference": apart[name],
                **{column: values[name] for column, values in facts.items() if name in values},
            }
            for name, timing in timings.items()
        },
    }


def _matches(name: str, workload: Workload, peers: list[str]) -> bool:
    ours = name == next(iter(workload.contestants))
    return ours or any(peer in name for peer in peers)


def _installed(package: str, name: str) -> bool:
    if importlib.util.find_spec(package) is None:
        print(f"left out, as {package} isn't installed: {name}")
        return False
    return True


def _in_a_process(place: str, name: str, repeats: int, answer: Path) -> dict[str, Any]:
    args = [sys.executable, "-m", "benchmarks.one", place, name, str(repeats), str(answer)]
    done = subprocess.run(args, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{place}, {name}: failed\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _differences(answers: dict[str, Path]) -> dict[str, float | None]:
    """By contestant, how far its answer is from the first one's, over that one's size."""
    arrays = {}
    for name, path in answers.items():
        if path.is_file():
            with np.load(path) as file:
                arrays[name] = [file[key] for key in file.files]
    expected = next(iter(arrays.values()), [])

    def apart(found):
        if [a.shape for a in found] != [b.shape for b in expected]:
            return math.inf
        return max(
            float(np.max(np.abs(a - b)) / max(1.0, np.max(np.abs(b))))
            for a, b in zip(found, expected, strict=True)
        )

    return {name: apart(arrays[name]) if name in arrays else None for name in answers}


def _summarized(found: list[dict[str, Any]]) -> Timing:
    times = [t for one in found for t in one["times"]]
    return Timing(
        first=statistics.median(one["first"] for one in found),
        median=statistics.median(times),
        least=min(times),
        most=max(times),
        peak=max(one["peak"] for one in found),
    )


def _print(
    workload: Workload,
    timings: dict[str, Timing],
    apart: dict[str, Any],
    peaks: Peaks,
    facts: dict[str, dict[str, Any]],
) -> None:
    from rich.console import Console
    from rich.table import Table

    title = (
        f"{workload.name}  {workload.title}; peak matmul {peaks.flops / 1e9:.0f} GFLOP/s, "
        f"copying {peaks.bytes / 1e9:.1f} GB/s"
    )
    floor = workload.floor(peaks)
    table = Table(title=title, title_justify="left", box=None)
    columns = ["ms", "spread", "first, s", "peak MiB", *facts]
    columns += [*(["over floor"] if floor else []), "times ours", "goal", "apart"]
    table.add_column("")
    for column in columns:
        table.add_column(column, justify="right")
    ours = next(iter(timings.values())).median
    for name, t in timings.items():
        goal, difference = workload.goals.get(name), apart[name]
        table.add_row(
            name,
            f"{1e3 * t.median:.4g}",
            f"{1e3 * t.least:.4g}-{1e3 * t.most:.4g}",
            f"{t.first:.2f}",
            f"{t.peak / 2**20:.0f}",
            *(f"{values[name]:.3g}" if name in values else "" for values in facts.values()),
            *([f"{t.median / floor:.2f}"] if floor else []),
            f"{t.median / ours:.2f}",
            "" if goal is None else f"{goal:g}",
            "" if difference is None else f"{difference:.1e}",
        )
    Console(width=140).print(table)


def matmul_peak(size: int = 2048) -> float:
    """FLOP/s of a large float32 matrix product on this machine, now, in a process of its own."""
    return 2 * size**3 / _least_seconds("lambda a: a @ a", f"({size}, {size})")


def copy_bandwidth(size: int = 2**26) -> float:
    """Bytes a second read and written in place: what an elementwise pass can do at best."""
    return 8 * size / _least_seconds("lambda a: a + 1", f"({size},)", donated=True)


def _least_seconds(function: str, shape: str, donated: bool = False) -> float:
    """The least of a few times of a compiled function of one float32 array."""
    code = (
        "import jax, time\n"
        f"a = jax.random.normal(jax.random.key(0), {shape})\n"
        f"f = jax.jit({function}, donate_argnums={'0' if donated else '()'})\n"
        f"{'a = ' if donated else ''}f(a).block_until_ready()\n"
        "times = []\n"
        "for _ in range(9):\n"
        "    start = time.perf_counter()\n"
        f"    {'a = ' if donated else ''}f(a).block_until_ready()\n"
        "    times.append(time.perf_counter() - start)\n"
        "print(min(times))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)
