"""`jn.fit` of `jn.models.cnn`."""

import functools

import jaxnodes as jn
from benchmarks.training import ours
from benchmarks.w2.problem import SHAPE

trained = functools.partial(
    ours.trained,
    network=lambda dropout: jn.models.cnn(SHAPE, 10, dropout=dropout),
)
