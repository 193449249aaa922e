"""Fair timing: every contestant in fresh processes, in turn, its answer compared first.

Libraries leave threads behind that spin while another one computes, so two contestants never
share a process. A round runs each of them once: a process that builds the problem, calls
the contestant once (compilation and all), and then times it a few times more.
"""

import importlib
import json
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
    """

    make: Callable[[], Callable[[], Any]]
    needs: str = "jax"
    slow: bool = False
    steps: int = 1


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
    """

    name: str
    title: str
    contestants: dict[str, Contestant]
    goals: dict[str, float]
    tolerance: float = 0.0
    facts: Callable[[], dict[str, dict[str, Any]]] = dict


def wait_for(value: Any) -> Any:
    """`value`, when everything in it has been computed."""
    if value is None:
        return value
    import jax

    return jax.block_until_ready(value)


def run_one(module: str, name: str, repeats: int, answer: Path | None) -> dict[str, Any]:
    """Times one contestant in this process; writes its answer to a file."""
    contestant = importlib.import_module(module).WORKLOAD.contestants[name]
    start = time.perf_counter()
    run = contestant.make()
    built = time.perf_counter()
    made = wait_for(run())
    first = time.perf_counter() - built
    times = []
    for _ in range(1 if contestant.slow else repeats):
        start = time.perf_counter()
        wait_for(run())
        times.append((time.perf_counter() - start) / contestant.steps)
    if answer is not None and made is not None:
        import jax

        leaves = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(made)]
        np.savez(answer, *leaves)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"first": first, "times": times, "peak": peak}


def measure(module: str, repeats: int, rounds: int, peers: list[str]) -> dict[str, Any]:
    """Runs a workload, prints its table, and returns all of it as JSON values."""
    workload: Workload = importlib.import_module(module).WORKLOAD
    chosen = [name for name in workload.contestants if not peers or _matches(name, workload, peers)]
    chosen = [name for name in chosen if _installed(workload.contestants[name].needs, name)]
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in chosen}
    with tempfile.TemporaryDirectory() as folder:
        answers = {name: Path(folder) / f"{i}.npz" for i, name in enumerate(chosen)}
        for number in range(rounds):
            for name in chosen:
                if number and workload.contestants[name].slow:
                    continue
                rows[name].append(_in_a_process(module, name, repeats, answers[name]))
        apart = _differences(answers)
    timings = {name: _summarized(found) for name, found in rows.items()}
    peak = matmul_peak()
    _print(workload, timings, apart, peak)
    wrong = [name for name, d in apart.items() if d is not None and d > workload.tolerance]
    if wrong:
        raise SystemExit(f"{workload.name}: expected equal answers, got others from {wrong}")
    facts = workload.facts()
    return {
        "title": workload.title,
        "matmul_peak_flops": peak,
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


def _in_a_process(module: str, name: str, repeats: int, answer: Path) -> dict[str, Any]:
    args = [sys.executable, "-m", "benchmarks.one", module, name, str(repeats), str(answer)]
    done = subprocess.run(args, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{module}, {name}: failed\n{done.stderr[-2000:]}")
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


def _print(workload: Workload, timings: dict[str, Timing], apart: dict[str, Any], peak: float):
    from rich.console import Console
    from rich.table import Table

    title = f"{workload.name}  {workload.title}; peak matmul {peak / 1e9:.0f} GFLOP/s"
    table = Table(title=title, title_justify="left", box=None)
    facts = workload.facts()
    columns = ["ms", "spread", "first, s", "peak MiB", *facts, "times ours", "goal", "apart"]
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
            f"{t.median / ours:.2f}",
            "" if goal is None else f"{goal:g}",
            "" if difference is None else f"{difference:.1e}",
        )
    Console(width=140).print(table)


def matmul_peak(size: int = 2048) -> float:
    """FLOP/s of a large float32 matrix product on this machine, now, in a process of its own."""
    code = (
        "import jax, time\n"
        f"a = jax.random.normal(jax.random.key(0), ({size}, {size}))\n"
        "f = jax.jit(lambda a: a @ a)\n"
        "f(a).block_until_ready()\n"
        "times = []\n"
        "for _ in range(9):\n"
        "    start = time.perf_counter()\n"
        "    f(a).block_until_ready()\n"
        "    times.append(time.perf_counter() - start)\n"
        "print(min(times))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return 2 * size**3 / float(done.stdout)
