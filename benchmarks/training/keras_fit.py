"""Keras's `model.fit` on JAX. The backend is chosen by the environment, before the import."""

import os

import numpy as np

from benchmarks.training.problems import RATE


def load():
    """Keras on JAX."""
    os.environ["KERAS_BACKEND"] = "jax"
    import keras

    return keras


def trained(model, weights, x, y, batch, shuffle):
    """`fit` of a built model; weights in keras's order."""
    keras = load()
    model.set_weights([array for pair in weights for array in pair])
    # Keras adds epsilon before it corrects the variance's bias: this is 1e-8 at the first step.
    model.compile(
        keras.optimizers.Adam(RATE, epsilon=3e-10),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    kept = len(y) // batch * batch
    x, y = x[:kept], y[:kept]

    def run(epochs):
        history = model.fit(x, y, batch, epochs, verbose=0, shuffle=shuffle)
        return np.array(history.history["loss"])

    return run
