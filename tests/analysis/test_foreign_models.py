"""Analysis of unmodified models of other libraries, against the same networks by hand."""

import functools

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxnodes as jn
from jaxnodes import JaxNodesError
from jaxnodes.analysis import (
    ablate,
    attribute,
    find_nonfinite,
    gradient_flow,
    removal_curve,
    statistics,
    summary,
)
from tests.analysis.foreign import CNN, KEY, LABELS, MODELS, N, data, keystr

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(params=MODELS)
def model(request, x64):
    return made(request.param)


@functools.cache
def made(library):
    return MODELS[library]()


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def alike(found, expected):
    """Dicts by name, of arrays."""
    assert list(found) == list(expected)
    for name in found:
        close(found[name], expected[name])


def test_record(model):
    y, found = jn.record(model.f, auto=True)(model.variables, model.x)
    expected, values = model.seen()
    assert list(found) == list(model.weights)
    alike(found, values)
    close(y, expected)
    close(y, model.f(model.variables, model.x))


@pytest.mark.parametrize("value", ["zero", "mean", "bias"])
def test_ablate(model, value):
    """For every node: at zero, at its mean, and with its incoming weights zeroed for real."""
    found = ablate(
        model.f, model.variables, model.x, LABELS, metric=jn.cross_entropy, value=value, auto=True
    )
    assert list(found) == list(model.weights)
    y, values = model.seen()
    for name, drops in found.items():
        means = values[name].mean(tuple(range(values[name].ndim - 1)))
        for i, drop in enumerate(drops):
            if value == "bias":
                outputs = model.f(model.disconnected(name, i), model.x)
            else:
                outputs = model.without(name, i, means[i] if value == "mean" else 0)
            expected = jn.cross_entropy(y, LABELS) - jn.cross_entropy(outputs, LABELS)
            close(drop, expected)


def test_statistics(model):
    found = statistics(model.f, model.variables, model.x, y=LABELS, auto=True)
    for name, h in model.seen()[1].items():
        flat = h.reshape(-1, h.shape[-1])
        close(found[name].mean, flat.mean(0))
        close(found[name].variance, flat.var(0))
        close(found[name].maximum, flat.max(0))
        close(found[name].active, (flat > 0).mean(0))
        of_class = [h[c == LABELS].reshape(-1, h.shape[-1]).mean(0) for c in range(3)]
        close(found[name].class_means, np.stack(of_class, -1))


def test_summary(model):
    made = summary(model.f, model.variables, model.x, auto=True)
    values = model.seen()[1]
    assert made.nodes == {"input": model.x[0].size} | {n: h.shape[-1] for n, h in values.items()}
    by_name = {keystr(path): p.size for path, p in jax.tree.leaves_with_path(model.variables)}
    for name, (path, _) in model.weights.items():
        layer = path.rpartition("/")[0]
        own = sum(size for key, size in by_name.items() if f"{layer}/" in key)
        assert made.parameters[name] == own
        assert [row.output_shape for row in made.rows if row.name == name] == [values[name].shape]


def test_summary_of_a_recurrent_network():
    """Of what a layer computes before the loop, from its parameters alone, nothing is shown."""
    net, x = nn.RNN(nn.GRUCell(4)), jax.ShapeDtypeStruct((N, 7, 5), np.float32)
    rows = summary(net.apply, jax.eval_shape(net.init, KEY, x), x, auto=True).rows[1:]
    names = [f"{side}{gate}" for gate in "rzn" for side in "ih"]
    assert sorted(row.name.rpartition("/")[2] for row in rows) == sorted(names)
    for row in rows:
        size, bias = (5, 4) if row.name[-2] == "i" else (4, 4 if row.name[-1] == "n" else 0)
        assert row[2:6] == ((7, N, 4), 4, 4 * size + bias, 2 * 7 * N * 4 * size)


def test_intervene(model):
    """On the first node, and its gradient by the gate, which is that by hand."""
    name = next(iter(model.weights))
    size = model.seen()[1][name].shape[-1]
    gate = jnp.asarray(np.linspace(0.2, 1, size))

    def by_hand(gate):
        see = lambda h, at: h * gate if at == name else h  # noqa: E731
        return model.by_hand(model.variables, model.x, see).sum()

    def found(gate):
        one = {f"{name}#1" if f"{name}#2" in model.weights else name: gate}
        return jn.intervene(model.f, auto=True)(one, model.variables, model.x).sum()

    jax.tree.map(close, jax.value_and_grad(found)(gate), jax.value_and_grad(by_hand)(gate))


