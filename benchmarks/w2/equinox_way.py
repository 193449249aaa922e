"""Equinox: channels first, a sample at a time."""

import numpy as np


def trained(problem, dropout, x, y, shuffle):
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    from benchmarks.training import equinox_loop

    *convolutions, (w1, b1), (w2, b2) = problem.weights
    relu, key = eqx.nn.Lambda(jax.nn.relu), jax.random.key(0)

    def filled(layer, w, b):
        arrays = (jnp.asarray(w), jnp.asarray(b).reshape(layer.bias.shape))
        return eqx.tree_at(lambda layer: (layer.weight, layer.bias), layer, arrays)

    layers = []
    for w, b in convolutions:
        layer = eqx.nn.Conv2d(*w.shape[2:], 3, padding="SAME", key=key)
        layers += [filled(layer, w.transpose(3, 2, 0, 1), b), relu, eqx.nn.MaxPool2d(2, 2)]
    rows = w1.reshape(7, 7, 64, -1).transpose(2, 0, 1, 3).reshape(w1.shape)
    layers += [
        eqx.nn.Lambda(jnp.ravel),
        filled(eqx.nn.Linear(*w1.shape, key=key), rows.T, b1),
        relu,
        filled(eqx.nn.Linear(*w2.shape, key=key), w2.T, b2),
    ]
    x = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    return equinox_loop.trained(eqx.nn.Sequential(layers), x, y, problem.batch, shuffle)
