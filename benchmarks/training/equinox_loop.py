"""Equinox's loop: `filter_jit` of a step that returns a new model, donated."""

import equinox as eqx
import jax
import optax

from benchmarks.training.jax_loop import looped
from benchmarks.training.problems import RATE


def trained(model, x, y, batch, shuffle):
    """The loop over a model of one sample that takes `key=`."""
    optimizer = optax.adam(RATE)

    @eqx.filter_value_and_grad
    def objective(model, x, y, key):
        keys = jax.random.split(key, batch)
        logits = jax.vmap(lambda x, key: model(x, key=key))(x, keys)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    @eqx.filter_jit(donate="all-except-first")
    def step(batch_of, state):
        (x, y, indices), (model, opt_state, key) = batch_of, state
        key, used = jax.random.split(key)
        loss, grads = objective(model, x[indices], y[indices], used)
        updates, opt_state = optimizer.update(grads, opt_state, eqx.filter(model, eqx.is_array))
        return (eqx.apply_updates(model, updates), opt_state, key), loss

    state = (model, optimizer.init(eqx.filter(model, eqx.is_array)), jax.random.key(0))
    return looped(lambda state, *args: step(args, state), state, x, y, batch, shuffle)
