"""Two loops over half of the rows, against one scan over all of them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnodes.layers.side_by_side import halves, side_by_side


def step(constants, carry, slices, keep):
    w, b = constants
    h, count = carry
    (x, valid), a = slices
    z = keep(h @ w) + keep(x * b)
    new = jnp.where(valid, jnp.tanh(z), h)
    y = {"h": new, "n": count}
    return (new, count + valid.astype(count.dtype)), (y, {"z": keep(z * a), "x": x})


def problem(rows, steps, dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(rows), 6)
    constants = (jax.random.normal(keys[0], (4, 4), dtype), jax.random.normal(keys[1], (4,), dtype))
    carry = (jax.random.normal(keys[2], (rows, 4), dtype), jnp.arange(rows)[:, None])
    xs = (
        jax.random.normal(keys[3], (steps, rows, 4), dtype),
        jax.random.bernoulli(keys[4], 0.7, (steps, rows, 1)),
    )
    return constants, carry, xs, jax.random.normal(keys[5], (steps, rows, 4), dtype)


def ours(constants, carry, xs, a, reverse=False):
    last, ys, bs = side_by_side(step, constants, carry, xs, halves(a, 1), reverse=reverse)
    return last, (ys, jax.tree.map(lambda *b: jnp.concatenate(b, axis=1), *bs))


def scanned(constants, carry, xs, a, reverse=False):
    def body(carry, slices):
        return step(constants, carry, slices, lambda value: value)

    return jax.lax.scan(body, carry, (xs, a), reverse=reverse)


def assert_close(a, b, rtol=1e-5):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert (x.dtype, x.shape) == (y.dtype, y.shape)
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        np.testing.assert_allclose(x, y, rtol=rtol, atol=1e-5)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("rows", "steps"), [(2, 1), (5, 3), (8, 6)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_is_a_scan(rows, steps, reverse, dtype):
    arguments = problem(rows, steps, jnp.dtype(dtype))
    run = jax.jit(functools.partial(ours, reverse=reverse))
    theirs = jax.jit(functools.partial(scanned, reverse=reverse))
    rtol = 1e-5 if dtype == "float32" else 0.05
    assert_close(run(*arguments), theirs(*arguments), rtol)


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
def test_what_is_not_finite_stays_in_its_row(bad):
    constants, carry, (x, valid), a = problem(6, 4)
    arguments = constants, carry, (x.at[1, 2].set(bad), jnp.ones_like(valid)), a
    assert_close(ours(*arguments), scanned(*arguments))
    assert np.isfinite(ours(*arguments)[0][0][jnp.array([0, 1, 3, 4, 5])]).all()


def test_many_at_once():
    many = jax.tree.map(lambda *a: jnp.stack(a), *[problem(4, 3) for _ in range(3)])
    assert_close(jax.jit(jax.vmap(ours))(*many), jax.vmap(scanned)(*many))


def test_in_a_loop():
    constants, carry, *xs = problem(6, 4)

    def twice(form):
        return jax.lax.scan(lambda c, _: form(constants, c, *xs), carry, length=2)

    assert_close(jax.jit(twice, static_argnums=0)(ours), twice(scanned))


def test_halves():
    x = jnp.arange(10).reshape(2, 5)
    a, b = halves({"x": x}, 1)
    np.testing.assert_array_equal(a["x"], x[:, :2])
    np.testing.assert_array_equal(b["x"], x[:, 2:])
