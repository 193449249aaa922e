"""Two loops over half of the rows, against one scan over all of them."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnodes.layers.cell_parts import GRU_CELL, LSTM_CELL, simple_rnn_with
from jaxnodes.layers.side_by_side import side_by_side


def step(constants, carry, x, keep):
    w, b = constants
    h, count = carry
    x, valid = x
    z = keep(h @ w) + keep(x * b)
    new = jnp.where(valid, jnp.tanh(z), h)
    return (new, count + valid.astype(count.dtype)), {"h": new, "z": keep(z * 2), "n": count}


def problem(rows, steps, dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(rows), 5)
    constants = (jax.random.normal(keys[0], (4, 4), dtype), jax.random.normal(keys[1], (4,), dtype))
    carry = (jax.random.normal(keys[2], (rows, 4), dtype), jnp.arange(rows)[:, None])
    xs = (
        jax.random.normal(keys[3], (steps, rows, 4), dtype),
        jax.random.bernoulli(keys[4], 0.7, (steps, rows, 1)),
    )
    return constants, carry, xs


def scanned(constants, carry, xs, reverse):
    def body(carry, x):
        return step(constants, carry, x, lambda value: value)

    return jax.lax.scan(body, carry, xs, reverse=reverse)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("rows", "steps"), [(2, 1), (5, 3), (8, 6)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_is_a_scan(rows, steps, reverse, dtype):
    arguments = problem(rows, steps, jnp.dtype(dtype))
    ours = jax.jit(lambda *a: side_by_side(step, *a, reverse=reverse))(*arguments)
    theirs = jax.jit(lambda *a: scanned(*a, reverse))(*arguments)
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        np.testing.assert_allclose(a, b, rtol=1e-5 if dtype == "float32" else 0.05, atol=1e-5)


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
def test_what_is_not_finite_stays_in_its_row(bad):
    constants, carry, (x, valid) = problem(6, 4)
    x = x.at[1, 2].set(bad)
    valid = jnp.ones_like(valid)
    ours = side_by_side(step, constants, carry, (x, valid))
    theirs = scanned(constants, carry, (x, valid), False)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), ours, theirs)


def test_many_at_once():
    arguments = [problem(4, 3), problem(4, 3), problem(4, 3)]
    many = jax.tree.map(lambda *a: jnp.stack(a), *arguments)
    ours = jax.jit(jax.vmap(lambda *a: side_by_side(step, *a)))(*many)
    theirs = jax.vmap(lambda *a: scanned(*a, False))(*many)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), ours, theirs)


def test_in_a_loop():
    constants, carry, xs = problem(6, 4)

    def twice(form):
        return jax.lax.scan(lambda c, _: (form(constants, c, xs)[0], None), carry, length=2)[0]

    ours = jax.jit(lambda: twice(lambda *a: side_by_side(step, *a)))()
    theirs = twice(lambda *a: scanned(*a, False))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), ours, theirs)


@pytest.mark.parametrize("cell", [LSTM_CELL, GRU_CELL, simple_rnn_with(jnp.tanh)])
def test_no_memory_is_shared(cell):
    """Else the second loop would wait for the first one: read off what XLA compiled."""
    gates = {LSTM_CELL: 4, GRU_CELL: 3}.get(cell, 1)
    biases = 4 if cell == GRU_CELL else gates
    params = {"w_i": jnp.ones((5, 6 * gates)), "w_h": jnp.ones((6, 6 * gates))}
    params["b"] = jnp.ones(6 * biases)

    def of_cell(weights, carry, x, keep):
        carry = cell.act(cell.pre(weights, x, carry[0], keep), carry)
        return carry, carry[0]

    carry = (jnp.ones((8, 6)), jnp.zeros((8, 6)))[: 2 if cell == LSTM_CELL else 1]
    run = jax.jit(lambda *a: side_by_side(of_cell, *a))
    text = run.lower(cell.weights(params), carry, jnp.ones((7, 8, 5))).compile().as_text()
    loops = [line for line in text.splitlines() if " while(" in line and "u32[]" in line]
    assert len(loops) == 2
    for line in loops:
        body = line.split("body=")[1].split(",")[0]
        *lines, root = text.split(f"\n{body} (")[1].split("\n}")[0].splitlines()[1:]
        carried = re.findall(r"%[\w.-]+", root.split(" tuple(")[1].split(")")[0])
        views = ("get-tuple-element(", "parameter(", "constant(", "bitcast(")
        made = [line.split()[0] for line in lines if not any(view in line for view in views)]
        assert "dynamic-update-slice" in text
        assert made
        assert set(made) <= set(carried)
