"""`jn.make_train`, by `jn.vmap_in_groups` and by `jax.vmap`."""

import jax
import jax.numpy as jnp

import jaxnodes as jn
from benchmarks.w6.problem import BATCH, RATE, keys, network, samples


def in_groups(count, shuffle):
    return _trained(count, shuffle, jn.vmap_in_groups)


def vmapped(count, shuffle):
    return _trained(count, shuffle, lambda f, in_axes: jax.jit(jax.vmap(f, in_axes)))


def _trained(count, shuffle, mapped):
    data = tuple(map(jnp.asarray, samples()))
    rates = jnp.full(count, RATE)
    of_epochs = {}

    def run(epochs):
        if epochs not in of_epochs:
            train = jn.make_train(
                network(),
                loss=jn.cross_entropy,
                optimizer=jn.adam,
                epochs=epochs,
                batch_size=BATCH,
                shuffle=shuffle,
                ragged="drop",
            )
            of_epochs[epochs] = mapped(train, in_axes=(0, None, 0))
        return of_epochs[epochs](keys(count), data, rates).history["loss"]

    return run
