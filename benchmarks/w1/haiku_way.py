"""Haiku."""

from benchmarks.training import jax_loop


def trained(problem, dropout, x, y, shuffle):
    import haiku as hk
    import jax

    @hk.transform
    def network(x):
        *hidden, last = [hk.Linear(w.shape[1]) for w, _ in problem.weights]
        for layer in hidden:
            x = hk.dropout(hk.next_rng_key(), dropout, jax.nn.relu(layer(x)))
        return last(x)

    names = ["linear", *(f"linear_{i}" for i in range(1, len(problem.weights)))]
    named = zip(names, problem.weights, strict=True)
    params = {name: {"w": w, "b": b} for name, (w, b) in named}

    def apply(params, x, key):
        return network.apply(params, key, x)

    return jax_loop.trained(apply, params, x, y, problem.batch, shuffle)
