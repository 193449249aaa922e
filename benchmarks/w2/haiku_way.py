"""Haiku."""

from benchmarks.training import jax_loop


def trained(problem, dropout, x, y, shuffle):
    import haiku as hk
    import jax

    @hk.without_apply_rng
    @hk.transform
    def network(x):
        for w, _ in problem.weights[:2]:
            x = jax.nn.relu(hk.Conv2D(w.shape[-1], 3)(x))
            x = hk.max_pool(x, 2, 2, "VALID", channel_axis=-1)
        x = jax.nn.relu(hk.Linear(128)(x.reshape(len(x), -1)))
        return hk.Linear(10)(x)

    def apply(params, x, key):
        return network.apply(params, x)

    names = ("conv2_d", "conv2_d_1", "linear", "linear_1")
    named = zip(names, problem.weights, strict=True)
    params = {name: {"w": w, "b": b} for name, (w, b) in named}
    return jax_loop.trained(apply, params, x, y, problem.batch, shuffle)
