"""Custom gradients: recording leaves them alone, intervening differentiates what is there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnodes.errors import JaxNodesError
from jaxnodes.primitive import node
from jaxnodes.transforms import intervene, record

X = np.float32([[1.0, -2.0, 3.0], [0.5, 0.25, -1.0]])
GATE = np.float32([1.0, 0.0, 0.5])


@jax.custom_vjp
def straight_through(x):
    return node(jnp.round(node(2 * x, "in")), "out")


straight_through.defvjp(lambda x: (jnp.round(2 * x), None), lambda _, g: (7 * g,))


@jax.custom_jvp
def odd(x):
    return node(jnp.round(node(2 * x, "in")), "out")


odd.defjvp(lambda primals, tangents: (odd(*primals), 7 * tangents[0]))


@pytest.mark.parametrize("f", [straight_through, odd], ids=["vjp", "jvp"])
def test_recording_leaves_custom_gradients_alone(f):
    def loss(x):
        return (f(x) * jnp.arange(1.0, 4.0)).sum()

    def recorded(x):
        return record(loss)(x)[0]

    y, nodes = record(f)(X)
    np.testing.assert_array_equal(nodes["in"], 2 * X)
    np.testing.assert_array_equal(nodes["out"], np.round(2 * X))
    np.testing.assert_array_equal(y, np.round(2 * X))
    expected = np.tile(np.float32([7.0, 14.0, 21.0]), (2, 1))
    for gradient in (
        jax.grad(recorded),
        jax.jit(jax.grad(recorded)),
        jax.grad(jax.jit(recorded)),
        jax.grad(jax.checkpoint(recorded)),
        jax.grad(lambda x: record(record(loss))(x)[0][0]),
        jax.grad(lambda x: record(jax.jit(loss))(x)[0]),
        jax.grad(lambda x: record(jax.checkpoint(loss))(x)[0]),
        jax.grad(lambda x: jax.vmap(record(loss))(x)[0].sum()),
        jax.grad(lambda x: record(jax.vmap(loss))(x)[0].sum()),
        jax.grad(lambda x: jax.lax.map(recorded, x).sum()),
        jax.grad(lambda x: record(lambda x: jax.lax.map(loss, x).sum())(x)[0]),
        lambda x: record(jax.grad(loss))(x)[0],
        lambda x: record(jax.grad(recorded))(x)[0],
    ):
        np.testing.assert_array_equal(gradient(X), expected)


@pytest.mark.parametrize("f", [straight_through, odd], ids=["vjp", "jvp"])
def test_records_and_patched_outputs_are_differentiated_as_they_stand(f):
    of_record = jax.grad(lambda x: record(f)(x)[1]["in"].sum())
    np.testing.assert_array_equal(of_record(X), np.full_like(X, 2))
    both = jax.grad(lambda x: record(f)(x)[0].sum() + record(f)(x)[1]["in"].sum())
    np.testing.assert_array_equal(both(X), np.full_like(X, 9))
    np.testing.assert_array_equal(intervene(f)({"in": GATE}, X), np.round(2 * X * GATE))
    patched = jax.grad(lambda x: intervene(f)({"out": (GATE, x)}, x).sum())
    np.testing.assert_array_equal(patched(X), np.tile(1 - GATE, (2, 1)))  # round has none
    y, nodes = intervene(record(f))({"in": GATE}, X)
    np.testing.assert_array_equal(nodes["out"], np.round(2 * X * GATE))
    np.testing.assert_array_equal(y, nodes["out"])


def test_a_custom_rule_cannot_hide_that_it_is_too_late():
    for late in (jax.grad(lambda x: odd(x).sum()), lambda x: jax.jvp(odd, (x,), (x,))):
        with pytest.raises(JaxNodesError, match="to be intervened on before differentiation"):
            intervene(late)({"in": GATE}, X)


def test_custom_gradients_with_integer_operands():
    @jax.custom_vjp
    def take(x, i):
        return node(x[i], "h")

    take.defvjp(lambda x, i: (x[i], x), lambda x, g: (jnp.zeros_like(x).at[0].set(5.0), None))

    def f(x):
        return take(x, jnp.array([1, 0])).sum()

    np.testing.assert_array_equal(jax.grad(lambda x: record(f)(x)[0])(X), jax.grad(f)(X))
    both = jax.grad(lambda x: record(f)(x)[0] + record(f)(x)[1]["h"].sum())(X)
    np.testing.assert_array_equal(both, [[6, 6, 6], [1, 1, 1]])
