"""`statistics` against two passes of NumPy over everything at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnodes as jn
from jaxnodes import JaxNodesError
from jaxnodes.analysis import statistics
from tests.drawn import drawn_variables

N, CLASSES = 41, 3


def values(name, f, variables, x, layers=False):
    """A site's values as (samples, positions, *nodes), in float64."""
    h = np.asarray(jn.record(f)(variables, x)[1][name], np.float64)
    if layers:
        h = np.moveaxis(h, 0, -2)
    if name.startswith("lstm"):
        h = np.moveaxis(h, 0, 1)
    return h.reshape(N, -1, *h.shape[-2 if layers else -1 :])


networks = {
    "mlp": (jn.Sequential(jn.Dense(6, "relu"), jn.Dense(4, "tanh")), (5,)),
    "cnn": (jn.Sequential(jn.Conv(3, 3, "relu"), jn.Flatten(), jn.Dense(4)), (5, 5, 2)),
    "lstm": (jn.Sequential(jn.LSTM(4), jn.Dense(2)), (6, 3)),
    "stack": (jn.Sequential(jn.Repeat(jn.Dense(3, "tanh"), 4)), (3,)),
}


def problem(case):
    net, shape = networks[case]
    x = np.random.default_rng(1).normal(size=(N, *shape)).astype(np.float32)
    y = np.random.default_rng(2).integers(0, CLASSES, N)
    return net.predict, drawn_variables(net, x), x, y


@pytest.mark.parametrize("case", networks)
def test_equals_two_passes_of_numpy(case):
    f, variables, x, y = problem(case)
    options = {"bins": 7, "span": (-0.91, 1.53), "top_k": 3}
    found = statistics(f, variables, x, y, batch_size=16, **options)
    assert list(found) == [site.name for site in jn.node_sites(f, variables, x)]
    for name, s in found.items():
        h = values(name, f, variables, x, layers=case == "stack")
        shape = h.shape[2:]
        close = {"rtol": 2e-5, "atol": 1e-6}
        np.testing.assert_allclose(s.mean, h.mean((0, 1)), **close)
        np.testing.assert_allclose(s.variance, h.var((0, 1)), **close)
        np.testing.assert_allclose(s.magnitude, np.abs(h).mean((0, 1)), **close)
        np.testing.assert_allclose(s.minimum, h.min((0, 1)), **close)
        np.testing.assert_allclose(s.maximum, h.max((0, 1)), **close)
        np.testing.assert_allclose(s.active, (h > 0).mean((0, 1)), rtol=1e-12)
        assert s.samples == N
        of_class = np.stack([h[y == c].mean((0, 1)) for c in range(CLASSES)], -1)
        np.testing.assert_allclose(s.class_means, of_class, **close)
        largest = h.max(1)
        for node in np.ndindex(*shape):
            own = h[(slice(None), slice(None), *node)].ravel()
            np.testing.assert_array_equal(s.histogram[node], np.histogram(own, s.edges)[0])
            assert (s.below[node], s.above[node]) == (
                (own < s.edges[0]).sum(),
                (own > s.edges[-1]).sum(),
            )
            order = np.argsort(-largest[(slice(None), *node)], kind="stable")[:3]
            np.testing.assert_array_equal(s.top_samples[node], order)
            np.testing.assert_allclose(s.top_values[node], largest[(order, *node)], **close)


def test_a_stream_of_uneven_batches_is_the_whole():
    f, variables, x, y = problem("mlp")
    cuts = [9, 10, 30]
    batches = zip(np.split(x, cuts), np.split(y, cuts), strict=True)
    options = {"span": (-1.0, 2.0), "bins": 5}
    whole = statistics(f, variables, x, y, **options)
    streamed = statistics(f, variables, batches, classes=CLASSES, batch_size=8, **options)
    for name in whole:
        for field, a, b in zip(whole[name]._fields, whole[name], streamed[name], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6, err_msg=field)
    unlabeled = statistics(f, variables, iter(np.split(x, cuts)), **options)
    np.testing.assert_allclose(unlabeled["dense1"].mean, whole["dense1"].mean, rtol=1e-5)
    assert unlabeled["dense1"].class_means.shape == (6, 0)
    assert np.isnan(unlabeled["dense1"].selectivity).all()


def test_worked_by_hand():
    f = lambda v, x: jn.node(x, "h")  # noqa: E731
    x = np.float32([[0, 1, 4, 0.01], [0, -1, 0, 0], [0, 1, 2, 0.03], [0, -1, 2, 0]])
    s = statistics(f, (), x, [0, 1, 0, 1], top_k=2, limits=(-1, 1), bins=2, span=(0, 2))["h"]
    np.testing.assert_allclose(s.mean, [0, 0, 2, 0.01])
    np.testing.assert_allclose(s.variance, [0, 1, 2, 0.00015], rtol=1e-5)
    np.testing.assert_array_equal(s.active, [0, 0.5, 0.75, 0.5])
    np.testing.assert_allclose(s.class_means, [[0, 0], [1, -1], [3, 1], [0.02, 0]])
    np.testing.assert_allclose(s.selectivity, [0, 1, 0.5, 1])
    np.testing.assert_array_equal(s.histogram, [[4, 0], [0, 2], [1, 2], [4, 0]])
    np.testing.assert_array_equal(s.below, [0, 2, 0, 0])
    np.testing.assert_array_equal(s.above, [0, 0, 1, 0])
    np.testing.assert_array_equal(s.top_samples, [[0, 1], [0, 2], [0, 2], [2, 0]])
    np.testing.assert_array_equal(s.dead, [True, False, False, False])
    # Mean sizes 0, 1, 2 and 0.01 of a layer's mean 0.7525: 0.01 / 0.7525 is below 0.025.
    np.testing.assert_array_equal(s.dormant, [True, False, False, True])
    np.testing.assert_array_equal(s.near_limit, [0, 1, 0.75, 0])
    np.testing.assert_array_equal(s.saturated, [False, True, False, False])


