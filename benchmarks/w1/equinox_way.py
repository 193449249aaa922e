"""Equinox."""


def trained(problem, dropout, x, y, shuffle):
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    from benchmarks.training import equinox_loop

    layers = []
    for w, b in problem.weights:
        linear = eqx.nn.Linear(*w.shape, key=jax.random.key(0))
        arrays = (jnp.asarray(w.T), jnp.asarray(b))
        linear = eqx.tree_at(lambda layer: (layer.weight, layer.bias), linear, arrays)
        layers += [linear, eqx.nn.Lambda(jax.nn.relu), eqx.nn.Dropout(dropout)]
    model = eqx.nn.Sequential(layers[:-2])
    return equinox_loop.trained(model, x, y, problem.batch, shuffle)
