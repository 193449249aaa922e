"""A Python loop over a jitted, donated step; and a scan over the same step."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.training.problems import RATE, orders


def step_of(apply):
    """`step(state, x, y, indices) -> (state, loss)`, from `apply(params, x, key) -> logits`."""
    optimizer = optax.adam(RATE)

    def objective(params, x, y, key):
        logits = apply(params, x, key)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    def step(state, x, y, indices):
        params, opt_state, key = state
        key, used = jax.random.split(key)
        loss, grads = jax.value_and_grad(objective)(params, x[indices], y[indices], used)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state, key), loss

    def start(params):
        params = jax.tree.map(jnp.array, params)
        return params, optimizer.init(params), jax.random.key(0)

    return step, start


def looped(step, state, x, y, batch, shuffle):
    """A compiled `step(state, x, y, indices)` called once a batch."""
    x, y = jnp.asarray(x), jnp.asarray(y)
    epochs_of = orders(len(y), batch, shuffle)

    def run(epochs):
        nonlocal state
        means = []
        for _ in range(epochs):
            losses = []
            for indices in next(epochs_of):
                state, loss = step(state, x, y, indices)
                losses.append(loss)
            means.append(np.mean(jax.device_get(losses)))
        return np.array(means)

    return run


def trained(apply, params, x, y, batch, shuffle):
    """The loop of a jitted step of a pure function."""
    step, start = step_of(apply)
    return looped(jax.jit(step, donate_argnums=0), start(params), x, y, batch, shuffle)


def scanned(apply, params, x, y, batch, shuffle):
    """An epoch as one `jax.lax.scan`, compiled and donated."""
    step, start = step_of(apply)
    state = start(params)
    x, y = jnp.asarray(x), jnp.asarray(y)
    epochs_of = orders(len(y), batch, shuffle)

    @functools.partial(jax.jit, donate_argnums=0)
    def epoch(state, x, y, order):
        state, losses = jax.lax.scan(lambda state, i: step(state, x, y, i), state, order)
        return state, losses.mean()

    def run(epochs):
        nonlocal state
        means = []
        for _ in range(epochs):
            state, mean = epoch(state, x, y, next(epochs_of))
            means.append(mean)
        return np.array(jax.device_get(means))

    return run
