"""W9: importing the library, and the command line's help, as whole processes.

The goals: no more than 1.15 of the time of `import jax`, and 0.2 seconds for the help. Names are
imported when first used; ours is what `fit` and layers need. Our optimizers don't import optax.
"""

import functools
import subprocess
import sys

from benchmarks.harness import Contestant, Workload


def _make(*args: str):
    def run():
        subprocess.run([sys.executable, *args], check=True, stdout=subprocess.DEVNULL)

    return run


def _of(*args: str) -> Contestant:
    return Contestant(functools.partial(_make, *args), "jaxnodes")


IMPORT = Workload(
    "W9-import",
    "import jaxnodes with what it takes to train, as a process",
    {
        "jaxnodes, fit and layers used": _of("-c", "import jaxnodes as jn; jn.fit, jn.Dense"),
        "jaxnodes, fit, layers and adam used": _of(
            "-c", "import jaxnodes as jn; jn.fit, jn.Dense, jn.adam(1e-3)"
        ),
        "import jaxnodes": _of("-c", "import jaxnodes"),
        "import jax, jax.numpy": _of("-c", "import jax, jax.numpy"),
        "import jax, jax.numpy, optax": _of("-c", "import jax, jax.numpy, optax"),
        "import flax.nnx": _of("-c", "import flax.nnx")._replace(needs="flax"),
        "import torch": _of("-c", "import torch")._replace(needs="torch"),
    },
    {"import jax, jax.numpy": 1 / 1.15},
)

HELP = Workload(
    "W9-help",
    "jaxnodes --help, as a process; the goal is 200 ms",
    {
        "jaxnodes --help": _of("-m", "jaxnodes", "--help"),
        "python -c pass": _of("-c", "pass"),
    },
    {},
)
