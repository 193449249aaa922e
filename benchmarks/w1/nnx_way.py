"""Flax nnx."""


def trained(problem, dropout, x, y, shuffle):
    import jax.numpy as jnp
    from flax import nnx

    from benchmarks.training import nnx_loop

    rngs, layers = nnx.Rngs(0), []
    for w, b in problem.weights:
        linear = nnx.Linear(*w.shape, rngs=rngs)
        linear.kernel[...], linear.bias[...] = jnp.asarray(w), jnp.asarray(b)
        layers += [linear, nnx.relu, nnx.Dropout(dropout, rngs=rngs)]
    return nnx_loop.trained(nnx.Sequential(*layers[:-2]), x, y, problem.batch, shuffle)
