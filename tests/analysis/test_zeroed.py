"""A node's value when its weighted sums are zero, against the function written in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnodes as jn
from jaxnodes import JaxNodesError
from jaxnodes.analysis.deltas import run_base
from jaxnodes.analysis.zeroed import bias_value
from jaxnodes.interpreter.tracing import trace

RNG = np.random.default_rng(0)
X, W, V = (RNG.normal(size=shape).astype(np.float32) for shape in ((6, 4), (4, 4), (4, 4)))
B = RNG.normal(size=4).astype(np.float32)


def found(f, name="h"):
    """The value at a site of `f(weights, x)`, and whether it depends on x."""
    traced = trace(f, ((W, B, V), X), {}, where="ablate")
    values = [*traced.consts, *traced.args]
    data = [False] * (len(values) - 1) + [True]
    base = run_base(traced.program.jaxpr, values, data)
    return bias_value(traced.program, traced.program.place(name), base, data)


def relu(x):
    return np.maximum(x, 0)


# What a node is made of x and weights, the same with its sum zero, and whether x changes that.
CASES = {
    "bias": (lambda w, b, v, x: jnp.tanh(x @ w + b), np.tanh(B), False),
    "no bias": (lambda w, b, v, x: jax.nn.relu(x @ w), 0.0, False),
    "two sums": (lambda w, b, v, x: jax.nn.relu(x @ w + x @ v + b), relu(B), False),
    "skip": (lambda w, b, v, x: jax.nn.relu(x @ w + b) + x, relu(B) + X, True),
    "scaled by data": (lambda w, b, v, x: (x @ w + b) * x, B * X, True),
    "a node before": (
        lambda w, b, v, x: jax.nn.relu(jn.node(jnp.tanh(x @ w), "first") @ v + b),
        relu(B),
        False,
    ),
    "around a node": (
        lambda w, b, v, x: jax.nn.relu(jn.node(jnp.tanh(x @ w), "first") @ v + b) + jnp.tanh(x),
        relu(B) + np.tanh(X),
        True,
    ),
    "past a node": (
        lambda w, b, v, x: jn.node(jnp.tanh(x @ w), "first") + x @ v,
        np.tanh(X @ W),
        True,
    ),
    "prepared weights": (lambda w, b, v, x: x @ (w @ v) + w @ b, W @ B, False),
    "inside a call": (lambda w, b, v, x: jax.jit(lambda x: x @ w + b)(x), B, False),
}


@pytest.mark.parametrize("name", CASES)
def test_a_value_and_whether_data_changes_it(name):
    made, expected, varies = CASES[name]
    value, says = found(lambda weights, x: jn.node(made(*weights, x), "h") * 2)
    np.testing.assert_allclose(value, np.broadcast_to(expected, X.shape), rtol=1e-4, atol=1e-6)
    assert says == varies


def test_a_mixture_of_nodes_is_refused():
    with pytest.raises(JaxNodesError, match="mixes its nodes; use value='zero' or 'mean'"):
        found(lambda weights, x: jn.node(jax.nn.softmax(x @ weights[0]), "h"))


@pytest.mark.parametrize("skips", [False, True], ids=["of the bias alone", "of the sample too"])
def test_bias_replacement_tile_by_tile(skips):
    """600 samples, three tiles: a node's value is the same in all of them, or each one's own."""
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(600, 4)).astype(np.float32), rng.normal(size=(4, 4)).astype(np.float32)
    b = rng.normal(size=4).astype(np.float32)

    def f(variables, x):
        w, b = variables
        return jn.node(jax.nn.relu(x @ w + b) + (x if skips else 0.0), "h") ** 2

    (found,) = jn.analysis.ablate(
        f, (w, b), x, np.zeros(600, np.float32), metric=lambda out, y: out.mean(), value="bias"
    ).values()
    h = np.maximum(x @ w + b, 0) + x * skips
    instead = np.maximum(b, 0) + x * skips
    expected = (h**2 - instead**2).sum(0) / h.size
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
