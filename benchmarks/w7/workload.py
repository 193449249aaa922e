"""W7: a step of Adam and its application, on one leaf of 10 million values and on 1,000 of 1,000.

No step can be faster than reading and writing its arrays once: the floor. Compared are
the parameters after three steps.
"""

import functools

from benchmarks.harness import Contestant, Workload
from benchmarks.w7 import jax_ways, torch_way
from benchmarks.w7.problem import step_bytes


def _workload(kind: str, title: str, goals: dict[str, float]) -> Workload:
    def of(module, *args, needs="jax", **options):
        make, answer = (
            functools.partial(function, *args, kind, **options)
            for function in (module.make, module.answer)
        )
        return Contestant(make, needs, answer=answer)

    return Workload(
        f"W7-{kind}",
        title,
        {
            "jaxnodes adam": of(jax_ways, "jaxnodes"),
            "optax": of(jax_ways, "optax"),
            "torch, a loop": of(torch_way, needs="torch"),
            "torch, foreach": of(torch_way, needs="torch", foreach=True),
            "torch, fused": of(torch_way, needs="torch", fused=True),
        },
        goals,
        tolerance=1e-6,
        bytes=step_bytes(kind),
    )


LARGE = _workload("large", "a step of Adam on one leaf of 10,000,000", {})
MANY = _workload("many", "a step of Adam on 1,000 leaves of 1,000", {"optax": 2})
