"""The run folder: where it is, that nothing is lost in it, and what lies in it."""

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxnodes.errors import check
from jaxnodes.training.files import write_atomically

METRICS, HISTORY, CURVES, CONFUSION = "metrics.json", "history.jsonl", "curves.png", "confusion.png"
NODES = "nodes.json"
ACTIVATIONS, IMPORTANCE, STATISTICS = "activations.png", "importance.png", "statistics.png"
WEIGHTS, NODE = "weights.png", "node-{}.png"
# What is said of a network, beside the network itself.
_RESULTS = (METRICS, HISTORY, CURVES, CONFUSION, NODES)
_RESULTS += (ACTIVATIONS, IMPORTANCE, STATISTICS, WEIGHTS, NODE.format("*"))


def reserve(out: str | None, name: str, overwrite: bool) -> Path:
    """Makes the run folder, before the work begins that is to be kept in it.

    Args:
      out: the folder asked for; `None` for a fresh one, `runs/NAME-1`, `runs/NAME-2`, ...
      name: what a fresh one is called.
      overwrite: whether `out` may hold something already.

    Raises:
      JaxNodesError: a folder that isn't empty.
      OSError: one that can't be made.
    """
    if out is None:
        for number in itertools.count(1):
            folder = Path("runs") / f"{name}-{number}"
            try:
                folder.mkdir(parents=True)
            except FileExistsError:
                continue
            return folder
    folder = Path(str(out))
    check(
        not folder.exists() or folder.is_dir(),
        f"expected a folder, got the file {folder}",
        "--out",
    )
    check(
        overwrite or not folder.exists() or not any(folder.iterdir()),
        f"expected a folder that is empty or not there yet, got {folder}; choose another one, "
        "or pass --overwrite",
        "--out",
    )
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def clear(folder: Path) -> None:
    """Takes away what is said in a run folder of the network that was here before."""
    for pattern in _RESULTS:
        for path in folder.glob(pattern):
            path.unlink()


def release(folder: Path) -> None:
    """Takes the folder away again if nothing came to lie in it."""
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes a file of JSON."""
    write_atomically(path, (json.dumps(finite(value), indent=2) + "\n").encode())


def write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes a file with a line of JSON for each row."""
    write_atomically(path, "".join(json.dumps(finite(row)) + "\n" for row in rows).encode())


def finite(value: Any) -> Any:
    """`value` with nothing in the place of NaN and infinity, which JSON doesn't have."""
    if isinstance(value, Mapping):
        return {name: finite(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
