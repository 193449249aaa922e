"""`fidelity` against scipy's correlations."""

import jax
import numpy as np
import pytest
import scipy.stats

import jaxnodes as jn
from jaxnodes import JaxNodesError
from jaxnodes.analysis import ablate, attribute, fidelity, measure_fidelity


def test_equals_scipy():
    rng = np.random.default_rng(0)
    exact = {"a": rng.normal(size=20), "b": rng.normal(size=(3, 5))}
    cheap = {name: v + rng.normal(size=v.shape) for name, v in exact.items()}
    cheap["a"][:4] = 0.5  # equal ranks
    found = fidelity({"cheap": cheap, "itself": exact}, exact)
    pairs = {name: (cheap[name].ravel(), exact[name].ravel()) for name in exact}
    pooled = tuple(np.concatenate(side) for side in zip(*pairs.values(), strict=True))
    for got, (a, b) in [
        (found["cheap"].overall, pooled),
        *[(found["cheap"].sites[name], pair) for name, pair in pairs.items()],
    ]:
        np.testing.assert_allclose(got.pearson, scipy.stats.pearsonr(a, b)[0])
        np.testing.assert_allclose(got.spearman, scipy.stats.spearmanr(a, b)[0])
    np.testing.assert_allclose(found["itself"].overall, (1, 1))


def test_what_is_constant_or_nan_has_no_correlation():
    found = fidelity({"c": {"h": [1, 1, 1]}, "n": {"h": [1, np.nan, 2]}}, {"h": [1, 2, 3]})
    for measure in ("c", "n"):
        assert np.isnan(found[measure].overall).all()


def test_measured_on_a_model():
    net = jn.Sequential(jn.Dense(6, "tanh"), jn.Dense(3))
    x = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    y = np.random.default_rng(1).integers(0, 3, 30)
    variables = net.init(jax.random.key(0), x)
    methods = ["activation", "taylor2"]
    found = measure_fidelity(
        net.predict, variables, x, y, loss=jn.cross_entropy, methods=methods, nodes=["dense1"]
    )
    exact = ablate(
        net.predict, variables, x, y, metric=lambda p, y: -jn.cross_entropy(p, y), nodes=["dense1"]
    )
    assert list(found) == methods
    for method in methods:
        options = {"method": method, "loss": jn.cross_entropy, "nodes": ["dense1"]}
        cheap = attribute(net.predict, variables, x, y, **options)
        expected = scipy.stats.spearmanr(cheap["dense1"], exact["dense1"])[0]
        np.testing.assert_allclose(found[method].sites["dense1"].spearman, expected, rtol=1e-6)
    by_accuracy = measure_fidelity(
        net.predict,
        variables,
        x,
        y,
        loss=jn.cross_entropy,
        metric=jn.accuracy,
        methods=["taylor"],
        value="mean",
    )
    assert abs(by_accuracy["taylor"].overall.pearson) <= 1


@pytest.mark.parametrize(
    ("cheap", "exact", "message"),
    [
        ({"m": {"a": [1]}}, {"b": [1]}, r"expected 'm' for the sites \['b'\], got \['a'\]"),
        ({"m": {"a": [1, 2]}}, {"a": [[1, 2]]}, r"expected 'm' of shape \(1, 2\) for 'a'"),
        ({"m": {}}, {}, "expected exact importances"),
    ],
)
def test_errors(cheap, exact, message):
    with pytest.raises(JaxNodesError, match=message):
        fidelity(cheap, exact)