LOSS = {"loss": jn.cross_entropy}
CURVE = {"metric": jn.cross_entropy, "value": "mean", "every": 3}


@pytest.mark.parametrize(
    ("library", "measure", "options"),
    [
        ("linen", attribute, {"method": "taylor", **LOSS}),
        ("nnx", attribute, {"method": "integrated_gradients", **LOSS}),
        ("equinox", gradient_flow, LOSS),
        ("haiku", removal_curve, CURVE),
        ("nnx", removal_curve, CURVE),
    ],
)
def test_other_analyses_are_those_of_explicit_nodes(library, measure, options, x64):
    model = made(library)
    if measure is removal_curve:
        options = options | {"importance": {n: h[0].ravel() for n, h in model.seen()[1].items()}}
    arguments = (model.variables, model.x, LABELS)
    found = measure(model.f, *arguments, auto=True, **options)
    expected = measure(model.explicit, *arguments, **options)
    jax.tree.map(lambda a, b: close(a, b) if not isinstance(a, str) else None, found, expected)


def test_where_numbers_turn_bad(model):
    """A layer whose weights overflow is found by its name."""
    assert find_nonfinite(model.f, model.variables, model.x, auto=True) is None
    *_, (name, (path, _)) = model.weights.items()

    def huge(keys, leaf):
        return jnp.full_like(leaf, 1e308) if path in keystr(keys) else leaf

    variables = jax.tree_util.tree_map_with_path(huge, model.variables)
    found = find_nonfinite(model.f, variables, 10 + abs(model.x), auto=True)
    assert (found.node, found.primitive) == (name, "dot_general")


OPTIONS = {"metric": jn.cross_entropy, "auto": True}


def test_training_mode_is_refused():
    x = data(4, 4, 2).astype(np.float32)
    variables = CNN().init(KEY, x)

    def norming(variables, x):
        return CNN(training=True).apply(variables, x, mutable=["batch_stats"])[0]

    with pytest.raises(JaxNodesError, match=r"its answer for a sample changes with the rest"):
        ablate(norming, variables, x, LABELS, **OPTIONS)

    def with_moments(variables, x):
        return CNN(training=True).apply(variables, x, mutable=["batch_stats"])

    with pytest.raises(JaxNodesError, match=r"outputs with one entry a sample, got shape \(3,\)"):
        ablate(with_moments, variables, x, LABELS, **OPTIONS)


class Dropping(nnx.Module):
    def __init__(self, rngs):
        self.layer, self.dropout = nnx.Linear(5, 3, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.dropout(self.layer(x))


def test_random_numbers_are_refused():
    x = data(5).astype(np.float32)
    net = nn.Sequential([nn.Dense(3), nn.Dropout(0.5, deterministic=False)])
    variables = net.init({"params": KEY, "dropout": KEY}, x)
    graph, state = nnx.split(Dropping(nnx.Rngs(0)))
    functions = {
        "linen": (lambda v, x: net.apply(v, x, rngs={"dropout": KEY}), variables),
        "nnx": (lambda state, x: nnx.merge(graph, state)(x), state),
        "equinox": (
            lambda net, x: jax.vmap(lambda x: eqx.nn.Dropout()(net(x), key=KEY))(x),
            eqx.nn.Linear(5, 3, key=KEY),
        ),
    }
    for f, variables in functions.values():
        with pytest.raises(JaxNodesError, match=r"draws random numbers .*training=False"):
            ablate(f, variables, x, LABELS, **OPTIONS)
    evaluating = nnx.merge(graph, state)
    evaluating.eval()
    graph, state = nnx.split(evaluating)
    f = lambda state, x: nnx.merge(graph, state)(x)  # noqa: E731
    assert ablate(f, state, x, LABELS, **OPTIONS)["dense1"].shape == (3,)


def test_no_nodes_and_wrong_names_are_refused(x64):
    model = made("linen")
    arguments = (model.variables, model.x, LABELS)
    with pytest.raises(JaxNodesError, match=r"got 'Conv_0'; .*CNN/Conv_0.*"):
        ablate(model.f, *arguments, nodes=["Conv_0"], **OPTIONS)
    with pytest.raises(JaxNodesError, match=r"names nodes, got none; .*auto=True"):
        ablate(model.f, *arguments, metric=jn.cross_entropy)
    with pytest.raises(JaxNodesError, match="names nodes, got none"):
        ablate(lambda variables, x: x.sum((1, 2)), *arguments, **OPTIONS)
