"""W1: 784-256-128-10 with dropout 0.5, batches of 64, Adam, epochs of 10,000 samples.

Every contestant does the same updates from the same weights, shuffled each epoch, the 16
samples that don't make a batch left out; what is timed is a whole epoch, reading the
batches and the mean loss with it. Compared are the mean losses of three epochs of five
batches without dropout, in order.
"""

import functools

from benchmarks.harness import Workload
from benchmarks.training.problems import contestant
from benchmarks.w1 import (
    by_hand,
    equinox_way,
    haiku_way,
    keras_way,
    linen_way,
    nnx_way,
    ours,
    torch_ways,
)
from benchmarks.w1.problem import EPOCHS, STEPS, problem, step_flops

_of = functools.partial(contestant, problem, epochs=EPOCHS, steps=STEPS)

WORKLOAD = Workload(
    "W1",
    "a training step of 784-256-128-10, dropout, batch 64, in whole epochs",
    {
        "jaxnodes fit": _of(ours.trained),
        "jax and optax, a scan": _of(by_hand.scanned),
        "torch": _of(torch_ways.trained, "torch"),
        "torch, fused Adam": _of(torch_ways.trained, "torch", fused=True),
        "torch.compile, fused Adam": _of(torch_ways.trained, "torch", fused=True, compiled=True),
        "flax nnx": _of(nnx_way.trained, "flax"),
        "flax linen": _of(linen_way.trained, "flax"),
        "equinox": _of(equinox_way.trained, "equinox"),
        "haiku": _of(haiku_way.trained, "haiku"),
        "keras on jax": _of(keras_way.trained, "keras"),
    },
    dict.fromkeys(
        [
            "torch",
            "torch, fused Adam",
            "torch.compile, fused Adam",
            "flax nnx",
            "flax linen",
            "equinox",
            "haiku",
            "keras on jax",
        ],
        2,
    ),
    tolerance=1e-4,
    flops=step_flops(),
)
