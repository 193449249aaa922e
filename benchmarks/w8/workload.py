"""W8: from the start of a process to the printed test accuracy of a trained digits model.

64-256-128-10, 30 epochs, batches of 64, Adam: a script of each library, as a process
of its own, imports and compilation and all. Cold, the cache of compiled programs is
empty; warm, a run before has filled it. Scikit-learn and torch keep none.
"""

import functools

from benchmarks.harness import Contestant, Workload
from benchmarks.w8 import processes


def _workload(warm: bool, goals: dict[str, float]) -> Workload:
    def of(name, needs="jax"):
        return Contestant(functools.partial(processes.make, name, warm), needs)

    return Workload(
        f"W8-{'warm' if warm else 'cold'}",
        f"process start to trained digits model, {'filled' if warm else 'empty'} compile cache",
        {
            "jaxnodes script": of("jaxnodes"),
            "jaxnodes train": of("command"),
            "scikit-learn": of("sklearn", "sklearn"),
            "torch": of("torch", "torch"),
            "keras on jax": of("keras", "keras"),
        },
        goals,
    )


COLD = _workload(False, {"torch": 1, "keras on jax": 2})
WARM = _workload(True, {"scikit-learn": 1})
