"""W5: what each node of 784-256-128-10 is worth, on 10,000 samples.

The usual procedure is a Python loop: zero a node's incoming weights, keep its bias,
measure the accuracy of the whole network on all samples, put the weights back. Every
contestant answers that question.
"""

from benchmarks.harness import Contestant, Workload
from benchmarks.w5 import captum_ablation, jax_ways, ours, torch_loop
from benchmarks.w5.problem import multiply_adds


def _facts():
    counted = multiply_adds()
    ways = {
        "jaxnodes ablate": "thin",
        "torch, the usual loop": "loop",
        "jax, a loop of a jitted evaluation": "loop",
        "jax, plain vmap per layer": "vmap",
    }
    return {"multiply-adds": {name: counted[way] for name, way in ways.items()}}


WORKLOAD = Workload(
    "W5",
    "the worth of 394 nodes, 10,000 samples",
    {
        "jaxnodes ablate": Contestant(ours.make),
        "torch, the usual loop": Contestant(torch_loop.make, "torch", slow=True),
        "jax, a loop of a jitted evaluation": Contestant(jax_ways.make_loop, slow=True),
        "jax, plain vmap per layer": Contestant(jax_ways.make_vmap),
        "captum, LayerFeatureAblation": Contestant(captum_ablation.make, "captum", slow=True),
    },
    {"torch, the usual loop": 100, "jax, plain vmap per layer": 5},
    tolerance=2.1e-4,  # two samples whose best two scores tie to rounding
    facts=_facts,
)
