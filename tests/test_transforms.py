"""Record, intervene and node_sites on straight-line functions; names; errors; composition."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxnodes.errors import JaxNodesError
from jaxnodes.interpreter.sites import Site
from jaxnodes.primitive import node
from jaxnodes.transforms import intervene, node_sites, record

W1 = np.float32([[1.0, -1.0, 0.5], [2.0, 0.5, -0.5]])
W2 = np.float32([[1.0], [10.0], [100.0]])
X = np.float32([[1.0, 2.0], [-3.0, 1.0], [0.5, -0.5], [2.0, 2.0]])
H = np.maximum(X @ W1, 0)
GATE = np.float32([1.0, 0.0, 0.5])


def mlp(params, x):
    w1, w2 = params
    with jax.named_scope("dense1"):
        h = node(jax.nn.relu(x @ w1))
    with jax.named_scope("dense2"):
        return node(h @ w2)


PARAMS = (W1, W2)


def test_record_returns_outputs_and_nodes_in_program_order():
    y, nodes = record(mlp)(PARAMS, X)
    assert list(nodes) == ["dense1", "dense2"]
    np.testing.assert_allclose(nodes["dense1"], H, rtol=1e-6)
    np.testing.assert_allclose(nodes["dense2"], H @ W2, rtol=1e-6)
    np.testing.assert_array_equal(y, nodes["dense2"])


def test_record_only_some():
    _, nodes = record(mlp, only=["dense2"])(PARAMS, X)
    assert list(nodes) == ["dense2"]
    assert list(record(mlp, only="dense1")(PARAMS, X)[1]) == ["dense1"]
    with pytest.raises(JaxNodesError, match="'dense3'; did you mean 'dense[12]'"):
        record(mlp, only=["dense3"])(PARAMS, X)


def test_node_sites_from_shapes_alone():
    spec = jax.ShapeDtypeStruct((7, 2), jnp.float32)
    assert node_sites(mlp, PARAMS, spec) == (
        Site("dense1", 1, 3, (7, 3), np.float32, ()),
        Site("dense2", 1, 1, (7, 1), np.float32, ()),
    )


@pytest.mark.parametrize(
    ("intervention", "hidden"),
    [
        (GATE, H * GATE),
        (np.array([True, False, True]), H * [1, 0, 1]),
        (np.array([1, 0, 2]), H * [1, 0, 2]),
        ((GATE, 3.0), H * GATE + (1 - GATE) * 3),
        ((GATE, np.float32([1, 2, 3])), H * GATE + (1 - GATE) * [1, 2, 3]),
        ((GATE, H[::-1]), H * GATE + (1 - GATE) * H[::-1]),
        (jnp.square, H**2),
        (lambda h: h.at[0].set(7.0), np.concatenate([[[7, 7, 7]], H[1:]])),
    ],
    ids=["gate", "bool", "int", "scalar", "vector", "array", "function", "lambda"],
)
def test_intervene_replaces_the_node(intervention, hidden):
    y = intervene(mlp)({"dense1": intervention}, PARAMS, X)
    np.testing.assert_allclose(y, hidden @ W2, rtol=1e-6)
    np.testing.assert_allclose(
        jax.jit(lambda p, x: intervene(mlp)({"dense1": intervention}, p, x))(PARAMS, X), y
    )
    y, nodes = record(intervene(mlp))({"dense1": intervention}, PARAMS, X)
    np.testing.assert_allclose(nodes["dense1"], hidden, rtol=1e-6)
    np.testing.assert_allclose(nodes["dense2"], y)
    y2, nodes = intervene(record(mlp))({"dense1": intervention}, PARAMS, X)
    np.testing.assert_allclose(nodes["dense1"], hidden, rtol=1e-6)
    np.testing.assert_allclose(y2, y)


def test_interventions_compose_from_the_inside():
    double = intervene(intervene(mlp))
    y = double({"dense1": jnp.square}, {"dense1": GATE}, PARAMS, X)
    np.testing.assert_allclose(y, (GATE * H) ** 2 @ W2, rtol=1e-6)
    assert [site.name for site in node_sites(double, {}, {}, PARAMS, X)] == ["dense1", "dense2"]


def test_no_interventions_and_no_nodes():
    np.testing.assert_array_equal(intervene(mlp)({}, PARAMS, X), record(mlp)(PARAMS, X)[0])
    y, nodes = record(jnp.sin)(1.0)
    assert nodes == {}
    np.testing.assert_allclose(y, np.sin(1), rtol=1e-6)
    with pytest.raises(JaxNodesError, match="the function names no nodes; name some by jn.node"):
        intervene(jnp.sin)({"h": jnp.ones(3)}, 1.0)


@pytest.mark.parametrize(
    ("interventions", "message"),
    [
        ({"dens1": GATE}, "got 'dens1'; did you mean 'dense1'? the nodes are dense1, dense2"),
        ({3: GATE}, "expected the name of a node, got 3; the nodes are dense1, dense2"),
        ({"dense1#2": GATE}, "got 'dense1#2'; did you mean 'dense1'?"),
        (
            {"dense1": GATE, "dense1#1": GATE},
            "a name for nodes that no other name reaches, got 'dense1' beside 'dense1#1'",
        ),
        ({"dense1": GATE[:2]}, "intervene 'dense1': expected a gate of shape (3,), got (2,)"),
        ({"dense1": 1.0}, "expected a gate of shape (3,), got ()"),
        ({"dense1": H}, "expected a gate of shape (3,), got (4, 3)"),
        ({"dense1": [1.0, 0.0, 1.0]}, "a (gate, value) pair or a function, got list"),
        ({"dense1": (GATE, 1.0, 2.0)}, "a (gate, value) pair or a function, got tuple of 3"),
        ({"dense1": "zero"}, "a (gate, value) pair or a function, got str"),
        ({"dense1": GATE + 1j}, "expected a real gate for nodes of dtype float32, got complex64"),
        ({"dense1": (GATE, 1j)}, "expected a value of dtype float32, got complex64"),
        ({"dense1": (GATE, np.int32([1, 2, 3]))}, "expected a value of dtype float32, got int32"),
        ({"dense1": (GATE, H[:, :2])}, "a value that broadcasts to (4, 3), which is what record"),
        ({"dense1": (GATE, H[None])}, "a value that broadcasts to (4, 3), which is what record"),
        (
            {"dense1": lambda h: None},
            "expected a function that returns an array, but it made NoneType",
        ),
        ({"dense1": jnp.sum}, "keeps shape and dtype, float32 (4, 3), but it made float32 ()"),
        ({"dense1": lambda h: h > 0}, "float32 (4, 3), but it made bool (4, 3)"),
        ([("dense1", GATE)], "intervene: expected a dict {name: gate, (gate, value) or function}"),
    ],
)
def test_intervene_refuses(interventions, message):
    with pytest.raises(JaxNodesError) as error:
        intervene(mlp)(interventions, PARAMS, X)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_dtypes_of_gates_and_values(x64):
    def f(x):
        return node(x, "h")

    third = 1 / 3
    for nodes, gate, wide in [
        (np.float32, np.float64, np.float64),
        (np.float64, np.float32, np.float64),
        (jnp.bfloat16, np.float32, np.float32),
        (jnp.bfloat16, np.float16, np.float32),
        (np.complex64, np.float32, np.complex64),
    ]:
        h, gate = jnp.full(3, third, nodes), jnp.full(3, third, gate)
        y = intervene(f)({"h": gate}, h)
        assert y.dtype == nodes
        # rounded once, at the end
        np.testing.assert_array_equal(y, (h.astype(wide) * gate.astype(wide)).astype(nodes))
    half, single = jnp.ones(3, jnp.bfloat16), jnp.ones(3, jnp.float32)
    with pytest.raises(JaxNodesError, match="a value of dtype float32, got float64; cast it"):
        intervene(f)({"h": (single, np.ones(3))}, single)
    with pytest.raises(JaxNodesError, match="a gate can't weigh nodes of dtype int32"):
        intervene(f)({"h": single}, np.int32([1, 2, 3]))
    assert (intervene(f)({"h": (0 * half, 0.5)}, single) == 0.5).all()
    assert (intervene(f)({"h": (0 * single, half)}, np.zeros(3)) == 1).all()
    assert intervene(f)({"h": lambda h: h + 1}, np.int32([1, 2, 3])).tolist() == [2, 3, 4]


def test_a_closed_gate_removes_what_is_not_finite():
    def f(x):
        return node(x, "h")

    x = np.float32([np.inf, np.nan, 2.0])
    np.testing.assert_array_equal(intervene(f)({"h": np.float32([0, 0, 1])}, x), [0, 0, 2])
    pair = (np.float32([0, 1, 1]), np.float32([5, 6, np.nan]))
    np.testing.assert_array_equal(intervene(f)({"h": pair}, x), [5, np.nan, 2])
    gradient = jax.grad(lambda gate: intervene(f)({"h": (gate, 5.0)}, x)[2])(jnp.zeros(3))
    np.testing.assert_array_equal(gradient, [0, 0, -3])


def test_gradients_by_gate_value_params_and_input(x64):
    def loss(gate, value, params, x):
        return (intervene(mlp)({"dense1": (gate, value)}, params, x) ** 2).mean()

    arguments = jax.tree.map(np.float64, (GATE, H[::-1], PARAMS, X + [0.3, 0.7]))
    check_grads(loss, arguments, order=1)
    by_gate = jax.grad(lambda gate: intervene(mlp)({"dense1": gate}, PARAMS, X).sum())(GATE)
    np.testing.assert_allclose(by_gate, (H * W2[:, 0]).sum(0), rtol=1e-6)
    np.testing.assert_allclose(
        jax.hessian(lambda gate: (intervene(mlp)({"dense1": gate}, PARAMS, X) ** 2).sum())(GATE),
        2 * (H * W2[:, 0]).T @ (H * W2[:, 0]),
        rtol=1e-5,
    )


def test_intervening_after_differentiation_is_refused():
    def loss(params, x):
        return mlp(params, x).sum()

    message = "before differentiation, .*; write grad\\(intervene\\(f\\)\\), not intervene\\(grad"
    for late in (
        jax.grad(loss),
        jax.jit(jax.value_and_grad(loss)),
        jax.grad(jax.jit(loss)),
        lambda params, x: jax.jvp(lambda x: loss(params, x), (x,), (x,)),
        jax.vmap(jax.grad(loss), in_axes=(None, 0)),
        jax.grad(jax.checkpoint(loss)),
    ):
        with pytest.raises(JaxNodesError, match=message):
            intervene(late)({"dense1": GATE}, PARAMS, X)
    gradient, nodes = record(jax.grad(loss))(PARAMS, X)
    np.testing.assert_array_equal(nodes["dense1"], H)
    np.testing.assert_allclose(gradient[1], H.sum(0)[:, None], rtol=1e-6)


def test_composes_with_vmap():
    stacked = jax.tree.map(lambda w: np.stack([w, 2 * w]), PARAMS)
    y, nodes = jax.vmap(record(mlp), in_axes=(0, None))(stacked, X)
    np.testing.assert_allclose(nodes["dense1"], [H, 2 * H], rtol=1e-6)
    np.testing.assert_allclose(y, [H @ W2, 4 * H @ W2], rtol=1e-6)
    gates = np.eye(3, dtype=np.float32)
    y = jax.vmap(lambda gate: intervene(mlp)({"dense1": gate}, PARAMS, X))(gates)
    np.testing.assert_allclose(y, np.einsum("bh,gh,ho->gbo", H, gates, W2), rtol=1e-6)
    _, nodes = record(jax.vmap(jax.vmap(mlp, (None, 0)), (0, None)))(stacked, X)
    np.testing.assert_allclose(nodes["dense1"], [H, 2 * H], rtol=1e-6)

    def normalized(x):
        return node(x - jax.lax.pmean(x, "batch"), "h")

    _, nodes = jax.vmap(record(normalized), axis_name="batch")(X)
    np.testing.assert_allclose(nodes["h"], X - X.mean(0))


def test_the_recorded_value_is_differentiable():
    gradient = jax.grad(lambda x: record(mlp)(PARAMS, x)[1]["dense1"].sum())(X)
    np.testing.assert_allclose(gradient, (H > 0) @ W1.T, rtol=1e-6)


def test_nested_jit_keeps_its_name_and_other_equations_their_rules():
    @jax.jit
    def inner(x):
        return node(jax.nn.relu(x), "h")

    jaxpr = jax.make_jaxpr(lambda x: record(lambda x: inner(x) * 2)(x)[0])(X)
    (call,) = [eqn for eqn in jaxpr.eqns if eqn.primitive.name == "jit"]
    assert call.params["name"] == "inner"
    assert "custom_jvp_call" in str(call.params["jaxpr"])
    assert str(call.params["jaxpr"].eqns[-1].params["name"]) == "h"


def test_structures_and_static_arguments():
    def f(params, x, *, mode, flags=(), scale=1.0, train=False, key=None):
        h = node(x * params["scale"], "h")
        assert mode in ("up", "down")
        assert train is True
        assert key is None
        return {"out": h * scale if mode == "up" else -h, "none": None, "count": len(flags)}

    y, nodes = record(f)({"scale": 2.0}, X, mode="down", flags=("a", None), train=True)
    assert y["none"] is None
    assert y["count"] == 2
    np.testing.assert_array_equal(y["out"], -2 * X)
    np.testing.assert_array_equal(nodes["h"], 2 * X)
    y = intervene(f)(
        {"h": jnp.negative}, {"scale": 2}, X.astype(int), mode="up", train=True, scale=3
    )
    np.testing.assert_array_equal(y["out"], -6 * X.astype(int))


@pytest.mark.parametrize("transform", [record, intervene])
def test_refuses_what_is_no_function(transform):
    with pytest.raises(JaxNodesError, match="expected a function, got dict"):
        transform({})


def test_an_error_inside_the_function_comes_through():
    def f(x):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        record(f)(X)


def test_transformed_functions_print_and_are_known_by_name():
    assert record(mlp).__name__ == "record_mlp"
    assert "record_mlp" in jax.jit(record(mlp)).lower(PARAMS, X).as_text()
    assert intervene(functools.partial(mlp, PARAMS)).__name__ == "intervene_function"


@dataclasses.dataclass(frozen=True)
class Scale:
    by: float

    def __call__(self, x):
        return node(x * self.by, "h")


def test_a_callable_object():
    _, nodes = record(Scale(2.0))(X)
    np.testing.assert_array_equal(nodes["h"], 2 * X)
    np.testing.assert_array_equal(intervene(Scale(3.0))({"h": jnp.ones(2)}, X), 3 * X)
