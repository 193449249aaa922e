"""W3: an LSTM and a GRU over 32 sequences of 128 steps, 64 inputs, 128 nodes.

Forward; and forward with the gradients by the inputs and by all weights. The same weights
everywhere, brought into each library's order of gates, and the answers compared.
"""

import functools

from benchmarks.harness import Contestant, Workload
from benchmarks.w3 import equinox_way, haiku_way, keras_way, nnx_way, ours, torch_way
from benchmarks.w3.problem import flops


def _workload(kind: str, gradient: bool) -> Workload:
    def of(module, needs="jax"):
        return Contestant(functools.partial(module.make, kind, gradient), needs)

    return Workload(
        f"W3-{kind}" + ("-gradient" if gradient else ""),
        f"{kind.upper()}, B=32 T=128 D=64 H=128, {'gradient' if gradient else 'forward'}",
        {
            "jaxnodes": of(ours),
            "torch": of(torch_way, "torch"),
            "flax nnx": of(nnx_way, "flax"),
            "equinox": of(equinox_way, "equinox"),
            "haiku": of(haiku_way, "haiku"),
            "keras on jax": of(keras_way, "keras"),
        },
        {"torch": 1, "flax nnx": 2},
        tolerance=1e-4,
        flops=flops(kind, gradient),
    )


LSTM = _workload("lstm", gradient=False)
LSTM_GRADIENT = _workload("lstm", gradient=True)
GRU = _workload("gru", gradient=False)
GRU_GRADIENT = _workload("gru", gradient=True)
