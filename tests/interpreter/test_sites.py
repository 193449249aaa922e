"""What nodes are called, where they lie, and what is said of a name that none has."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnodes.errors import JaxNodesError
from jaxnodes.interpreter.sites import Site
from jaxnodes.layers.combinators import Repeat, Residual, Sequential
from jaxnodes.layers.neurons import Dense
from jaxnodes.primitive import node
from jaxnodes.transforms import intervene, node_sites, record

X = np.float32([[1.0, 2.0], [-3.0, 1.0], [0.5, -0.5], [2.0, 2.0]])
GATE = np.float32([1.0, 0.0, 0.5])


def test_repeated_names_are_numbered_and_the_bare_name_reaches_all():
    def f(x):
        for k in range(3):
            x = node(x + k, "h")
        return node(x, "other")

    x = np.float32([1.0, 2.0])
    names = [site.name for site in node_sites(f, x)]
    assert names == ["h", "h#2", "h#3", "other"]
    gate = jnp.array([1.0, 0.0])
    for interventions, second in [
        ({"h": gate}, 0.0),
        ({"h#1": gate}, 3.0),
        ({"h#2": gate}, 2.0),
        ({"h#2": gate, "h#3": gate}, 0.0),
        ({"h": gate, "h#3": jnp.ones(2)}, 2.0),  # the bare name reaches the first two
        ({"h#1": gate, "h": jnp.ones(2)}, 3.0),
    ]:
        np.testing.assert_array_equal(intervene(f)(interventions, x), [4.0, second])


def test_names_are_scopes_without_wrappers():
    def f(x):
        with jax.named_scope("outer"), jax.named_scope("inner"):
            x = jax.vmap(jax.vmap(jax.named_scope("deep")(lambda x: node(x, axis=None))))(x)
        return jax.grad(lambda x: (node(x, "g") ** 2).sum())(node(x))

    assert [site.name for site in node_sites(f, X)] == ["outer/inner/deep", "node", "g"]


def test_a_number_that_a_scope_has_already_is_skipped():
    def f(x):
        with jax.named_scope("h#2"):
            x = node(x)
        return node(node(x, "h"), "h")

    assert [site.name for site in node_sites(f, X)] == ["h#2", "h", "h#3"]


def test_an_axis_in_the_middle_and_no_axis():
    def f(x):
        return node(node(x, "a", axis=1), "whole", axis=None)

    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    assert [(s.axis, s.size) for s in node_sites(f, x)] == [(1, 3), (None, 1)]
    np.testing.assert_array_equal(intervene(f)({"a": GATE}, x), x * GATE[:, None])
    for half in (jnp.array([0.5]), jnp.array(0.5), 0.5):
        np.testing.assert_array_equal(intervene(f)({"whole": half}, x), x / 2)


def test_every_name_is_listed_but_not_without_end():
    def f(x):
        for k in range(50):
            x = node(x, f"h{k}")
        return x

    with pytest.raises(JaxNodesError, match="h0, h1, .*, h39 and 10 more"):
        intervene(f)({"zzz": GATE}, X)


def test_nodes_of_layers():
    net = Sequential(
        Dense(3, jnp.tanh),
        Residual(Sequential(Dense(3, "relu"), Dense(3))),
        Repeat(Dense(3, jnp.sin), 4),
        out=Dense(2),
    )
    variables = params, _ = net.init(jax.random.key(0), X)
    sites = {site.name: site for site in node_sites(net.predict, variables, X)}
    assert list(sites) == [
        "dense1",
        "residual1/dense1",
        "residual1/dense2",
        "repeat1/dense1",
        "out",
    ]
    assert sites["repeat1/dense1"] == Site("repeat1/dense1", 2, 3, (4, 4, 3), np.float32, (4,))
    y, nodes = record(net.predict)(variables, X)
    np.testing.assert_allclose(
        nodes["out"], nodes["repeat1/dense1"][-1] @ params["out"]["w"], rtol=1e-4, atol=1e-5
    )
    np.testing.assert_array_equal(y, nodes["out"])
    gates = np.ones((4, 3), np.float32)
    gates[2] = 0  # then the last layer sees zeros, and has no bias yet
    y = intervene(net.predict)({"repeat1/dense1": gates}, variables, X)
    np.testing.assert_allclose(y, np.zeros((4, 2)), atol=1e-7)
