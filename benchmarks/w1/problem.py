"""The network and the samples of W1."""

import itertools

import numpy as np

from benchmarks.training.problems import Problem

SIZES = (784, 256, 128, 10)
SAMPLES, BATCH, EPOCHS = 10_000, 64, 3
STEPS = EPOCHS * (SAMPLES // BATCH)


def problem() -> Problem:
    """Random images with labels that a network can learn, and He's initial weights."""
    rng = np.random.default_rng(0)
    x = rng.random((SAMPLES, SIZES[0]), np.float32)
    y = np.argmax((x - 0.5) @ rng.standard_normal((SIZES[0], SIZES[-1])), axis=1).astype(np.int32)
    weights = [
        (
            (rng.standard_normal((a, b)) * np.sqrt(2 / a)).astype(np.float32),
            np.zeros(b, np.float32),
        )
        for a, b in itertools.pairwise(SIZES)
    ]
    return Problem(x, y, weights, dropout=0.5, batch=BATCH)


def step_flops() -> float:
    """Of a step's products: forward, weight gradients, and but for the first layer inputs'."""
    first, *others = [2 * BATCH * a * b for a, b in itertools.pairwise(SIZES)]
    return 2 * first + 3 * sum(others)
