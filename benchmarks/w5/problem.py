"""The network, the samples and the question of W5."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp

import jaxnodes as jn

SIZES = (784, 256, 128, 10)
SAMPLES = 10_000


def problem() -> tuple[Any, Any, jax.Array, jax.Array]:
    """A network with random weights and biases, images and labels that it is partly right on."""
    keys = jax.random.split(jax.random.key(0), 4)
    net = jn.fully_connected(list(SIZES))
    x = jax.random.uniform(keys[0], (SAMPLES, SIZES[0]))
    params, state = net.init(keys[1], x[:1])
    for i, layer in enumerate(params.values()):
        layer["b"] = 0.1 * jax.random.normal(jax.random.fold_in(keys[2], i), layer["b"].shape)
    right = jnp.argmax(net.predict((params, state), x), axis=1)
    wrong = jax.random.randint(keys[3], (SAMPLES,), 0, SIZES[-1])
    y = jnp.where(jnp.arange(SAMPLES) % 3 == 0, wrong, right)
    return net, (params, state), x, y


def multiply_adds() -> dict[str, float]:
    """Of each way, counted from the sizes: for N samples and a layer from `a` to `b` nodes."""
    pairs = list(itertools.pairwise(SIZES))
    forward = sum(a * b for a, b in pairs)
    nodes = sum(SIZES[1:])
    behind = 0  # every layer after the node's, whole
    thin = 0  # the next layer by one column, the others whole
    for i, (_, size) in enumerate(pairs):
        rest = [a * b for a, b in pairs[i + 1 :]]
        behind += size * sum(rest)
        if rest:
            thin += size * (pairs[i + 1][1] + sum(rest[1:]))
    whole = SAMPLES * forward * (nodes + 1)
    return {
        "loop": whole,
        "vmap": SAMPLES * (forward + behind),
        "thin": SAMPLES * (forward + thin),
    }
