"""Equinox: a cell in a scan, as its documentation has it, for every sequence of the batch."""

from benchmarks.w3.problem import INPUTS, NODES, jitted, problem


def make(kind, gradient):
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    it = problem(kind)
    cell = {"lstm": eqx.nn.LSTMCell, "gru": eqx.nn.GRUCell}[kind]
    cell = cell(INPUTS, NODES, key=jax.random.key(0))
    cell = eqx.tree_at(
        lambda c: (c.weight_ih, c.weight_hh, c.bias),
        cell,
        (jnp.asarray(it.w_i.T), jnp.asarray(it.w_h.T), jnp.asarray(it.b)),
    )
    if kind == "gru":
        cell = eqx.tree_at(lambda c: c.bias_n, cell, jnp.zeros(NODES))
    arrays, rest = eqx.partition(cell, eqx.is_array)

    def forward(arrays, x):
        cell = eqx.combine(arrays, rest)

        def of_one(x):
            def step(carry, x):
                carry = cell(x, carry)
                return carry, carry[0] if kind == "lstm" else carry

            zeros = jnp.zeros(NODES)
            return jax.lax.scan(step, (zeros, zeros) if kind == "lstm" else zeros, x)[1]

        return jax.vmap(of_one)(x)

    def names(by):
        return by.weight_ih.T, by.weight_hh.T, by.bias

    return jitted(forward, arrays, it, gradient, names)
