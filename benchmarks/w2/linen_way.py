"""Flax linen."""

from benchmarks.training import jax_loop


def trained(problem, dropout, x, y, shuffle):
    from flax import linen as nn

    class Network(nn.Module):
        @nn.compact
        def __call__(self, x):
            for w, _ in problem.weights[:2]:
                x = nn.max_pool(nn.relu(nn.Conv(w.shape[-1], (3, 3))(x)), (2, 2), (2, 2))
            x = nn.relu(nn.Dense(128)(x.reshape(len(x), -1)))
            return nn.Dense(10)(x)

    def apply(params, x, key):
        return Network().apply({"params": params}, x)

    names = ("Conv_0", "Conv_1", "Dense_0", "Dense_1")
    named = zip(names, problem.weights, strict=True)
    params = {name: {"kernel": w, "bias": b} for name, (w, b) in named}
    return jax_loop.trained(apply, params, x, y, problem.batch, shuffle)
