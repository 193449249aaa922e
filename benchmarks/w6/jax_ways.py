"""JAX and optax alone, a network's whole run vmapped; and equinox's `filter_vmap` of a step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.w6.problem import BATCH, RATE, orders, samples, weights


def by_hand(count, shuffle):
    x, y = map(jnp.asarray, samples())
    steps = len(y) // BATCH
    optimizer = optax.adam(RATE)
    start = jax.tree.map(jnp.asarray, weights(count))
    keys = jax.random.split(jax.random.key(1), count)

    def objective(params, x, y):
        *hidden, (w, b) = params
        for w_h, b_h in hidden:
            x = jax.nn.relu(x @ w_h + b_h)
        return optax.softmax_cross_entropy_with_integer_labels(x @ w + b, y).mean()

    def step(state, indices):
        params, opt_state = state
        loss, grads = jax.value_and_grad(objective)(params, x[indices], y[indices])
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), loss

    def epoch(state, key):
        order = jax.random.permutation(key, len(y)) if shuffle else jnp.arange(len(y))
        state, losses = jax.lax.scan(step, state, order[: steps * BATCH].reshape(steps, BATCH))
        return state, losses.mean()

    def whole(params, key, epochs):
        keys = jax.random.split(key, epochs)
        return jax.lax.scan(epoch, (params, optimizer.init(params)), keys)[1]

    train = jax.jit(jax.vmap(whole, in_axes=(0, 0, None)), static_argnums=2)
    return lambda epochs: train(start, keys, epochs)


def equinox(count, shuffle):
    import equinox as eqx

    x, y = map(jnp.asarray, samples())
    optimizer = optax.adam(RATE)

    def one(layers):
        linears = []
        for w, b in layers:
            linear = eqx.nn.Linear(*w.shape, key=jax.random.key(0))
            linear = eqx.tree_at(lambda m: (m.weight, m.bias), linear, (w.T, b))
            linears += [linear, eqx.nn.Lambda(jax.nn.relu)]
        return eqx.nn.Sequential(linears[:-1])

    @eqx.filter_value_and_grad
    def objective(model, x, y):
        logits = jax.vmap(model)(x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    def step(model, opt_state, x, y):
        loss, grads = objective(model, x, y)
        updates, opt_state = optimizer.update(grads, opt_state, eqx.filter(model, eqx.is_array))
        return eqx.apply_updates(model, updates), opt_state, loss

    @eqx.filter_jit(donate="all-except-first")
    def step_all(batches_of, state):
        x, y, indices = batches_of
        model, opt_state, loss = eqx.filter_vmap(step)(*state, x[indices], y[indices])
        return (model, opt_state), loss

    start = jax.tree.map(jnp.asarray, weights(count))

    def run(epochs):
        rng = np.random.default_rng(1)
        models = eqx.filter_vmap(one)(start)
        state = (models, eqx.filter_vmap(optimizer.init)(eqx.filter(models, eqx.is_array)))
        means = []
        for _ in range(epochs):
            losses = []
            for indices in orders(rng, count, shuffle):
                state, loss = step_all((x, y, indices), state)
                losses.append(loss)
            means.append(np.mean(jax.device_get(losses), axis=0))
        return np.stack(means, axis=1)

    return run
