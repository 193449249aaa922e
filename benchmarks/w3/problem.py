"""The sequences and the weights of W3, in NumPy; and what of JAX's peers is alike."""

from typing import Any, NamedTuple

import numpy as np

BATCH, STEPS, INPUTS, NODES = 32, 128, 64, 128


class Problem(NamedTuple):
    """A layer, its input, and how much each output weighs in the sum that is derived.

    Attributes:
      x: (B, T, D).
      weights: (B, T, H): the gradients are those of `sum(weights * y)`.
      w_i: (D, gates * H); gates i, f, g, o of an LSTM, and r, z, n of a GRU.
      w_h: (H, gates * H).
      b: (gates * H,). A GRU's second bias of n, which flax hasn't got, is zero.
    """

    x: np.ndarray
    weights: np.ndarray
    w_i: np.ndarray
    w_h: np.ndarray
    b: np.ndarray


def problem(kind: str) -> Problem:
    """Random numbers, the gates' of a size that saturates none."""
    rng = np.random.default_rng(0)
    width = {"lstm": 4, "gru": 3}[kind] * NODES

    def normal(*shape, scale=1.0):
        return (scale * rng.standard_normal(shape)).astype(np.float32)

    return Problem(
        x=normal(BATCH, STEPS, INPUTS),
        weights=normal(BATCH, STEPS, NODES),
        w_i=normal(INPUTS, width, scale=INPUTS**-0.5),
        w_h=normal(NODES, width, scale=NODES**-0.5),
        b=normal(width, scale=0.1),
    )


def flops(kind: str, gradient: bool) -> float:
    """Of the products: forward; and twice as many again backward, by inputs and by weights."""
    width = {"lstm": 4, "gru": 3}[kind] * NODES
    forward = 2 * BATCH * STEPS * (INPUTS + NODES) * width
    return forward * (3 if gradient else 1)


def jitted(forward: Any, params: Any, it: Problem, gradient: bool, names: Any = None) -> Any:
    """`forward(params, x) -> y`, or the gradients by x and the parameters, compiled.

    `names(gradients)` brings those of the parameters into the form (w_i, w_h, b).
    """
    import jax
    import jax.numpy as jnp

    params = jax.tree.map(jnp.asarray, params)
    x, weights = jnp.asarray(it.x), jnp.asarray(it.weights)

    def both(params, x, weights):
        y, back = jax.vjp(forward, params, x)
        by_params, by_x = back(weights)
        return y, by_x, by_params if names is None else names(by_params)

    compiled = jax.jit(both if gradient else lambda params, x, _: forward(params, x))
    return lambda: compiled(params, x, weights)
