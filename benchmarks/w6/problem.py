"""The digits, the network and the seeds of W6."""

import functools

import jax
import numpy as np

import jaxnodes as jn

SIZES = (64, 64, 32, 10)
NETWORKS, EPOCHS, BATCH, RATE = 256, 10, 32, 1e-3


@functools.cache
def samples() -> tuple[np.ndarray, np.ndarray]:
    """1,797 digits of 8 x 8 pixels in [0, 1], and their labels."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return (x / 16).astype(np.float32), y.astype(np.int32)


def network():
    return jn.fully_connected(list(SIZES))


def keys(count: int) -> jax.Array:
    """One for each network."""
    return jax.random.split(jax.random.key(0), count)


def weights(count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """What `jn.make_train` starts from with these keys: (count, in, out) and (count, out)."""
    spec = jax.ShapeDtypeStruct((BATCH, SIZES[0]), np.float32)

    def of_one(key):
        return network().init(jax.random.split(key)[0], spec)[0]

    params = jax.vmap(of_one)(keys(count))
    return [(np.array(layer["w"]), np.array(layer["b"])) for layer in params.values()]


def orders(rng: np.random.Generator, count: int, shuffle: bool) -> np.ndarray:
    """An epoch's batches of each network, (steps, count, batch)."""
    n = len(samples()[1])
    rows = [rng.permutation(n) if shuffle else np.arange(n) for _ in range(count)]
    kept = np.stack(rows)[:, : n // BATCH * BATCH].astype(np.int32)
    return kept.reshape(count, -1, BATCH).swapaxes(0, 1)
