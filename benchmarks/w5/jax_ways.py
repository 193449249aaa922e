"""What JAX gives without analysis: a loop of a jitted evaluation, and `jax.vmap` by layer."""

import jax
import jax.numpy as jnp

import jaxnodes as jn
from benchmarks.w5.problem import SIZES, problem


def make_loop():
    net, variables, x, y = problem()

    @jax.jit
    def accuracy(params, x, y):
        return jn.accuracy(net.predict((params, {}), x), y)

    def run():
        params, drops = variables[0], []
        whole = accuracy(params, x, y)
        for name, layer in params.items():
            changed = [
                {**params, name: {**layer, "w": layer["w"].at[:, i].set(0)}}
                for i in range(layer["w"].shape[1])
            ]
            drops.append(jnp.stack([whole - accuracy(p, x, y) for p in changed]))
        return drops

    return run


def make_vmap(at_once: int = 32):
    """Each layer's nodes gated together, everything behind batched."""
    net, variables, x, y = problem()

    def drops_of(name, size, variables, x, y):
        def without(gate):
            last = name == f"dense{len(SIZES) - 1}"
            b = variables[0][name]["b"]
            patch = {name: (gate, b if last else jn.relu(b))}
            return jn.accuracy(jn.intervene(net.predict)(patch, variables, x), y)

        return jax.lax.map(without, 1 - jnp.eye(size), batch_size=at_once)

    compiled = jax.jit(drops_of, static_argnums=(0, 1))
    whole = jax.jit(lambda variables, x, y: jn.accuracy(net.predict(variables, x), y))

    def run():
        base = whole(variables, x, y)
        return [
            base - compiled(f"dense{i}", size, variables, x, y)
            for i, size in enumerate(SIZES[1:], 1)
        ]

    return run
