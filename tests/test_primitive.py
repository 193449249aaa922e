"""The node is an identity that lowers to nothing and survives every transformation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxnodes.errors import JaxNodesError
from jaxnodes.primitive import node, node_p


def nodes_of(jaxpr):
    """The parameters of the node equations of a flat jaxpr."""
    return [eqn.params for eqn in jaxpr.eqns if eqn.primitive is node_p]


@pytest.mark.parametrize(
    "x",
    [
        np.float32([[1.5, -2.0]]),
        np.int32([3, 4]),
        np.array([True, False]),
        np.complex64([1j]),
        jnp.ones((2, 0, 3), jnp.bfloat16),
    ],
    ids=lambda x: str(x.dtype),
)
def test_is_the_identity_for_every_dtype(x):
    for transform in (lambda f: f, jax.jit):
        y = transform(lambda x: node(x, "h"))(x)
        assert y.dtype == x.dtype
        np.testing.assert_array_equal(y, x)


def test_is_the_identity_for_keys():
    key = jax.random.key(7)
    out = jax.jit(lambda key: node(key, "key", axis=None))(key)
    assert (jax.random.key_data(out) == jax.random.key_data(key)).all()


def test_leaves_nothing_in_the_compiled_program():
    def f(x, wrap):
        return wrap(wrap(jnp.tanh(x)) * 2).sum()

    x = jnp.ones((3, 4))
    plain = jax.jit(lambda x: f(x, lambda h: h)).lower(x).as_text()
    named = jax.jit(lambda x: f(x, lambda h: node(h, "h"))).lower(x).as_text()
    assert named == plain


def test_axis_is_normalized_and_name_is_kept():
    jaxpr = jax.make_jaxpr(lambda x: node(node(x, "a", -2), axis=None))(jnp.ones((2, 3)))
    assert nodes_of(jaxpr.jaxpr) == [
        {"name": "a", "axis": 0, "differentiated": False},
        {"name": None, "axis": None, "differentiated": False},
    ]


def test_batching_puts_the_batch_first_and_moves_the_axis():
    x = jnp.arange(24.0).reshape(2, 3, 4)
    f = jax.vmap(lambda x: node(x, "h", axis=0), in_axes=2, out_axes=0)
    np.testing.assert_array_equal(f(x), np.moveaxis(x, 2, 0))
    assert nodes_of(jax.make_jaxpr(f)(x).jaxpr)[0]["axis"] == 1
    twice = jax.vmap(jax.vmap(lambda x: node(x, "h", axis=None)))
    assert nodes_of(jax.make_jaxpr(twice)(x).jaxpr)[0]["axis"] is None


def test_derivatives_pass_through_and_leave_a_mark():
    def f(x):
        return jnp.sin(node(x * x, "h")).sum()

    x = jnp.array([0.3, -1.2])
    check_grads(f, (x,), order=2, modes=["fwd", "rev"], rtol=1e-2)
    np.testing.assert_allclose(jax.grad(f)(x), 2 * x * np.cos(x * x), rtol=1e-6)
    for derivative in (jax.grad(f), lambda x: jax.jvp(f, (x,), (x,)), jax.hessian(f)):
        marks = [params["differentiated"] for params in nodes_of(jax.make_jaxpr(derivative)(x))]
        assert marks == [True]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("",), "expected a name without '#'"),
        (("a#2",), "expected a name without '#'"),
        ((3,), "expected a name without '#'"),
        (("h", 2), r"node 'h': expected an axis of an array of shape \(2, 3\), got 2; axis=None"),
        (("h", -3), "expected an axis"),
        (("h", 1.0), "expected an axis"),
        (("h", True), "expected an axis"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(JaxNodesError, match=message):
        node(jnp.ones((2, 3)), *arguments)


def test_a_scalar_needs_axis_none():
    with pytest.raises(JaxNodesError, match="axis=None makes the whole value one node"):
        node(jnp.ones(()), "loss")
    assert node(1.5, "loss", axis=None) == 1.5
