"""Flax nnx: `RNN` of a cell."""

from benchmarks.w3.problem import BATCH, INPUTS, NODES, jitted, problem


def make(kind, gradient):
    import jax.numpy as jnp
    from flax import nnx

    it = problem(kind)
    cell = {"lstm": nnx.OptimizedLSTMCell, "gru": nnx.GRUCell}[kind]
    rnn = nnx.RNN(cell(INPUTS, NODES, rngs=nnx.Rngs(0)), rngs=nnx.Rngs(0))
    biased, other = ("dense_h", "dense_i") if kind == "lstm" else ("dense_i", "dense_h")
    kernels = {"dense_i": it.w_i, "dense_h": it.w_h}
    for name, w in kernels.items():
        getattr(rnn.cell, name).kernel[...] = w
    getattr(rnn.cell, biased).bias[...] = it.b
    graph, params, rest = nnx.split(rnn, nnx.Param, ...)

    def forward(params, x):
        zeros = jnp.zeros((BATCH, NODES))
        start = (zeros, zeros) if kind == "lstm" else zeros
        return nnx.merge(graph, params, rest)(x, initial_carry=start)

    def names(by):
        w = {name: by["cell"][name]["kernel"][...] for name in (biased, other)}
        return w["dense_i"], w["dense_h"], by["cell"][biased]["bias"][...]

    return jitted(forward, params, it, gradient, names)
