"""Haiku: `dynamic_unroll`. Its GRU multiplies by the reset gate before the product, so that it
has no answer to compare; its LSTM has the gates in another order and adds 1 to the forget gate.
"""

import numpy as np

from benchmarks.w3.problem import NODES, jitted, problem


def make(kind, gradient):
    import haiku as hk
    import jax.numpy as jnp

    it = problem(kind)

    @hk.without_apply_rng
    @hk.transform
    def network(x):
        core = {"lstm": hk.LSTM, "gru": hk.GRU}[kind](NODES)
        return hk.dynamic_unroll(core, x, core.initial_state(len(x)), time_major=False)[0]

    if kind == "gru":
        run = jitted(
            network.apply, {"gru": {"w_i": it.w_i, "w_h": it.w_h, "b": it.b}}, it, gradient
        )

        def without_answer():
            run()[0].block_until_ready()

        return without_answer

    def swapped(a, numpy=np):
        i, f, g, o = numpy.split(a, 4, axis=-1)
        return numpy.concatenate([i, g, f, o], axis=-1)

    forget = np.repeat(np.array([0, 1, 0, 0], np.float32), NODES)
    w = swapped(np.concatenate([it.w_i, it.w_h]))
    params = {"lstm/linear": {"w": w, "b": swapped(it.b - forget)}}

    def names(by):
        w, b = (swapped(by["lstm/linear"][name], jnp) for name in ("w", "b"))
        return w[: len(it.w_i)], w[len(it.w_i) :], b

    return jitted(network.apply, params, it, gradient, names)
