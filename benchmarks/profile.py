"""What a contestant's time goes into: `python -m benchmarks.profile [W1] [--of "flax nnx"]`.

XLA's trace of one call, added up by compiled operation, for a step where a call makes several.
Tracing slows small operations down, so read the shares. Operations of a loop's body are
listed beside the loop, and both cores' time is counted. Of a product by Eigen (`dot`) only the part
of the thread that began it is counted.
"""

import argparse
import collections
import gzip
import json
import re
import tempfile
from pathlib import Path

import jax

from benchmarks import WORKLOADS
from benchmarks.harness import load, wait_for

#: What XLA calls its operations; the rest of the trace is the host's, waiting for them.
OPERATION = re.compile(
    r"(dot|dot_general|sort|gather|scatter|copy|convolution|call|[\w-]*fusion)(\.\d+)*$"
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__)
    parser.add_argument("workload", nargs="?", default="W1", choices=WORKLOADS)
    parser.add_argument("--of", help="the contestant (default ours)")
    parser.add_argument("--top", type=int, default=12, help="how many to show (default 12)")
    options = parser.parse_args()
    contestants = load(WORKLOADS[options.workload]).contestants
    contestant = contestants[options.of or next(iter(contestants))]
    run = contestant.make()
    wait_for(run())
    spent, calls = collections.Counter(), collections.Counter()
    for name, microseconds in traced(run):
        spent[name] += microseconds / contestant.steps
        calls[name] += 1
    total = spent.total()
    for name, microseconds in spent.most_common(options.top):
        times = calls[name] / contestant.steps
        print(f"{name:34} {microseconds:9.1f} us {microseconds / total:5.0%}  {times:6.3g} times")
    print(f"{'all operations':34} {total:9.1f} us")


def traced(run):
    """The operations of one call: `(name, microseconds)` of each."""
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            wait_for(run())
        (file,) = Path(folder).rglob("*.trace.json.gz")
        with gzip.open(file) as opened:
            events = json.load(opened)["traceEvents"]
    for event in events:
        if event.get("ph") == "X" and OPERATION.match(event["name"]):
            yield event["name"], event["dur"]


if __name__ == "__main__":
    main()
