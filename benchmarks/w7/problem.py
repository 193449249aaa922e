"""Parameters and gradients of W7."""

import numpy as np

#: Leaves and the size of each.
KINDS = {"large": (1, 10_000_000), "many": (1_000, 1_000)}
RATE = 1e-3


def problem(kind: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Random float32 parameters and gradients, lists of leaves."""
    count, size = KINDS[kind]
    rng = np.random.default_rng(0)
    params, grads = (list(rng.standard_normal((count, size), np.float32)) for _ in range(2))
    return params, grads


def step_bytes(kind: str) -> float:
    """Parameters and both moments read and written, gradients read, 4 bytes each."""
    count, size = KINDS[kind]
    return 7 * 4 * count * size