def test_a_large_mean_loses_no_variance():
    f = lambda v, x: jn.node(x + 1e4, "h")  # noqa: E731
    x = np.random.default_rng(0).normal(size=(3000, 2)).astype(np.float32)
    there = np.asarray(jnp.asarray(x) + 1e4, np.float64)
    s = statistics(f, (), x)["h"]
    np.testing.assert_allclose(s.variance, there.var(0), rtol=1e-4)
    np.testing.assert_allclose(s.mean, there.mean(0), rtol=1e-7)


def test_nonfinite_values_are_seen():
    f = lambda v, x: jn.node(x, "h")  # noqa: E731
    x = np.float32([[1, np.nan], [np.inf, 2], [3, 4]])
    s = statistics(f, (), x, bins=3)["h"]
    np.testing.assert_array_equal(s.mean, [np.inf, np.nan])
    np.testing.assert_array_equal(s.edges, [1, 2, 3, 4])
    np.testing.assert_array_equal(s.histogram, [[1, 0, 1], [0, 1, 1]])
    np.testing.assert_array_equal(s.above, [1, 0])


def test_few_samples_and_integer_nodes():
    f = lambda v, x: jn.node(x, "h")  # noqa: E731
    s = statistics(f, (), np.array([[3, 5], [4, 4]]), top_k=5, bins=1)["h"]
    np.testing.assert_array_equal(s.top_values, [[4, 3], [5, 4]])
    assert s.top_samples.shape == (2, 2)
    np.testing.assert_array_equal(s.mean, [3.5, 4.5])
    # One value alone: half a unit around it.
    np.testing.assert_array_equal(
        statistics(f, (), np.ones((3, 1)), bins=2)["h"].edges, [0.5, 1, 1.5]
    )
    whole = statistics(lambda v, x: jn.node(x, "h", axis=None), (), np.ones((3, 2)))["h"]
    assert whole.mean.shape == (1,)


def test_compiles_once(caplog):
    f, variables, x, y = problem("mlp")

    def compilations(x):
        caplog.clear()
        with jax.log_compiles():
            statistics(f, variables, x, y, batch_size=13)
        return [r for r in caplog.records if r.message.startswith("Compiling")]

    backward = x[::-1]
    assert compilations(x)  # no other test has tiles of this size
    assert not compilations(backward)


def test_automatic_nodes_of_flax():
    import flax.linen as nn

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            h = nn.relu(nn.Dense(3)(x))
            return nn.Dense(2)(h)

    net, x = Net(), np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    variables = net.init(jax.random.key(0), x)
    found = statistics(net.apply, variables, x, auto=True)
    p = variables["params"]["Dense_0"]
    h = np.maximum(x @ np.asarray(p["kernel"]) + np.asarray(p["bias"]), 0)
    (first, _) = found.values()
    np.testing.assert_allclose(first.mean, h.mean(0), rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"f": lambda v, x: x}, "expected a function that names nodes, got none"),
        ({"nodes": ["dense3"]}, "'dense3'; did you mean"),
        ({"nodes": []}, "expected the names of some nodes"),
        ({"y": np.zeros(N)}, "expected integer classes y of shape"),
        ({"y": np.full(N, 7), "classes": 3}, "expected classes from 0 to 2, got 7 to 7"),
        ({"classes": 3}, "expected y, the classes"),
        ({"span": (2, 1)}, "expected span of 'dense1' to be"),
        ({"limits": {"dense": (0, 1)}}, "expected limits for"),
        ({"x": iter([])}, "expected at least one batch"),
        ({"x": [1, 2]}, "an iterable of batches, got list"),
        ({"x": iter([np.ones((4, 5), "f"), np.ones((4, 6), "f")])}, "expected batches alike"),
        ({"x": iter([np.ones((4, 5), "f")]), "classes": 2}, "expected pairs"),
        (
            {"f": lambda v, x: jn.node(x.reshape(-1, 1), "flat").reshape(x.shape)},
            "an axis for the samples alone, got 'flat' of shape",
        ),
        (
            {"f": lambda v, x: jn.node(x - x.mean(0), "h")},
            "its answer for a sample changes with the rest of the batch",
        ),
        ({"bins": 0}, "expected bins"),
    ],
    ids=lambda case: next(iter(case)) if isinstance(case, dict) else "",
)
def test_errors(change, message):
    f, variables, x, _ = problem("mlp")
    arguments = {"f": f, "variables": variables, "x": x} | change
    with pytest.raises(JaxNodesError, match=message):
        statistics(**arguments)


def test_refuses_traced_arrays():
    f, variables, x, _ = problem("mlp")
    with pytest.raises(JaxNodesError, match="call it outside of jit"):
        jax.jit(lambda x: statistics(f, variables, x)["dense1"].mean)(x)
