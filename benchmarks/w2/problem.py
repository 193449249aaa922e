"""The network and the samples of W2."""

import math

import numpy as np

from benchmarks.training.problems import Problem

SAMPLES, BATCH, EPOCHS = 2_048, 64, 1
STEPS = EPOCHS * (SAMPLES // BATCH)
SHAPE = (28, 28, 1)
#: Convolutions as HWIO, dense layers as (in, out); 28 x 28 pixels are pooled to 14, and to 7.
KERNELS = ((3, 3, 1, 32), (3, 3, 32, 64), (7 * 7 * 64, 128), (128, 10))


def problem() -> Problem:
    """Random images with labels that a network can learn, and He's initial weights."""
    rng = np.random.default_rng(0)
    x = rng.random((SAMPLES, *SHAPE), np.float32)
    seen = (x - 0.5).reshape(SAMPLES, -1)
    y = np.argmax(seen @ rng.standard_normal((seen.shape[1], 10)), axis=1).astype(np.int32)
    weights = []
    for shape in KERNELS:
        w = rng.standard_normal(shape) * np.sqrt(2 / math.prod(shape[:-1]))
        weights.append((w.astype(np.float32), np.zeros(shape[-1], np.float32)))
    return Problem(x, y, weights, dropout=0.0, batch=BATCH)


def step_flops() -> float:
    """Of a step's products: forward, weight gradients, and but for the first layer inputs'."""
    pixels = (28 * 28, 14 * 14, 1, 1)
    products = zip(KERNELS, pixels, strict=True)
    first, *others = [2 * BATCH * n * math.prod(shape) for shape, n in products]
    return 2 * first + 3 * sum(others)
