"""Keras on JAX: `LSTM` and `GRU` as pure functions (`stateless_call`), jitted."""

import numpy as np

from benchmarks.training.keras_fit import load
from benchmarks.w3.problem import BATCH, INPUTS, NODES, STEPS, jitted, problem


def make(kind, gradient):
    keras = load()
    import jax.numpy as jnp

    it = problem(kind)
    layer = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU}[kind](NODES, return_sequences=True)
    layer.build((BATCH, STEPS, INPUTS))

    def swapped(a, numpy=np):
        """A GRU's gates r, z, n as keras's z, r, n, or back; an LSTM's are alike."""
        if kind == "lstm":
            return a
        r, z, n = numpy.split(a, 3, axis=-1)
        return numpy.concatenate([z, r, n], axis=-1)

    b = swapped(it.b)
    params = [swapped(it.w_i), swapped(it.w_h), np.stack([b, 0 * b]) if kind == "gru" else b]
    rest = [v.value for v in layer.non_trainable_variables]

    def forward(params, x):
        return layer.stateless_call(params, rest, x)[0]

    def names(by):
        w_i, w_h, b = by
        b = b[0] if kind == "gru" else b
        return swapped(w_i, jnp), swapped(w_h, jnp), swapped(b, jnp)

    return jitted(forward, params, it, gradient, names)
