"""Pairs, removal curves and Shapley values against their definitions."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnodes as jn
from jaxnodes import JaxNodesError
from jaxnodes.analysis import ablate_pairs, removal_curve, shapley
from tests.drawn import drawn_variables

N = 13


def negative_mse(outputs, y):
    return -jn.mse(outputs, y)


def problem(net, shape):
    x = np.random.default_rng(1).normal(size=(N, *shape)).astype(np.float32)
    variables = drawn_variables(net, x)
    out = jax.eval_shape(net.predict, variables, x)
    y = np.random.default_rng(2).normal(size=out.shape).astype(np.float32)
    return net.predict, variables, x, y


MLP = jn.Sequential(jn.Dense(3, "tanh"), jn.Dense(2))
NETWORKS = {
    "mlp": (MLP, (4,), {"dense1": (3,), "dense2": (2,)}),
    "lstm": (jn.Sequential(jn.LSTM(3), jn.Dense(2)), (4, 2), {"lstm1": (3,), "dense1": (2,)}),
    "stack": (
        jn.Sequential(jn.Repeat(jn.Dense(2, "tanh"), 2), jn.Dense(2)),
        (2,),
        {"repeat1/dense1": (2, 2), "dense1": (2,)},
    ),
}


def game(f, variables, x, y, shapes, metric=negative_mse, value=None):
    """The metric with only some nodes, by a row of booleans over all nodes."""

    @jax.jit
    def of(kept):
        gates, start = {}, 0
        for name, shape in shapes.items():
            end = start + math.prod(shape)
            gate = kept[start:end].reshape(shape).astype(np.float32)
            gates[name] = gate if value is None else (gate, value[name])
            start = end
        return metric(jn.intervene(f)(gates, variables, x), y)

    return lambda kept: np.asarray(of(np.asarray(kept, bool)))


@pytest.mark.parametrize("case", NETWORKS)
def test_pairs_are_measured_without_both(case):
    net, shape, shapes = NETWORKS[case]
    f, variables, x, y = problem(net, shape)
    pairs = ablate_pairs(f, variables, x, y, metric=negative_mse, batch_size=5)
    of = game(f, variables, x, y, shapes)
    k = sum(map(math.prod, shapes.values()))
    assert len(pairs.nodes) == k
    for i, j in itertools.product(range(k), repeat=2):
        kept = np.ones(k, bool)
        kept[[i, j]] = False
        np.testing.assert_allclose(
            pairs.joint[i, j], of(np.ones(k)) - of(kept), rtol=1e-4, atol=1e-6
        )
        together = 0 if i == j else pairs.joint[i, j] - pairs.single[i] - pairs.single[j]
        np.testing.assert_allclose(pairs.interaction[i, j], together, atol=1e-7)
        if i == j:
            assert pairs.single[i] == pairs.joint[i, i]


def test_pairs_of_some_nodes_and_metrics_of_several_values():
    f, variables, x, y = problem(MLP, (4,))
    every = ablate_pairs(f, variables, x, y, metric=negative_mse)
    assert every.nodes == (*[("dense1", i) for i in range(3)], ("dense2", 0), ("dense2", 1))
    some = ablate_pairs(
        f, variables, x, y, metric=negative_mse, nodes=[("dense1", 2), "dense2", ("dense1", 2)]
    )
    assert some.nodes == (("dense1", 2), ("dense2", 0), ("dense2", 1))
    places = np.array([2, 3, 4])
    np.testing.assert_allclose(
        some.joint, every.joint[np.ix_(places, places)], rtol=1e-5, atol=1e-7
    )

    def each(outputs, y):
        return -jnp.mean((outputs - y) ** 2, axis=0)

    both = ablate_pairs(f, variables, x, y, metric=each)
    assert both.single.shape == (5, 2)
    np.testing.assert_allclose(both.joint.mean(-1), every.joint, rtol=1e-5, atol=1e-6)
    stack, shape, _ = NETWORKS["stack"]
    f, variables, x, y = problem(stack, shape)
    one = ablate_pairs(f, variables, x, y, metric=negative_mse, nodes=[("repeat1/dense1", (1, 0))])
    assert one.joint.shape == (1, 1)


@pytest.mark.parametrize("value", ["mean", {"dense1": [1, 2, 3], "dense2": 0.5}])
def test_values_take_the_place_of_nodes(value):
    net, shape, shapes = NETWORKS["mlp"]
    f, variables, x, y = problem(net, shape)
    pairs = ablate_pairs(f, variables, x, y, metric=negative_mse, value=value, batch_size=5)
    if value == "mean":
        value = {name: h.mean(0) for name, h in jn.record(f)(variables, x)[1].items()}
    given = {name: np.broadcast_to(np.float32(v), shapes[name]) for name, v in value.items()}
    of = game(f, variables, x, y, shapes, value=given)
    drop = of(np.ones(5)) - of(np.array([0, 1, 1, 1, 0]))
    np.testing.assert_allclose(pairs.joint[0, 4], drop, rtol=1e-4, atol=1e-6)


def test_mean_of_a_recurrent_node_is_over_its_steps():
    net, shape, _ = NETWORKS["lstm"]
    f, variables, x, y = problem(net, shape)
    found = removal_curve(
        f,
        variables,
        x,
        y,
        metric=negative_mse,
        importance={"lstm1": [0, 1, 2]},
        value="mean",
        batch_size=5,
    )
    h = jn.record(f)(variables, x)[1]["lstm1"]
    gate = (np.float32([0, 1, 1]), h.mean((0, 1)))
    expected = negative_mse(jn.intervene(f)({"lstm1": gate}, variables, x), y)
    np.testing.assert_allclose(found.metric[1], expected, rtol=1e-5)


@pytest.mark.parametrize("order", ["worst", "best"])
@pytest.mark.parametrize("case", NETWORKS)
def test_removal_curve(case, order):
    net, shape, shapes = NETWORKS[case]
    f, variables, x, y = problem(net, shape)
    k = sum(map(math.prod, shapes.values()))
    worth = np.random.default_rng(3).permutation(k).astype(float)
    worth[0] = worth[1]  # the first goes first
    cuts = np.cumsum([math.prod(s) for s in shapes.values()])[:-1]
    importance = {
        name: part.reshape(shape)
        for (name, shape), part in zip(shapes.items(), np.split(worth, cuts), strict=True)
    }
    curve = removal_curve(
        f, variables, x, y, metric=negative_mse, importance=importance, order=order, every=2
    )
    sign = 1 if order == "worst" else -1
    going = sorted(range(k), key=lambda i: (sign * worth[i], i))
    of = game(f, variables, x, y, shapes)
    assert list(curve.removed) == sorted({*range(0, k, 2), k})
    for gone, metric in zip(curve.removed, curve.metric, strict=True):
        kept = np.ones(k, bool)
        kept[going[:gone]] = False
        np.testing.assert_allclose(metric, of(kept), rtol=1e-5)
    sites = list(shapes)
    flat = [
        (name, index if len(index) > 1 else index[0])
        for name in sites
        for index in np.ndindex(*shapes[name])
    ]
    assert curve.nodes == tuple(flat[i] for i in going)


def exact_shapley(of, k):
    """The definition, over all sets of the other nodes."""
    values = np.zeros(k)
    for i in range(k):
        others = [j for j in range(k) if j != i]
        for size in range(k):
            share = math.factorial(size) * math.factorial(k - size - 1) / math.factorial(k)
            for some in itertools.combinations(others, size):
                kept = np.isin(np.arange(k), some)
                values[i] += share * (of(kept | (np.arange(k) == i)) - of(kept))
    return values


@pytest.mark.parametrize("case", ["mlp", "stack"])
def test_shapley_values(case):
    net, shape, shapes = NETWORKS[case]
    f, variables, x, y = problem(net, shape)
    found = shapley(
        f, variables, x, y, metric=negative_mse, key=jax.random.key(5), permutations=200
    )
    assert {name: v.shape for name, v in found.values.items()} == shapes
    flat = np.concatenate([np.ravel(v) for v in found.values.values()])
    errors = np.concatenate([np.ravel(v) for v in found.standard_errors.values()])
    of = game(f, variables, x, y, shapes)
    exact = exact_shapley(of, len(flat))
    # Within four standard errors, and these are not far too large.
    assert (np.abs(flat - exact) <= 4 * errors + 1e-6).all()
    assert (errors < 0.1 * np.abs(exact).max()).all()
    np.testing.assert_allclose(found.whole, of(np.ones(len(flat))), rtol=1e-5)
    np.testing.assert_allclose(found.removed, of(np.zeros(len(flat))), rtol=1e-5)
    np.testing.assert_allclose(flat.sum(), found.whole - found.removed, rtol=1e-5)


def test_shapley_of_additive_nodes_is_their_part_without_error():
    f = lambda w, x: jn.node(x * w, "h").sum(-1)  # noqa: E731
    w, x = np.float32([1, -2, 5]), np.ones((4, 3), np.float32)
    metric = lambda p, y: jnp.stack([p.mean(), 2 * p.mean()])  # noqa: E731
    options = {"metric": metric, "key": jax.random.key(0), "permutations": 3}
    found = shapley(f, w, x, None, **options)
    np.testing.assert_allclose(found.values["h"], np.stack([w, 2 * w], -1), rtol=1e-6)
    np.testing.assert_allclose(found.standard_errors["h"], np.zeros((3, 2)), atol=1e-6)
    single = shapley(lambda w, x: jn.node(x @ w[:, None], "h")[:, 0], w, x, None, **options)
    np.testing.assert_allclose(single.values["h"], [[4, 8]], rtol=1e-6)


def test_the_numbers_do_not_depend_on_memory_or_tiles():
    f, variables, x, y = problem(MLP, (4,))
    options = {"metric": negative_mse, "key": jax.random.key(1), "permutations": 4}
    whole = shapley(f, variables, x, y, **options)
    tiled = shapley(f, variables, x, y, batch_size=4, memory=2**20, progress=True, **options)
    for name in whole.values:
        np.testing.assert_allclose(tiled.values[name], whole.values[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("measure", "change", "message"),
    [
        (ablate_pairs, {"nodes": ["dense3"]}, "'dense3'; did you mean"),
        (ablate_pairs, {"nodes": [("dense1", 3)]}, r"got \('dense1', 3\); the last one"),
        (ablate_pairs, {"value": "bias"}, "expected value 'zero', 'mean'"),
        (ablate_pairs, {"value": {"dense1": 0}}, "got none for 'dense2'"),
        (ablate_pairs, {"value": {"dense1": [1, 2], "dense2": 0}}, "broadcasts to"),
        (ablate_pairs, {"metric": None}, "expected metric"),
        (ablate_pairs, {"f": lambda v, x: x}, "expected a function that names nodes"),
        (ablate_pairs, {"memory": 3}, "expected memory"),
        (removal_curve, {"importance": {"dense1": [1, 2]}}, "expected an importance of shape"),
        (removal_curve, {"importance": {"dense1": [1, 2, np.nan]}}, "got NaN"),
        (removal_curve, {"importance": {"dense": [1, 2, 3]}}, "'dense'; did you mean"),
        (removal_curve, {"importance": {}}, "expected an importance, a dict"),
        (removal_curve, {"importance": {"dense1": [1, 2, 3]}, "order": "up"}, "expected order"),
        (shapley, {"key": 3}, "expected a typed PRNG key"),
        (shapley, {"key": jax.random.key(0), "permutations": 1}, "expected permutations"),
        (shapley, {"key": jax.random.key(0), "y": np.zeros(3)}, "expected targets"),
    ],
)
def test_errors(measure, change, message):
    f, variables, x, y = problem(MLP, (4,))
    arguments = {"f": f, "variables": variables, "x": x, "y": y, "metric": negative_mse}
    with pytest.raises(JaxNodesError, match=message):
        measure(**{**arguments, **change})
