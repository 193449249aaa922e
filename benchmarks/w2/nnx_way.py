"""Flax nnx."""

import functools


def trained(problem, dropout, x, y, shuffle):
    import jax.numpy as jnp
    from flax import nnx

    from benchmarks.training import nnx_loop

    *convolutions, dense, last = problem.weights
    pool = functools.partial(nnx.max_pool, window_shape=(2, 2), strides=(2, 2))
    rngs, layers = nnx.Rngs(0), []

    def filled(layer, w, b):
        layer.kernel[...], layer.bias[...] = jnp.asarray(w), jnp.asarray(b)
        return layer

    for w, b in convolutions:
        layers += [filled(nnx.Conv(*w.shape[2:], (3, 3), rngs=rngs), w, b), nnx.relu, pool]
    layers += [
        lambda x: x.reshape(len(x), -1),
        filled(nnx.Linear(*dense[0].shape, rngs=rngs), *dense),
        nnx.relu,
        filled(nnx.Linear(*last[0].shape, rngs=rngs), *last),
    ]
    return nnx_loop.trained(nnx.Sequential(*layers), x, y, problem.batch, shuffle)
