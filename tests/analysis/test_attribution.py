"""`attribute`: worked by hand, against loops over nodes, and by what must sum to what."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnodes as jn
from jaxnodes import JaxNodesError
from jaxnodes.analysis import METHODS, attribute
from tests.drawn import drawn_variables

pytestmark = pytest.mark.usefixtures("quick")

N = 11


def problem(net, shape, target=None, dtype=np.float64):
    x = np.random.default_rng(1).normal(size=(N, *shape)).astype(dtype)
    variables = drawn_variables(net, x)
    out = jax.eval_shape(net.predict, variables, x)
    y = np.random.default_rng(2).normal(size=out.shape).astype(dtype)
    return net.predict, variables, x, y


def without(f, variables, x, y, name, shape, gate=0.0):
    """The loss without each node, one at a time."""

    @jax.jit
    def gated(gates):
        return jn.mse(jn.intervene(f)({name: gates}, variables, x), y)

    found = np.zeros(shape)
    for node in np.ndindex(*shape):
        gates = np.ones(shape)
        gates[node] = gate
        found[node] = gated(gates)
    return found


LINEAR = {
    "mlp": (jn.Sequential(jn.Dense(5), jn.Dense(2)), (3,)),
    "cnn": (jn.Sequential(jn.Conv(3, 3), jn.AvgPool(2), jn.Flatten(), jn.Dense(2)), (4, 4, 2)),
    "stack": (jn.Sequential(jn.Repeat(jn.Dense(3), 3), jn.Dense(2)), (3,)),
}
CURVED = {
    "mlp": (jn.Sequential(jn.Dense(5, "gelu"), jn.Dense(2)), (3,)),
    "stack": (jn.Sequential(jn.Repeat(jn.Dense(3, "tanh"), 3), jn.Dense(2)), (3,)),
}
SHAPES = {
    "mlp": {"dense1": (5,), "dense2": (2,)},
    "cnn": {"conv1": (3,), "dense1": (2,)},
    "stack": {"repeat1/dense1": (3, 3), "dense1": (2,)},
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("case", LINEAR)
def test_taylor2_of_a_linear_network_is_exact(case):
    f, variables, x, y = problem(*LINEAR[case])
    found = attribute(f, variables, x, y, method="taylor2", loss=jn.mse, batch_size=4)
    assert {name: a.shape for name, a in found.items()} == SHAPES[case]
    whole = jn.mse(f(variables, x), y)
    for name, importance in found.items():
        exact = without(f, variables, x, y, name, importance.shape) - whole
        np.testing.assert_allclose(importance, exact, rtol=1e-9, atol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("case", CURVED)
def test_derivatives_against_differences(case):
    f, variables, x, y = problem(*CURVED[case])
    options = {"loss": jn.mse, "batch_size": 4}
    first = attribute(f, variables, x, y, method="taylor", **options)
    second = attribute(f, variables, x, y, method="taylor2", **options)
    whole, step = jn.mse(f(variables, x), y), 1e-4
    for name, shape in SHAPES[case].items():
        up, down = (without(f, variables, x, y, name, shape, gate=1 + d) for d in (step, -step))
        np.testing.assert_allclose(first[name], (down - up) / (2 * step), rtol=1e-5, atol=1e-8)
        curve = (up - 2 * whole + down) / step**2
        np.testing.assert_allclose(second[name] - first[name], curve / 2, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("case", CURVED)
def test_integrated_gradients_sum_to_the_loss_without_the_site(case):
    f, variables, x, y = problem(*CURVED[case])
    options = {"method": "integrated_gradients", "loss": jn.mse, "batch_size": 4, "steps": 20}
    found = attribute(f, variables, x, y, **options)
    whole = jn.mse(f(variables, x), y)
    for name, shape in SHAPES[case].items():
        gone = jn.mse(jn.intervene(f)({name: np.zeros(shape)}, variables, x), y)
        np.testing.assert_allclose(found[name].sum(), gone - whole, rtol=1e-9)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("baseline", [None, 0.3])
def test_conductance_sums_to_the_difference_of_the_outputs(baseline):
    f, variables, x, y = problem(*CURVED["mlp"])
    options = {"method": "conductance", "loss": jn.mse, "batch_size": 4, "steps": 40}
    found = attribute(f, variables, x, y, baseline=baseline, **options)
    start = np.full(x.shape, baseline or 0.0)
    difference = jn.mse(f(variables, start), y) - jn.mse(f(variables, x), y)
    for importance in found.values():
        np.testing.assert_allclose(importance.sum(), difference, rtol=1e-9)
    # Each layer of a stack is a layer that all paths go through once.
    f, variables, x, y = problem(*CURVED["stack"])
    found = attribute(f, variables, x, y, **options)["repeat1/dense1"]
    difference = jn.mse(f(variables, 0 * x), y) - jn.mse(f(variables, x), y)
    np.testing.assert_allclose(found.sum(axis=1), np.full(3, difference), rtol=1e-9)


def test_sizes_and_gradients_by_hand():
    # h = (x, 2 x), y = h1 - h2 / 4 = x / 2; L = mean y^2, dL/dh = (y, -y / 4) 2 / N.
    net = jn.Sequential(jn.Dense(2), jn.Dense(1))
    params = {
        "dense1": {"w": jnp.array([[1.0, 2.0]]), "b": jnp.zeros(2)},
        "dense2": {"w": jnp.array([[1.0], [-0.25]]), "b": jnp.zeros(1)},
    }
    x = np.float32([[2], [-4]])
    target = np.float32([[0], [-3]])  # residuals 1, 1
    expected = {
        "weight": [1, 2],
        "activation": [3, 6],
        "gradient": [2 + 4, 1 + 2],  # |1 * 2| + |1 * -4|, |-1/4 * 4| + |-1/4 * -8|
        "taylor": [2, -1],  # -(2 - 4), -(-1 + 2)
    }
    for method, value in expected.items():
        found = attribute(
            net.predict, (params, {}), x, target, method=method, loss=jn.mse, nodes="dense1"
        )
        assert list(found) == ["dense1"]
        np.testing.assert_allclose(found["dense1"], value, rtol=1e-6, err_msg=method)


@pytest.mark.parametrize("method", [m for m in METHODS if m != "weight"])
def test_nothing_depends_on_the_batch_size(method):
    net = jn.Sequential(jn.Dense(4, "tanh"), jn.Dense(2))
    f, variables, x, y = problem(net, (3,), dtype=np.float32)
    options = {"method": method, "loss": jn.mse, "steps": 3}
    whole = attribute(f, variables, x, y, **options)
    tiled = attribute(f, variables, x, y, batch_size=3, memory=2**20, **options)
    assert list(whole) == [site.name for site in jn.node_sites(f, variables, x)]
    for name in whole:
        np.testing.assert_allclose(tiled[name], whole[name], rtol=2e-4, atol=1e-6)


def test_gradient_of_recurrent_nodes_is_over_all_steps():
    # h_t = x_t + h_{t-1} / 2, L = mean h_T: dL/dh_t = 2^(t - T) / N.
    def f(w, x):
        def step(h, x):
            h = jn.node(x + w * h, "h")
            return h, None

        return jax.lax.scan(step, jnp.zeros_like(x[:, 0]), x.swapaxes(0, 1))[0]

    x = np.float32([[[1], [2], [4]], [[-8], [0], [0]]])
    h = np.float32([[1, 2.5, 5.25], [-8, -4, -2]])
    slope = np.float32([0.25, 0.5, 1]) / 2
    loss = lambda p, y: p.mean()  # noqa: E731
    found = attribute(f, jnp.float32(0.5), x, method="gradient", loss=loss)["h"]
    np.testing.assert_allclose(found, [np.abs((h * slope).sum(1)).sum()], rtol=1e-6)
    found = attribute(f, jnp.float32(0.5), x, method="taylor", loss=loss)["h"]
    np.testing.assert_allclose(found, [-(h * slope).sum()], rtol=1e-6)


def test_weights_of_each_kind_of_layer():
    net = jn.Sequential(jn.Repeat(jn.Dense(3), 2), jn.LSTM(4), jn.Attention(2), jn.Dense(3))
    f, variables, x, _ = problem(net, (5, 3), dtype=np.float32)
    params = jax.tree.map(np.abs, variables[0])
    found = attribute(f, variables, x, method="weight")
    w_i, w_h = (params["lstm1"][key].reshape(-1, 4, 4) for key in ("w_i", "w_h"))
    expected = {
        "repeat1/dense1": params["repeat1"]["dense1"]["w"].sum(1),
        "lstm1": w_i.sum((0, 1)) + w_h.sum((0, 1)),
        "attention1": sum(params["attention1"][key].sum((0, 2)) for key in ("w_q", "w_k", "w_v")),
        "dense1": params["dense1"]["w"].sum(0),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5)
    single = jn.Dense(3)
    f, variables, x, _ = problem(single, (2,), dtype=np.float32)
    found = attribute(f, variables, x, method="weight")["node"]
    np.testing.assert_allclose(found, np.abs(variables[0]["w"]).sum(0), rtol=1e-5)


def test_automatic_nodes_of_flax():
    import flax.linen as nn

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            h = nn.tanh(nn.Dense(3)(x))
            return nn.Dense(2)(h)

    net, x = Net(), np.random.default_rng(0).normal(size=(N, 4)).astype(np.float32)
    variables = net.init(jax.random.key(0), x)
    y = np.ones((N, 2), np.float32)
    found = attribute(net.apply, variables, x, y, method="taylor", loss=jn.mse, auto=True)
    ours = jn.Sequential(jn.Dense(3, "tanh"), jn.Dense(2))
    layers = [variables["params"][f"Dense_{i}"] for i in range(2)]
    params = {f"dense{i + 1}": {"w": p["kernel"], "b": p["bias"]} for i, p in enumerate(layers)}
    expected = attribute(ours.predict, (params, {}), x, y, method="taylor", loss=jn.mse)
    for a, b in zip(found.values(), expected.values(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    weights = attribute(net.apply, variables, x, method="weight", auto=True)
    np.testing.assert_allclose(
        next(iter(weights.values())), np.abs(layers[0]["kernel"]).sum(0), rtol=1e-5
    )


def embedded(w, x):
    return jn.node(w[x], "h")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "shapley"}, "expected a method of weight, activation"),
        ({"loss": None}, "expected a loss for method 'taylor', got none"),
        ({"loss": lambda p, y: p}, "one floating number, got shape"),
        ({"y": np.zeros((N, 3), "f")}, "mse: expected targets"),
        ({"f": lambda v, x: x}, "expected a function that names nodes"),
        ({"nodes": ["dense9"]}, "'dense9'; did you mean"),
        ({"baseline": 0.0}, "expected a baseline for 'conductance' alone"),
        ({"method": "conductance", "baseline": np.zeros(7)}, "broadcasts to"),
        ({"method": "weight", "f": lambda v, x: jn.node(x, "h")}, "expected weights at 'h'"),
        ({"steps": 0}, "expected steps"),
        (
            {
                "method": "conductance",
                "f": embedded,
                "variables": np.ones((3, 2), "f"),
                "x": np.zeros(N, int),
            },
            "expected floating inputs for 'conductance', got int32",
        ),
        (
            {"f": lambda v, x: jn.node(jnp.argmax(x, -1), "h", axis=None).astype("f")},
            "expected floating nodes, got 'h'",
        ),
    ],
    ids=range(12),
)
def test_errors(change, message):
    net = jn.Sequential(jn.Dense(3, "relu"), jn.Dense(2))
    f, variables, x, y = problem(net, (4,), dtype=np.float32)
    arguments = {"f": f, "variables": variables, "x": x, "y": y, "method": "taylor"}
    with pytest.raises(JaxNodesError, match=message):
        attribute(**{**arguments, "loss": jn.mse, **change})
