"""Results as a page and a figure: `python -m benchmarks.report RESULTS.json [--name NAME]`.

Writes docs/NAME.md and docs/images/NAME.png, for each machine its own. Nothing in them is typed
by hand.
"""

import argparse
import importlib
import json
import textwrap
from pathlib import Path
from typing import Any

from benchmarks import WORKLOADS

DOCS = Path(__file__).parent.parent / "docs"

#: Libraries by how their contestants' names begin, in the figure's order and colors.
LIBRARIES = {
    "torch": "tab:red",
    "captum": "tab:pink",
    "flax": "tab:blue",
    "equinox": "tab:green",
    "haiku": "tab:olive",
    "keras": "tab:purple",
    "jax": "tab:gray",
    "optax": "tab:orange",
    "scikit-learn": "tab:brown",
}

HOW = """\
Every contestant runs in processes of its own, in turn with the others. A process
calls it once, compilation and all (the first call), and then times it a few times more. Times
are the median, least and most of those later calls, of one step where a call makes
several. The answers are compared, and have to agree, before anything is reported. *Times
ours* is a contestant's median over ours: above 1 it is slower than jaxnodes. *By the least* is
the same of the least times, which a machine's slow spells don't reach. *Over the
floor* is the time over the least that the machine allows: the arithmetic of the matrix
products at the measured peak of a large one, or the arrays read and written once at the
measured bandwidth. The peak memory is the whole process's. Where a goal was set, it is how many
times as long as ours the contestant should take.
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("results", type=Path, help="what `python -m benchmarks --out` wrote")
    parser.add_argument("--name", default="benchmarks", help="of page and figure (benchmarks)")
    parser.add_argument("--docs", type=Path, default=DOCS, help="where to write (default docs)")
    options = parser.parse_args()
    results = json.loads(options.results.read_text())
    figure = f"images/{options.name}.png"
    (options.docs / figure).parent.mkdir(parents=True, exist_ok=True)
    draw(results, options.docs / figure)
    written = page(results, options.results.name, options.name, figure)
    (options.docs / f"{options.name}.md").write_text(written)


def page(results: dict[str, Any], file: str, name: str, figure: str) -> str:
    """The page, as Markdown."""
    called = "" if name == "benchmarks" else f" --name {name}"
    machine = ", ".join(f"{key} {value}" for key, value in results["machine"].items())
    absent = [name for name in WORKLOADS if name not in results["workloads"]]
    parts = [
        f"# Benchmarks: {_name_of(results['machine'])}",
        f"Measured by `python -m benchmarks --out benchmarks/results/{file}`, and written by "
        f"`python -m benchmarks.report benchmarks/results/{file}{called}`, on: {machine}.",
        HOW.rstrip(),
        *([f"Not measured on this machine: {', '.join(absent)}."] if absent else []),
        f"![Times ours by contestant]({figure})",
        goals_table(results),
    ]
    told = ""
    for name, workload in _sorted(results):
        module = importlib.import_module(WORKLOADS[name].partition(":")[0])
        about = module.__doc__.strip()
        parts.append(f"## {name}: {workload['title']}")
        if about != told:
            parts.append(about.partition(": ")[2][:1].upper() + about.partition(": ")[2][1:])
            told = about
        parts += [_machine_line(workload), table(workload)]
    return "\n\n".join(parts) + "\n"


def goals_table(results: dict[str, Any]) -> str:
    """Every goal, and what was measured."""
    heads = ["workload", "beside", "goal", "times ours", "by the least", ""]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, workload in _sorted(results):
        ours = next(iter(workload["rows"].values()))
        for contestant, row in workload["rows"].items():
            if row["goal"] is not None:
                lines.append(
                    f"| {name} | {contestant} | {row['goal']:.3g} | {row['times_ours']:.2f} | "
                    f"{row['least'] / ours['least']:.2f} | "
                    f"{'met' if row['times_ours'] >= row['goal'] else 'missed'} |"
                )
    return "\n".join(lines)


def table(workload: dict[str, Any]) -> str:
    """A workload's contestants."""
    floor = workload.get("floor")
    plain = {"first", "median", "least", "most", "peak", "times_ours", "goal"}
    plain |= {"largest_difference"}
    facts = list(dict.fromkeys(key for row in workload["rows"].values() for key in row))
    facts = [key for key in facts if key not in plain]
    heads = ["", "ms", "least to most", "first call, s", "peak MiB"]
    heads += [*(["over the floor"] if floor else []), *facts, "times ours", "goal", "apart"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, row in workload["rows"].items():
        cells = [
            name,
            _number(1e3 * row["median"]),
            f"{_number(1e3 * row['least'])} to {_number(1e3 * row['most'])}",
            f"{row['first']:.2f}",
            f"{row['peak'] / 2**20:.0f}",
            *([f"{row['median'] / floor:.2f}"] if floor else []),
            *(f"{row[key]:.3g}" if key in row else "" for key in facts),
            f"{row['times_ours']:.2f}",
            "" if row["goal"] is None else f"{row['goal']:.3g}",
            "" if row["largest_difference"] is None else f"{row['largest_difference']:.0e}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(results: dict[str, Any], path: Path) -> None:
    """Times ours by contestant, a row for each workload, with the goals."""
    import matplotlib.pyplot as plt

    # Importing has goals of its own, and no peers.
    rows = [(name, workload) for name, workload in _sorted(results) if not name.startswith("W9")]
    figure, axes = plt.subplots(figsize=(9, 1.6 + 0.42 * len(rows)), layout="constrained")
    labels = {}
    for y, (_, workload) in enumerate(rows):
        found = workload["rows"].items()
        peers = [(name, row) for name, row in found if not name.startswith("jaxnodes")]
        for i, (name, row) in enumerate(peers):
            # Within a row the contestants lie a little apart, so that equal ones are seen.
            height = y + 0.5 * (i / max(1, len(peers) - 1) - 0.5)
            library = next(one for one in (*LIBRARIES, "") if name.startswith(one))
            color = LIBRARIES.get(library, "black")
            labels[library or "other"] = axes.scatter(
                row["times_ours"], height, 26, color, zorder=3
            )
            if row["goal"] is not None:
                labels["goal"] = axes.scatter(
                    row["goal"], height, 60, color, marker="|", linewidths=1.5, zorder=2
                )
                ends = sorted((row["goal"], row["times_ours"]))
                axes.plot(ends, [height] * 2, color=color, alpha=0.25, linewidth=1)
    for y in range(len(rows) - 1):
        axes.axhline(y + 0.5, color="0.9", linewidth=0.8)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.set_yticks(range(len(rows)), [_label(*row) for row in rows])
    axes.tick_params("y", labelsize=7, length=0)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel("time over that of jaxnodes (right of the line: slower than jaxnodes)")
    axes.spines[["top", "right", "left"]].set_visible(False)
    order = [name for name in (*LIBRARIES, "other", "goal") if name in labels]
    figure.legend(
        [labels[name] for name in order], order, loc="outside upper center", ncols=6, frameon=False
    )
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _label(name: str, workload: dict[str, Any]) -> str:
    title = textwrap.shorten(workload["title"], 58, placeholder=" ...")
    return f"{name}\n{title}"


def _sorted(results: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (name, results["workloads"][name]) for name in WORKLOADS if name in results["workloads"]
    ]


def _name_of(machine: dict[str, str]) -> str:
    if machine["device"] != "cpu":
        return machine["device"]
    vectors = f", vectors {machine['vectors']}" if "vectors" in machine else ""
    return machine["processor"] + vectors


def _machine_line(workload: dict[str, Any]) -> str:
    words = [f"a large matrix product {workload['matmul_peak_flops'] / 1e9:.0f} GFLOP/s"]
    if "copy_bandwidth_bytes" in workload:
        words.append(f"reading and writing {workload['copy_bandwidth_bytes'] / 1e9:.0f} GB/s")
    if workload.get("floor"):
        words.append(f"so that the floor is {_number(1e3 * workload['floor'])} ms")
    words[-1] += f"; {workload['rounds']} processes of each, of {workload['repeats']} timed calls"
    of = f", of commit {workload['commit']}" if workload.get("commit") else ""
    return f"In this run{of}: {', '.join(words)}."


def _number(value: float) -> str:
    """Three digits, without an exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    main()
