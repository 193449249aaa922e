"""Keras on JAX."""

from benchmarks.training import keras_fit


def trained(problem, dropout, x, y, shuffle):
    keras = keras_fit.load()
    layers = [keras.Input(x.shape[1:])]
    for w, _ in problem.weights[:-1]:
        layers += [
            keras.layers.Dense(w.shape[1], "relu"),
            *([keras.layers.Dropout(dropout)] if dropout else []),
        ]
    layers.append(keras.layers.Dense(problem.weights[-1][0].shape[1]))
    model = keras.Sequential(layers)
    return keras_fit.trained(model, problem.weights, x, y, problem.batch, shuffle)
