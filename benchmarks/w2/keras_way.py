"""Keras on JAX."""

from benchmarks.training import keras_fit


def trained(problem, dropout, x, y, shuffle):
    keras = keras_fit.load()
    layers = [keras.Input(x.shape[1:])]
    for w, _ in problem.weights[:2]:
        layers += [
            keras.layers.Conv2D(w.shape[-1], 3, padding="same", activation="relu"),
            keras.layers.MaxPooling2D(2),
        ]
    layers += [
        keras.layers.Flatten(),
        keras.layers.Dense(128, "relu"),
        keras.layers.Dense(10),
    ]
    model = keras.Sequential(layers)
    return keras_fit.trained(model, problem.weights, x, y, problem.batch, shuffle)
