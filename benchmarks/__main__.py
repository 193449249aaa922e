"""Speed beside other libraries: `python -m benchmarks [W5 ...] [--peers torch,nnx] [--quick]`."""

import argparse
import json
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

from benchmarks import WORKLOADS
from benchmarks.harness import measure


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("workloads", nargs="*", default=list(WORKLOADS), metavar="W5")
    parser.add_argument(
        "--peers", default="", help="only contestants whose names hold one of these"
    )
    parser.add_argument("--repeats", type=int, default=5, help="timed calls a process (default 5)")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each (default 3)")
    parser.add_argument("--quick", action="store_true", help="one round of two calls")
    parser.add_argument("--out", type=Path, help="a JSON file for the results; others' stay in it")
    options = parser.parse_args()
    if unknown := [name for name in options.workloads if not parts_of(name)]:
        parser.error(f"expected some of {', '.join(WORKLOADS)}, got {unknown[0]}")
    names = list(dict.fromkeys(part for name in options.workloads for part in parts_of(name)))
    repeats, rounds = (2, 1) if options.quick else (options.repeats, options.rounds)
    peers = [peer for peer in options.peers.split(",") if peer]
    machine = machine_facts()
    print("  ".join(f"{name} {value}" for name, value in machine.items()), flush=True)
    results = {"machine": machine, "workloads": {}}
    if options.out and options.out.is_file():
        results["workloads"] = json.loads(options.out.read_text())["workloads"]
    for name in names:
        measured = measure(WORKLOADS[name], repeats, rounds, peers)
        results["workloads"][name] = {"commit": commit()} | measured
        if options.out:
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(json.dumps(results, indent=2) + "\n")


def parts_of(name: str) -> list[str]:
    """The workloads meant by a name: itself, and for `"W3"` also `"W3-lstm"` and so on."""
    return [one for one in WORKLOADS if one == name or one.startswith(f"{name}-")]


def machine_facts() -> dict[str, str]:
    """What a time depends on."""
    import jax

    return {
        "device": jax.devices()[0].device_kind,
        "processor": _processor(),
        **_vectors(),
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        "jax": version("jax"),
        "jaxnodes": version("jaxnodes"),
    }


def commit() -> str:
    """Of which code a time is, `-dirty` if more than results was changed; "" without git."""
    changed = _git("status", "--porcelain", "-uno", "--", ".", ":!benchmarks/results")
    return _git("rev-parse", "--short", "HEAD") + ("-dirty" if changed else "")


def _git(*asked: str) -> str:
    root = Path(__file__).parents[1]
    try:
        return subprocess.run(
            ["git", *asked], cwd=root, capture_output=True, text=True
        ).stdout.strip()
    except OSError:
        return ""


def _processor() -> str:
    return _told("model name") or platform.processor() or platform.machine()


def _vectors() -> dict[str, str]:
    """An x86 processor's widest, for one name may stand for several generations."""
    flags = _told("flags").split()
    widest = next((bits for flag, bits in (("avx512f", 512), ("avx2", 256)) if flag in flags), None)
    return {"vectors": f"of {widest} bits"} if widest else {}


def _told(what: str) -> str:
    """What Linux tells of the first core; "" elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    told = [line.partition(":")[2].strip() for line in lines if line.startswith(what)]
    return told[0] if told else ""


if __name__ == "__main__":
    main()
