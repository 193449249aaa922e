"""Results as the analysis room returns them, made by hand."""

import numpy as np

from jaxnodes.analysis import GradientFlow, NodeStatistics

FLOW = GradientFlow(
    activations={"lstm1": np.array(0.5), "dense1": np.array([2.0, 0.0]), "out": np.array(1.0)},
    gradients={"lstm1": np.array(1e-4), "dense1": np.array([1e4, 0.0]), "out": np.array(0.1)},
    step_activations={"lstm1": np.array([0.3, np.sqrt(0.41)])},
    step_gradients={"lstm1": np.array([1e-9, np.sqrt(2e-8)])},
    verdicts={
        "lstm1": "vanishing: its gradient is 0.001 times that of out; vanishing over time: its "
        "gradient at step 0 is 7e-06 times that at step 1",
        "dense1[0]": "exploding: its gradient is 1e+05 times that of out",
        "dense1[1]": "vanishing: its gradient is zero",
    },
)


def node_statistics(size, **changes):
    """Of nodes in six samples: node i has mean i, and is dead if it is node 1."""
    nodes = np.arange(size, dtype=float)
    histogram = np.zeros((size, 4), int)
    histogram[:, 0], histogram[:, 2] = 1, 4
    stats = NodeStatistics(
        mean=nodes,
        variance=np.full(size, 4.0),
        minimum=nodes - 1,
        maximum=nodes + 1,
        magnitude=nodes,
        active=np.where(nodes == 1, 0, 0.5),
        histogram=histogram,
        below=np.zeros(size, int),
        above=np.ones(size, int),
        edges=np.array([0.0, 1.0, 2.0, 3.0, 4.0]),
        class_means=np.zeros((size, 0)),
        selectivity=np.full(size, np.nan),
        top_values=nodes[:, None] + [2.0, 1.0, 0.5],
        top_samples=(nodes[:, None].astype(int) + [2, 0, 1]) % 6,
        near_limit=np.full(size, np.nan),
        dead=nodes == 1,
        dormant=(nodes == 1) | (nodes == 2),
        saturated=np.zeros(size, bool),
        samples=6,
    )
    return stats._replace(**changes)
