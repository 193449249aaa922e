"""`jn.adam` and `optax.adam`, the update applied, jitted and donated."""

import functools

import jax
import jax.numpy as jnp
import optax

import jaxnodes as jn
from benchmarks.w7.problem import RATE, problem

OPTIMIZERS = {"jaxnodes": jn.adam, "optax": optax.adam}


def _stepper(library, kind):
    optimizer = OPTIMIZERS[library](RATE)
    params, grads = jax.tree.map(jnp.array, problem(kind))
    opt_state = optimizer.init(params)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params, opt_state, grads):
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    def run():
        nonlocal params, opt_state
        params, opt_state = step(params, opt_state, grads)
        return params

    return run


def make(library, kind):
    run = _stepper(library, kind)
    # Waited for in here: the next call takes the arrays away.
    return lambda: jax.block_until_ready(run()) and None


def answer(library, kind):
    run = _stepper(library, kind)
    for _ in range(2):
        run()
    return jnp.concatenate(run())
