"""The queries, keys and values of W4; and how a JAX function of them is timed."""

import numpy as np

BATCH, STEPS, HEADS, SIZE = 2, 2048, 8, 64


def problem() -> list[np.ndarray]:
    """q, k, v, and how much each output weighs in the sum that is derived, (B, T, heads, dim)."""
    rng = np.random.default_rng(0)
    return [rng.standard_normal((BATCH, STEPS, HEADS, SIZE), np.float32) for _ in range(4)]


def flops(causal: bool, gradient: bool) -> float:
    """Of the products: two forward, four backward. Causal is half of it."""
    product = 2 * BATCH * HEADS * STEPS * STEPS * SIZE
    return product * (2 + (4 if gradient else 0)) * (0.5 if causal else 1)


def jitted(attention, gradient):
    """`attention(q, k, v)` compiled, or its gradients beside its result."""
    import jax
    import jax.numpy as jnp

    q, k, v, weights = map(jnp.asarray, problem())

    def both(q, k, v, weights):
        y, back = jax.vjp(attention, q, k, v)
        return y, *back(weights)

    compiled = jax.jit(both if gradient else lambda q, k, v, _: attention(q, k, v))
    return lambda: compiled(q, k, v, weights)
