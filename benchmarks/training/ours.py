"""`jn.fit`, a compiled program an epoch."""

import jax

import jaxnodes as jn
from benchmarks.training.problems import RATE


def trained(problem, dropout, x, y, shuffle, *, network):
    """`network(dropout)` starts from the problem's weights, in the order of its parameters."""
    net = network(dropout)
    data = (jax.numpy.asarray(x), jax.numpy.asarray(y))
    params, state = net.init(jax.random.key(0), data[0][: problem.batch])
    layers = zip(params, problem.weights, strict=True)
    start = ({name: {"w": w, "b": b} for name, (w, b) in layers}, state)
    start = jax.tree.map(jax.numpy.asarray, start)

    def run(epochs):
        result = jn.fit(
            net,
            data,
            key=jax.random.key(1),
            loss=jn.cross_entropy,
            optimizer=jn.adam(RATE),
            epochs=epochs,
            batch_size=problem.batch,
            shuffle=shuffle,
            ragged="drop",
            start=start,
        )
        return result.history["loss"]

    return run
