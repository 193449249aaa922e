"""What depends on the data: through loops and branches, by value and by way."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxnodes.transforms import node_sites

X = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
W1 = np.ones((4, 5), np.float32)


def test_data_reaches_through_loops_and_branches():
    def f(w, n, x):
        start = jnp.zeros((2, 4))
        carry, _ = jax.lax.scan(lambda c, _: (c + x.sum(), None), start, None, length=2)
        by_count = jax.lax.while_loop(lambda c: c[0, 0] < n, lambda c: c + 1, start)
        by_branch = jax.lax.cond(n > 1, lambda: start, lambda: start + 1)
        return [a @ w for a in (start, carry, by_count, by_branch)]

    assert [site.name for site in node_sites(f, W1, 3, X, auto=True)] == [
        "dense1",
        "dense2",
        "dense3",
    ]
