"""W6: 256 networks 64-64-32-10, each trained on the digits for 10 epochs, batches of 32, Adam.

Times are for one network, shuffling and all. Each is shuffled by itself. Torch's loop
trains two of them a call. Compared are the mean losses of three epochs in order, of
two networks from the same weights.
"""

import functools
import itertools

from benchmarks.harness import Contestant, Workload
from benchmarks.w6 import jax_ways, ours, torch_ways
from benchmarks.w6.problem import BATCH, EPOCHS, NETWORKS, SIZES

_STEPS = 1797 // BATCH * EPOCHS
_FIRST, *_OTHERS = (2 * BATCH * a * b for a, b in itertools.pairwise(SIZES))


def _contestant(trained, needs="jax", count=NETWORKS, slow=False):
    def make():
        run = trained(count, shuffle=True)
        return lambda: run(EPOCHS)

    return Contestant(make, needs, slow, steps=count, answer=functools.partial(_answer, trained))


def _answer(trained):
    return trained(2, shuffle=False)(3)


WORKLOAD = Workload(
    "W6",
    "one of 256 MLPs 64-64-32-10 trained on the digits for 10 epochs",
    {
        "jaxnodes make_train, in groups": _contestant(ours.in_groups),
        "jaxnodes make_train, vmapped": _contestant(ours.vmapped),
        "jax and optax, vmapped": _contestant(jax_ways.by_hand),
        "equinox, filter_vmap": _contestant(jax_ways.equinox, "equinox"),
        "torch, a loop": _contestant(torch_ways.loop, "torch", count=2),
        "torch.func, vmap": _contestant(torch_ways.vmapped, "torch"),
    },
    {"torch, a loop": 25, "jax and optax, vmapped": 3},
    tolerance=1e-4,
    flops=_STEPS * (2 * _FIRST + 3 * sum(_OTHERS)),
)
