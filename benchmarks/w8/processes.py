"""A script as a process of its own, with an empty or a filled cache of compiled programs."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

#: Options of `jaxnodes train` under which it does the scripts' work, and its reports besides.
TRAIN = (
    "-m jaxnodes train --hidden 256 128 --dropout 0 --epochs 30 --batch-size 64 --rate 0.001 "
    "--schedule constant --augment off --quiet --json --out"
)


def script(name: str, folder: str) -> list[str]:
    """The arguments of Python for one of the scripts beside this file, or for the command."""
    if name == "command":
        return [*TRAIN.split(), f"{tempfile.mkdtemp(dir=folder)}/run"]
    return [str(Path(__file__).with_name(f"{name}_script.py"))]


def ran(name: str, cache: str) -> str:
    """What a script prints, with the cache of compiled programs in this folder."""
    settings = {
        "JAX_COMPILATION_CACHE_DIR": cache,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
        "KERAS_BACKEND": "jax",
    }
    done = subprocess.run(
        [sys.executable, *script(name, cache)],
        env=os.environ | settings,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return done.stdout


def make(name: str, warm: bool):
    """Runs the script as a process each time; with `warm`, once before any is timed."""
    folder = tempfile.TemporaryDirectory()
    if warm:
        ran(name, folder.name)

    def run():
        cache = folder.name if warm else tempfile.mkdtemp(dir=folder.name)
        return learned(ran(name, cache))

    return run


def learned(printed: str) -> np.ndarray:
    """The answer that all share: whether most of the test digits are read right, as 1 or 0."""
    import json

    value = json.loads(printed)
    accuracy = value["test"]["accuracy"] if isinstance(value, dict) else value
    return np.array([float(accuracy > 0.94)])
