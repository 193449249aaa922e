"""Small problems that the training tests share."""

import jax.numpy as jnp
import numpy as np

import jaxnodes as jn


def blobs(n=50, classes=3, features=4, seed=0):
    """Points around one center a class: (x, y), easy to tell apart."""
    rng = np.random.default_rng(seed)
    centers = 3 * rng.normal(size=(classes, features))
    y = rng.integers(0, classes, n)
    x = centers[y] + rng.normal(size=(n, features))
    return jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.int32)


def line(n=40):
    """y = 2 x1 - 3 x2 + 1, without noise."""
    x = np.random.default_rng(1).normal(size=(n, 2)).astype(np.float32)
    return x, (x @ np.array([[2.0], [-3.0]]) + 1).astype(np.float32)


def classifier(rate=0.0):
    return jn.Sequential(jn.Dense(8, "relu"), jn.Dropout(rate), jn.Dense(3))
