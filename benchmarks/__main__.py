"""`python -m benchmarks [W5 ...] [--repeats N] [--out FILE]`."""

import argparse
import json
import os
import platform
from pathlib import Path

import jax

from benchmarks import ablation

WORKLOADS = {"W5": ablation.measure}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("workloads", nargs="*", default=list(WORKLOADS), metavar="W5")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each (default 5)")
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    options = parser.parse_args()
    if unknown := [name for name in options.workloads if name not in WORKLOADS]:
        parser.error(f"expected one of {', '.join(WORKLOADS)}, got {unknown[0]}")
    machine = {
        "device": jax.devices()[0].device_kind,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "jax": jax.__version__,
    }
    print("  ".join(f"{name} {value}" for name, value in machine.items()))
    results = {name: WORKLOADS[name](options.repeats) for name in options.workloads}
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps({"machine": machine, **results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
