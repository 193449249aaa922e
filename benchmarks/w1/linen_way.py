"""Flax linen."""

from benchmarks.training import jax_loop


def trained(problem, dropout, x, y, shuffle):
    from flax import linen as nn

    class Network(nn.Module):
        @nn.compact
        def __call__(self, x):
            for w, _ in problem.weights[:-1]:
                x = nn.relu(nn.Dense(w.shape[1])(x))
                x = nn.Dropout(dropout, deterministic=False)(x)
            return nn.Dense(problem.weights[-1][0].shape[1])(x)

    def apply(params, x, key):
        return Network().apply({"params": params}, x, rngs={"dropout": key})

    params = {f"Dense_{i}": {"kernel": w, "bias": b} for i, (w, b) in enumerate(problem.weights)}
    return jax_loop.trained(apply, params, x, y, problem.batch, shuffle)
