"""Nodes inside loops, branches, nested jit, remat, custom gradients and shard_map."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
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


@pytest.fixture(scope="module")
def mesh():
    assert jax.device_count() == 8
    return jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))


@pytest.mark.parametrize("check_vma", [True, False])
def test_shard_map(mesh, check_vma):
    every, rows = PartitionSpec(), PartitionSpec("data")
    mapped = functools.partial(
        jax.shard_map, mesh=mesh, in_specs=(every, rows), out_specs=rows, check_vma=check_vma
    )
    x = np.linspace(-1, 1, 48, dtype=np.float32).reshape(16, 3)

    def inner(w, x):
        return node(jnp.tanh(x @ node(w, "w")), "h") * 2

    h = np.tanh(x @ W)
    f = mapped(inner)
    for run in (intervene(f), jax.jit(intervene(f))):
        np.testing.assert_allclose(run({"h": GATE}, W, x), 2 * h * GATE, rtol=1e-5)
    np.testing.assert_allclose(intervene(f)({"h": jnp.square}, W, x), 2 * h**2, rtol=1e-5)
    y = intervene(f)({"h": (GATE, np.float32([1, 2, 3]))}, W, x)
    np.testing.assert_allclose(y, 2 * (h * GATE + (1 - GATE) * [1, 2, 3]), rtol=1e-5)
    by_gate = jax.grad(lambda gate: intervene(f)({"h": gate}, W, x).sum())(GATE)
    np.testing.assert_allclose(by_gate, 2 * h.sum(0), rtol=1e-4)
    with pytest.raises(JaxNodesError, match="differs between the devices of a shard_map, .*out_sp"):
        record(f, only=["h"])(W, x)
    y, nodes = mapped(record(inner, only=["h"]))(W, x)
    np.testing.assert_allclose(nodes["h"], h, rtol=1e-5)
    if check_vma:  # what is the same on all devices needs no out_specs
        np.testing.assert_array_equal(record(f, only=["w"])(W, x)[1]["w"], W)


def test_shardings_of_a_nested_jit_are_kept(mesh):
    rows = NamedSharding(mesh, PartitionSpec("data"))
    f = jax.jit(lambda x: node(jnp.sin(x), "h"), in_shardings=rows, out_shardings=rows)
    y, nodes = record(f)(np.ones((16, 3), np.float32))
    assert y.sharding.is_equivalent_to(rows, 2)
    assert nodes["h"].sharding.is_equivalent_to(rows, 2)
