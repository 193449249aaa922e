"""W4: attention over 2,048 positions, 8 heads of 64, a batch of 2; whole and causal.

Forward; and forward with the gradients by queries, keys and values. Equinox has attention
only with its projections, and is left out. The peak memory is the process's.
"""

import functools

from benchmarks.harness import Contestant, Workload
from benchmarks.w4 import ways
from benchmarks.w4.problem import flops


def _workload(causal: bool, gradient: bool) -> Workload:
    def of(way, needs="jax"):
        return Contestant(functools.partial(way, causal, gradient), needs)

    name = "W4" + ("-causal" if causal else "-whole") + ("-gradient" if gradient else "")
    forward = {} if gradient else {"torch": 1, "jax.nn": 4}
    return Workload(
        name,
        f"{'causal ' if causal else ''}attention, B=2 T=2048, 8 heads of 64, "
        f"{'gradient' if gradient else 'forward'}",
        {
            "jaxnodes": of(ways.ours),
            "torch": of(ways.torch, "torch"),
            "jax.nn": of(ways.jax_nn),
            "flax nnx": of(ways.nnx, "flax"),
        },
        forward,
        tolerance=1e-4,
        flops=flops(causal, gradient),
    )


WHOLE = _workload(causal=False, gradient=False)
WHOLE_GRADIENT = _workload(causal=False, gradient=True)
CAUSAL = _workload(causal=True, gradient=False)
CAUSAL_GRADIENT = _workload(causal=True, gradient=True)
