"""`jn.analysis.ablate`."""

import jaxnodes as jn
from benchmarks.w5.problem import problem


def make():
    net, variables, x, y = problem()

    def run():
        drops = jn.analysis.ablate(net.predict, variables, x, y, metric=jn.accuracy, value="bias")
        return list(drops.values())

    return run
