"""JAX and optax alone: the network as a function, in a loop of steps and in a scan."""

import jax
from jax.lax import conv_general_dilated, max, reduce_window

from benchmarks.training import jax_loop


def apply(params, x, key):
    *convolutions, (w1, b1), (w2, b2) = params
    for w, b in convolutions:
        x = conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        x = jax.nn.relu(x + b)
        x = reduce_window(x, -jax.numpy.inf, max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    x = jax.nn.relu(x.reshape(len(x), -1) @ w1 + b1)
    return x @ w2 + b2


def looped(problem, dropout, x, y, shuffle):
    return jax_loop.trained(apply, problem.weights, x, y, problem.batch, shuffle)


def scanned(problem, dropout, x, y, shuffle):
    return jax_loop.scanned(apply, problem.weights, x, y, problem.batch, shuffle)
