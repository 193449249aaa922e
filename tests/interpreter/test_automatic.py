"""Automatic nodes: unmodified models of four libraries, and the rule case by case."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.test_util import check_grads

from jaxnodes.errors import JaxNodesError
from jaxnodes.primitive import node
from jaxnodes.transforms import intervene, node_sites, record

X = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
W1 = np.sin(np.arange(20, dtype=np.float32)).reshape(4, 5)
B1 = np.float32([0.1, -0.1, 0.2, 0.0, 0.3])
W2 = np.cos(np.arange(10, dtype=np.float32)).reshape(5, 2)
PARAMS = {"w1": W1, "b1": B1, "w2": W2}
H = np.maximum(X @ W1 + B1, 0)


def mlp(p, x):
    return jax.nn.relu(x @ p["w1"] + p["b1"]) @ p["w2"]


def recorded(f, *args, **kwargs):
    y, nodes = record(f, auto=True)(*args, **kwargs)
    expected = f(*args, **kwargs)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6), y, expected)
    sites = node_sites(f, *args, auto=True, **kwargs)
    assert [(s.name, s.shape) for s in sites] == [(k, v.shape) for k, v in nodes.items()]
    return nodes, {site.name: site.axis for site in sites}


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def check_removal(f, variables, x, name, hidden, rest):
    """Removing one node of `f` at a time is removing a column of `hidden` before `rest`."""
    for k, gate in enumerate(1 - np.eye(hidden.shape[-1], dtype=np.float32)):
        y = intervene(f, auto=True)({name: gate}, variables, x)
        close(y, rest(hidden * gate))
        if k == 2:
            break


def test_plain_functions():
    nodes, axes = recorded(mlp, PARAMS, X)
    assert axes == {"dense1": 1, "dense2": 1}
    close(nodes["dense1"], H)
    close(nodes["dense2"], H @ W2)
    check_removal(mlp, PARAMS, X, "dense1", H, lambda h: h @ W2)
    assert record(mlp)(PARAMS, X)[1] == {}


class CNN(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(4, (3, 3), padding="VALID")(x)
        x = nn.relu(nn.BatchNorm(use_running_average=True)(x))
        x = nn.max_pool(x, (2, 2), (2, 2))
        x = nn.Dropout(0.5, deterministic=True)(x.reshape(x.shape[0], -1))
        x = nn.gelu(nn.Dense(6)(x))
        return nn.Dense(3)(x)


def test_flax_linen_cnn():
    model, x = CNN(), np.random.default_rng(0).normal(size=(2, 8, 8, 1)).astype(np.float32)
    variables = model.init(jax.random.key(0), x)
    bn = variables["batch_stats"]["BatchNorm_0"]
    bn["mean"], bn["var"] = jnp.arange(4.0) / 10, jnp.arange(1.0, 5.0)
    params = variables["params"]
    kernel, scale = np.array(params["Conv_0"]["kernel"]), params["BatchNorm_0"]["scale"]

    def by_hand():
        patches = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2))
        conv = np.einsum("bijcuv,uvcf->bijf", patches, kernel) + params["Conv_0"]["bias"]
        conv = (conv - bn["mean"]) / np.sqrt(bn["var"] + 1e-5) * scale
        return np.maximum(conv + params["BatchNorm_0"]["bias"], 0)

    def rest(h, layers=3):
        h = h.reshape(2, 3, 2, 3, 2, 4).max((2, 4)).reshape(2, -1)
        h = jax.nn.gelu(h @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"])
        return h if layers == 2 else h @ params["Dense_1"]["kernel"] + params["Dense_1"]["bias"]

    nodes, axes = recorded(model.apply, variables, x)
    assert axes == {"CNN/Conv_0": 3, "CNN/Dense_0": 1, "CNN/Dense_1": 1}
    close(nodes["CNN/Conv_0"], by_hand())
    close(nodes["CNN/Dense_0"], rest(by_hand(), layers=2))
    check_removal(model.apply, variables, x, "CNN/Conv_0", by_hand(), rest)


def test_flax_nnx_mlp():
    class MLP(nnx.Module):
        def __init__(self, rngs):
            self.hidden = nnx.Linear(4, 5, rngs=rngs)
            self.out = nnx.Linear(5, 2, rngs=rngs)

        def __call__(self, x):
            return self.out(nnx.relu(self.hidden(x)))

    model = MLP(nnx.Rngs(0))
    model.hidden.kernel[...], model.hidden.bias[...] = W1, B1
    model.out.kernel[...] = W2
    graph, state = nnx.split(model)
    f = lambda state, x: nnx.merge(graph, state)(x)  # noqa: E731
    nodes, _ = recorded(f, state, X)
    close(nodes["dense1"], H)
    close(nodes["dense2"], H @ W2)
    check_removal(f, state, X, "dense1", H, lambda h: h @ W2)


def test_equinox_mlp():
    model = eqx.nn.MLP(4, 2, 5, 1, key=jax.random.key(0))
    where = lambda m: (m.layers[0].weight, m.layers[0].bias, m.layers[1].weight, m.layers[1].bias)  # noqa: E731
    model = eqx.tree_at(where, model, (W1.T, B1, W2.T, np.zeros(2, np.float32)))
    names = ["eqx.nn.MLP/eqx.nn.Linear", "eqx.nn.MLP/eqx.nn.Linear#2"]
    f = lambda model, x: jax.vmap(model)(x)  # noqa: E731
    nodes, axes = recorded(f, model, X)
    assert axes == dict.fromkeys(names, 1)
    close(nodes[names[0]], H)
    check_removal(f, model, X, names[0] + "#1", H, lambda h: h @ W2)
    nodes, axes = recorded(model, X[0])  # a module is a function that holds its variables
    assert axes == dict.fromkeys(names, 0)
    close(nodes[names[0]], H[0])


def test_equinox_convolution_under_vmap():
    class Model(eqx.Module):
        conv: eqx.nn.Conv2d

        def __call__(self, x):
            return jax.nn.relu(self.conv(x)).mean((1, 2))

    x = np.random.default_rng(0).normal(size=(2, 3, 6, 6)).astype(np.float32)
    model = Model(eqx.nn.Conv2d(3, 4, 3, key=jax.random.key(0)))
    nodes, axes = recorded(lambda model, x: jax.vmap(model)(x), model, x)
    assert axes == {"eqx.nn.Conv": 1}
    patches = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (2, 3))
    conv = np.einsum("bcijuv,fcuv->bfij", patches, np.array(model.conv.weight))
    close(nodes["eqx.nn.Conv"], np.maximum(conv + model.conv.bias, 0))


def test_haiku_mlp():
    hk = pytest.importorskip("haiku")
    model = hk.without_apply_rng(hk.transform(lambda x: hk.nets.MLP([5, 2])(x)))
    params = model.init(jax.random.key(0), X)
    params["mlp/~/linear_0"] = {"w": W1, "b": B1}
    params["mlp/~/linear_1"] = {"w": W2, "b": np.zeros(2, np.float32)}
    nodes, axes = recorded(model.apply, params, X)
    assert axes == {"mlp/linear_0": 1, "mlp/linear_1": 1}
    close(nodes["mlp/linear_0"], H)
    check_removal(model.apply, params, X, "mlp/linear_0", H, lambda h: h @ W2)


def test_two_uses_end_the_region_unless_they_meet_again():
    def f(p, x):
        z = x @ p["w1"] + p["b1"]
        y = z * jax.nn.sigmoid(z)  # two uses, both inside
        return jnp.sum(y @ p["w2"]), z.sum()  # a third one, outside

    nodes, _ = recorded(f, PARAMS, X)
    close(nodes["dense1"], X @ W1 + B1)
    nodes, _ = recorded(lambda p, x: f(p, x)[0], PARAMS, X)
    z = X @ W1 + B1
    close(nodes["dense1"], z / (1 + np.exp(-z)))


def test_a_skip_addition_pooling_and_softmax_end_the_region():
    square = np.eye(4, dtype=np.float32) * 2
    skip = lambda w, x: jnp.tanh(x + jnp.tanh(x @ w) * 3)  # noqa: E731
    close(recorded(skip, square, X)[0]["dense1"], 3 * np.tanh(2 * X))
    close(recorded(lambda w, x: jax.nn.softmax(x @ w), square, X)[0]["dense1"], 2 * X)
    close(recorded(lambda w, x: (x @ w).mean(0) * 2, square, X)[0]["dense1"], 2 * X)
    own = lambda w, x: x @ w + jax.nn.relu(x @ w)  # noqa: E731
    assert list(recorded(own, square, X)[0]) == ["dense1", "dense2"]


@pytest.mark.parametrize(
    ("f", "axis", "by_hand"),
    [
        (lambda w, x: jnp.tanh(jnp.einsum("io,bi->bo", w, x)), 1, np.tanh(X @ W1)),
        (lambda w, x: jnp.tanh(w.T @ x.T), 0, np.tanh(X @ W1).T),
        (lambda w, x: jnp.tanh((w.T @ x.T).T[None]), 2, np.tanh(X @ W1)[None]),
        (lambda w, x: (x @ w).T * 2, 0, 2 * (X @ W1).T),
        (lambda w, x: x @ w[:, 0], None, X @ W1[:, 0]),
        (
            lambda w, x: jnp.einsum("bi,kio->bko", x, jnp.stack([w, 2 * w])),
            2,
            np.stack([X @ W1, 2 * X @ W1], 1),
        ),
        (lambda w, x: jnp.exp((x @ w).reshape(3, 1, 5)), 2, np.exp(X @ W1)[:, None]),
        (lambda w, x: jnp.exp((x @ w).reshape(15)), 1, X @ W1),  # mixes nodes and samples
        (lambda w, x: (x @ w).reshape(15), 1, X @ W1),
        (lambda w, x: jnp.where(x @ w > 0, 1, 0), 1, X @ W1),
    ],
    ids=lambda value: "",
)
def test_axis_is_the_last_free_dimension_of_the_weight(f, axis, by_hand):
    (nodes, axes) = recorded(f, W1, X)
    assert axes == {"dense1": axis}
    close(nodes["dense1"], by_hand)


def test_only_operations_with_one_operand_of_data():
    def attention(p, x, scale):
        q, k = x @ p["w1"], x @ p["w1"]
        return (q @ k.T * scale) @ x + (p["w1"] @ p["w1"].T)[:3]

    assert list(recorded(attention, PARAMS, X, scale=2.0)[0]) == ["dense1", "dense2"]
    assert recorded(lambda p, x: p["w1"] @ p["w2"] + x.sum(), PARAMS, X)[0] == {}
    by_data = lambda v, x: jax.lax.conv(v[None, None], x[None, None], (1, 1), "SAME")  # noqa: E731
    assert recorded(by_data, X, X)[0] == {}  # here the kernel is data


def test_explicit_nodes_are_kept_and_win():
    def f(p, x):
        h = node(jnp.tanh(x @ p["w1"]), "hidden")
        return jnp.exp(h @ p["w2"])

    nodes, _ = recorded(f, PARAMS, X)
    assert list(nodes) == ["hidden", "dense1"]
    close(nodes["hidden"], np.tanh(X @ W1))
    inner = lambda p, x: jnp.tanh(node(x @ p["w1"], "pre"))  # noqa: E731
    assert list(recorded(inner, PARAMS, X)[0]) == ["pre"]


def test_inside_jit_scan_remat_cond_and_custom_gradients():
    @jax.jit
    def dense(w, x):
        return x @ w

    @jax.custom_jvp
    def scaled(w, x):
        return x @ w * 2

    scaled.defjvp(lambda primals, tangents: (scaled(*primals), 7 * tangents[1] @ primals[0]))
    square = np.eye(4, dtype=np.float32) / 2

    def f(w, x):
        x = jnp.tanh(dense(w, x))  # the region leaves the jit
        x, _ = jax.lax.scan(lambda c, u: (jax.nn.relu(c @ w + u),) * 2, x, jnp.arange(3.0))
        x = jax.checkpoint(lambda w, x: jnp.sin(x @ w))(w, x) * 3
        x = jax.lax.cond(x.sum() > 0, lambda w, x: x @ w, lambda w, x: x, w, x)
        return scaled(w, x)

    _, nodes = record(f, auto=True, only=["dense1", "dense2", "dense3", "dense5"])(square, X)
    close(nodes["dense1"], np.tanh(X / 2))
    h = np.tanh(X / 2)
    steps = []
    for t in range(3):
        h = np.maximum(h / 2 + t, 0)
        steps.append(h)
    close(nodes["dense2"], steps)
    close(nodes["dense3"], 3 * np.sin(h / 2))
    with pytest.raises(JaxNodesError, match="'dense4': only some branches of a cond"):
        record(f, auto=True)(square, X)
    for gated in (  # the node of `scaled` is its output, outside the custom gradient
        lambda x: record(scaled, auto=True)(square, x)[0].sum(),
        lambda x: intervene(scaled, auto=True)({}, square, x).sum(),
        lambda x: intervene(scaled, auto=True)({"dense1": np.ones(4)}, square, x).sum(),
    ):
        close(jax.grad(gated)(X), np.full_like(X, 3.5))


def test_intervening_keeps_the_rules_of_activations():
    relu = lambda w, x: jax.nn.relu(x @ w).sum()  # noqa: E731
    zero = np.zeros((1, 4), np.float32)
    gradient = jax.grad(lambda x: intervene(relu, auto=True)({"dense1": np.ones(5)}, W1, x))(zero)
    np.testing.assert_array_equal(gradient, zero)  # jax.nn.relu's own; that of max is a half


def test_composition():
    gate = np.float32([1, 0, 1, 0, 1])
    y, nodes = record(intervene(mlp, auto=True))({"dense1": gate}, PARAMS, X)
    assert list(nodes) == ["dense1", "dense2"]
    close(nodes["dense1"], H * gate)
    again, nodes = intervene(record(mlp, auto=True))({"dense1": gate}, PARAMS, X)
    close(again, y)
    close(nodes["dense1"], H * gate)
    scoped = jax.named_scope("net")(lambda p, x: jax.jit(jax.named_scope("layer")(mlp))(p, x))
    _, nodes = record(record(scoped, auto=True))(PARAMS, X)
    assert list(nodes) == ["net/layer", "net/layer#2"]
    gradient = jax.grad(lambda p, x: mlp(p, x).sum())
    with pytest.raises(JaxNodesError, match="before differentiation"):
        intervene(gradient, auto=True)({"dense1": gate}, PARAMS, X)
    check_grads(
        lambda gate: intervene(mlp, auto=True)({"dense1": gate}, PARAMS, X),
        (gate,),
        order=1,
        rtol=1e-2,
        atol=1e-2,
    )


def test_needs_data():
    with pytest.raises(JaxNodesError, match="data are the arguments after the first, but got one"):
        record(lambda x: x @ W1, auto=True)(X)
