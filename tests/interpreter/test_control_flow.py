"""Nodes inside loops, branches, nested jit, remat, custom gradients and shard_map."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxnodes.errors import JaxNodesError
from jaxnodes.primitive import node
from jaxnodes.transforms import intervene, node_sites, record

X = np.float32([[1.0, -2.0, 3.0], [0.5, 0.25, -1.0]])
GATE = np.float32([1.0, 0.0, 0.5])


def recurrent(w, xs, reverse=False):
    """A recurrent layer over (T, B, D): its states, and their sum."""

    def step(h, x):
        with jax.named_scope("cell"):
            h = node(jnp.tanh(x + h @ w), "h")
        return h, h

    return jax.lax.scan(step, jnp.zeros(xs.shape[1:]), xs, reverse=reverse)


def recurrent_by_hand(w, xs, patch=lambda h, t: h, reverse=False):
    h, states = np.zeros(xs.shape[1:], np.float32), [None] * len(xs)
    for t in reversed(range(len(xs))) if reverse else range(len(xs)):
        h = states[t] = patch(np.tanh(xs[t] + h @ w), t)
    return np.stack(states)


W = np.float32([[0.5, -1.0, 0.2], [0.3, 0.1, -0.7], [-0.4, 0.9, 0.6]])
XS = np.stack([X, -X, 2 * X, X + 1])


@pytest.mark.parametrize("reverse", [False, True])
def test_scan_records_every_step(reverse):
    (last, states), nodes = record(recurrent)(W, XS, reverse)
    expected = recurrent_by_hand(W, XS, reverse=reverse)
    np.testing.assert_allclose(nodes["cell/h"], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(nodes["cell/h"], states)
    np.testing.assert_array_equal(last, states[0 if reverse else -1])
    (site,) = node_sites(recurrent, W, XS)
    assert (site.shape, site.axis, site.size, site.steps) == ((4, 2, 3), 2, 3, (4,))


STEP_GATES = np.linspace(0, 1, 12, dtype=np.float32).reshape(4, 3)
VALUES = np.linspace(-1, 1, 24, dtype=np.float32).reshape(4, 2, 3)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    ("intervention", "patch"),
    [
        (GATE, lambda h, t: h * GATE),
        (STEP_GATES, lambda h, t: h * STEP_GATES[t]),
        ((GATE, 2.0), lambda h, t: h * GATE + (1 - GATE) * 2),
        ((GATE, X), lambda h, t: h * GATE + (1 - GATE) * X),
        ((STEP_GATES, X), lambda h, t: h * STEP_GATES[t] + (1 - STEP_GATES[t]) * X),
        ((GATE, VALUES), lambda h, t: h * GATE + (1 - GATE) * VALUES[t]),
        (
            (STEP_GATES, VALUES[:1]),
            lambda h, t: h * STEP_GATES[t] + (1 - STEP_GATES[t]) * VALUES[0],
        ),
        (
            (STEP_GATES, VALUES[:, :1, :1]),
            lambda h, t: h * STEP_GATES[t] + (1 - STEP_GATES[t]) * VALUES[t, 0, 0],
        ),
        (jnp.square, lambda h, t: h**2),
    ],
    ids=["gate", "steps", "scalar", "value", "steps+value", "values", "one", "column", "function"],
)
def test_scan_is_intervened_on_at_every_step_or_at_each(intervention, patch, reverse):
    _, states = intervene(recurrent)({"cell/h": intervention}, W, XS, reverse)
    expected = recurrent_by_hand(W, XS, patch, reverse)
    np.testing.assert_allclose(states, expected, rtol=1e-5, atol=1e-6)


def test_scan_refuses_other_shapes():
    for gate in (STEP_GATES[:3], STEP_GATES[0, :2], VALUES):
        with pytest.raises(JaxNodesError, match=r"expected a gate of shape \(3,\) or \(4, 3\)"):
            intervene(recurrent)({"cell/h": gate}, W, XS)


def test_scan_in_scan():
    def f(x):
        def outer(x, a):
            def inner(x, b):
                return node(x * a + b, "h"), None

            return jax.lax.scan(inner, x, jnp.arange(3.0))[0], None

        return jax.lax.scan(outer, x, jnp.array([2.0, -1.0]))[0]

    def by_hand(x, patch):
        steps = []
        for i, a in enumerate([2.0, -1.0]):
            for j in range(3):
                x = patch(x * a + j, i, j)
                steps.append(x)
        return x, np.reshape(steps, (2, 3, *x.shape))

    x = X[0]
    y, nodes = record(f)(x)
    expected, steps = by_hand(x, lambda h, i, j: h)
    np.testing.assert_allclose(nodes["h"], steps)
    np.testing.assert_allclose(y, expected)
    gates = np.linspace(0, 1, 18, dtype=np.float32).reshape(2, 3, 3)
    values = np.arange(9, dtype=np.float32).reshape(3, 3)
    for intervention, patch in [
        (gates, lambda h, i, j: h * gates[i, j]),
        ((gates, values), lambda h, i, j: h * gates[i, j] + (1 - gates[i, j]) * values[j]),
        (
            (GATE, values[:2, None]),
            lambda h, i, j: h * GATE + (1 - GATE) * values[i],
        ),
    ]:
        y = intervene(f)({"h": intervention}, x)
        np.testing.assert_allclose(y, by_hand(x, patch)[0], rtol=1e-6)
    with pytest.raises(JaxNodesError, match=r"\(3,\) or \(2, 3, 3\), got \(3, 3\)"):
        intervene(f)({"h": values}, x)


def test_gradients_through_a_scan(x64):
    def loss(gates, values, w):
        xs = XS.astype(np.float64)
        return (intervene(recurrent)({"cell/h": (gates, values)}, w, xs)[1] ** 2).sum()

    check_grads(loss, jax.tree.map(np.float64, (STEP_GATES, VALUES, W)), order=1)


def branching(i, x):
    branches = [
        lambda x: node(node(x * 2, "both"), "first"),
        lambda x: node(x + 1, "both") - 1,
    ]
    return node(jax.lax.switch(i, branches, x), "after")


def test_cond_records_what_all_branches_compute():
    _, nodes = record(branching, only=["both", "after"])(0, X)
    np.testing.assert_array_equal(nodes["both"], 2 * X)
    y, nodes = record(branching, only=["both", "after"])(1, X)
    np.testing.assert_array_equal(nodes["both"], X + 1)
    np.testing.assert_array_equal(nodes["after"], y)
    assert [site.name for site in node_sites(branching, 0, X)] == ["both", "first", "after"]
    with pytest.raises(JaxNodesError, match="got 'first': only some branches of a cond compute it"):
        record(branching)(0, X)


def test_cond_is_intervened_on_in_every_branch_that_has_the_node():
    for i, expected in enumerate([2 * X * GATE, (X + 1) * GATE - 1]):
        np.testing.assert_array_equal(intervene(branching)({"both": GATE}, i, X), expected)
    y = jax.vmap(lambda i: intervene(branching)({"first": GATE}, i, X))(jnp.arange(2))
    np.testing.assert_array_equal(y, [2 * X * GATE, X])


def test_cond_by_shape_or_number_are_other_nodes():
    def f(x):
        return jax.lax.cond(
            x.sum() > 0,
            lambda x: node(x[:, :2], "h").sum() + node(x, "h").sum(),
            lambda x: node(x, "h").sum(),
            x,
        )

    assert [(site.name, site.size) for site in node_sites(f, X)] == [("h", 3), ("h#2", 2)]
    _, nodes = record(f, only=["h#1"])(X)
    np.testing.assert_array_equal(nodes["h"], X)


def test_while_is_intervened_on_and_not_recorded():
    def f(n, x):
        def body(state):
            i, x = state
            return i + 1, node(x + 1, "h")

        return jax.lax.while_loop(lambda state: node(state[0], "i", None) < n, body, (0, x))[1]

    np.testing.assert_array_equal(intervene(f)({"h": GATE}, 3, X), [
        [*(x + 3 for x in X[0, :1]), 0, X[0, 2] / 8 + 0.875],
        [*(x + 3 for x in X[1, :1]), 0, X[1, 2] / 8 + 0.875],
    ])  # fmt: skip
    assert intervene(f)({"i": lambda i: i + 1}, 3, X)[0, 0] == 3.0
    assert [site.shape for site in node_sites(f, 3, X)] == [(), (2, 3)]
    with pytest.raises(JaxNodesError, match="got 'i': a while loop keeps no record of its steps"):
        record(f)(3, X)
    assert record(f, only=())(3, X)[1] == {}


@pytest.mark.parametrize(
    "policy", [None, jax.checkpoint_policies.everything_saveable], ids=["all", "none"]
)
def test_remat_is_kept(policy):
    @functools.partial(jax.checkpoint, policy=policy, prevent_cse=False)
    def f(x):
        return jnp.sin(node(jnp.sin(x), "h"))

    y, nodes = record(f)(X)
    np.testing.assert_allclose(nodes["h"], np.sin(X), rtol=1e-6)
    np.testing.assert_array_equal(y, f(X))
    gated = lambda x: intervene(f)({"h": GATE}, x).sum()  # noqa: E731
    np.testing.assert_allclose(
        jax.grad(gated)(X), np.cos(GATE * np.sin(X)) * GATE * np.cos(X), rtol=1e-5
    )
    (eqn,) = jax.make_jaxpr(lambda x: intervene(f)({"h": GATE}, x))(X).eqns[-1:]
    assert eqn.params["policy"] is policy
    assert eqn.params["prevent_cse"] is False


def test_remat_computes_its_nodes_again_on_the_way_back():
    @jax.named_scope("net")
    def loss(x):
        return jax.checkpoint(lambda x: jnp.sin(node(jnp.sin(x), "h")))(x).sum()

    gradient, nodes = record(jax.grad(loss))(X)
    assert list(nodes) == ["net/h", "net/h#2"]
    for value in nodes.values():
        np.testing.assert_allclose(value, np.sin(X), rtol=1e-6)
    np.testing.assert_allclose(gradient, np.cos(np.sin(X)) * np.cos(X), rtol=1e-5)
    with pytest.raises(JaxNodesError, match="before differentiation"):
        intervene(jax.grad(loss))({"net/h": GATE}, X)


def test_what_cannot_be_taken_apart_is_named():
    @jax.custom_batching.custom_vmap
    def opaque(x):
        return node(x * 2, "h")

    opaque.def_vmap(lambda n, batched, x: (opaque(x), batched[0]))

    def f(x):
        return node(opaque(x), "after")

    for action in (lambda: record(f)(X), lambda: intervene(f)({"h": GATE}, X)):
        with pytest.raises(JaxNodesError, match="'h': it is inside the JAX operation custom_vmap"):
            action()
    np.testing.assert_array_equal(intervene(f)({"after": GATE}, X), 2 * X * GATE)
    np.testing.assert_array_equal(record(f, only=["after"])(X)[1]["after"], 2 * X)
