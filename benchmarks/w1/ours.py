"""`jn.fit`."""

import functools

import jaxnodes as jn
from benchmarks.training import ours
from benchmarks.w1.problem import SIZES

trained = functools.partial(
    ours.trained,
    network=lambda dropout: jn.fully_connected(list(SIZES), dropout=dropout),
)
