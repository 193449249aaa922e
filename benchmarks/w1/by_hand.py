"""JAX and optax alone: the network as a function."""

import jax
import jax.numpy as jnp

from benchmarks.training import jax_loop


def _apply_with(dropout):
    def apply(params, x, key):
        *hidden, (w, b) = params
        for i, (w_h, b_h) in enumerate(hidden):
            x = jax.nn.relu(x @ w_h + b_h)
            if dropout:
                kept = jax.random.bernoulli(jax.random.fold_in(key, i), 1 - dropout, x.shape)
                x = jnp.where(kept, x / (1 - dropout), 0)
        return x @ w + b

    return apply


def scanned(problem, dropout, x, y, shuffle):
    return jax_loop.scanned(_apply_with(dropout), problem.weights, x, y, problem.batch, shuffle)
