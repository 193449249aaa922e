"""Weights drawn by NumPy: nothing is compiled for them, however many shapes there are."""

import jax
import jax.numpy as jnp
import numpy as np


def drawn_variables(net, x, seed=0):
    """Random weights, biases and scales in the shapes of `net`'s; the state that it begins with.

    Args:
      net: a layer.
      x: a batch for it.
      seed: of the draws.

    Returns:
      `variables` as of `net.init`; its weights are as large as those of `he_normal`.
    """
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        size = np.sqrt(2 / np.prod(leaf.shape[:-1])) if leaf.ndim > 1 else 0.1
        mean = 1.0 if path[-1].key == "scale" else 0.0
        return jnp.asarray(rng.normal(mean, size, leaf.shape).astype(leaf.dtype))

    key = jax.random.key(seed)
    params, state = jax.eval_shape(net.init, key, x)
    if state:
        state = jax.jit(lambda key: net.init(key, x)[1])(key)
    return jax.tree_util.tree_map_with_path(draw, params), state
