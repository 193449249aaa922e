"""W2: two convolutions, pooled, and two dense layers on 28 x 28 pixels, batches of 64, Adam.

What is timed and compared is as in W1, over epochs of 2,048 samples, without dropout.
"""

import functools

from benchmarks.harness import Workload
from benchmarks.training.problems import contestant
from benchmarks.w2 import (
    by_hand,
    equinox_way,
    haiku_way,
    keras_way,
    linen_way,
    nnx_way,
    ours,
    torch_ways,
)
from benchmarks.w2.problem import EPOCHS, STEPS, problem, step_flops

_of = functools.partial(contestant, problem, epochs=EPOCHS, steps=STEPS)
_torch = functools.partial(_of, torch_ways.trained, "torch", fused=True)

WORKLOAD = Workload(
    "W2",
    "a training step of a CNN, convolutions 32 and 64, batch 64, in whole epochs",
    {
        "jaxnodes fit": _of(ours.trained),
        "jax and optax, a loop": _of(by_hand.looped),
        "jax and optax, a scan": _of(by_hand.scanned)._replace(slow=True),
        "torch, contiguous": _torch(),
        "torch, channels last": _torch(channels_last=True),
        "torch.compile, channels last": _torch(channels_last=True, compiled=True),
        "flax nnx": _of(nnx_way.trained, "flax"),
        "flax linen": _of(linen_way.trained, "flax"),
        "equinox": _of(equinox_way.trained, "equinox"),
        "haiku": _of(haiku_way.trained, "haiku"),
        "keras on jax": _of(keras_way.trained, "keras"),
    },
    {
        "torch, contiguous": 1.2,
        "torch, channels last": 1.2,
        "torch.compile, channels last": 1.2,
        "flax nnx": 2,
    },
    tolerance=1e-4,
    flops=step_flops(),
)
