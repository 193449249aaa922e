"""Flax's loop: `nnx.jit` of a step that changes model and optimizer, with its cached call."""

import optax
from flax import nnx

from benchmarks.training.jax_loop import looped
from benchmarks.training.problems import RATE


def trained(model, x, y, batch, shuffle):
    """The loop over a model that has its weights already."""
    optimizer = nnx.Optimizer(model, optax.adam(RATE), wrt=nnx.Param)

    def objective(model, x, y):
        return optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()

    @nnx.jit
    def step(model, optimizer, x, y, indices):
        loss, grads = nnx.value_and_grad(objective)(model, x[indices], y[indices])
        optimizer.update(model, grads)
        return loss

    cached = nnx.cached_partial(step, model, optimizer)
    return looped(lambda state, *args: (state, cached(*args)), None, x, y, batch, shuffle)
