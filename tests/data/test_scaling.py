import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from jaxnodes.data import Scaler, diabetes, fit_scaler, scale, split, standardize, unscale, wine
from jaxnodes.errors import JaxNodesError


def test_equals_scikit_learn():
    parts = split(wine())
    theirs = StandardScaler().fit(parts.train.x.astype(np.float64))
    scaled, scaler = standardize(parts)
    np.testing.assert_allclose(scaler.mean, theirs.mean_, rtol=1e-6)
    np.testing.assert_allclose(scaler.std, theirs.scale_, rtol=1e-6)
    for part, raw in zip(scaled, parts, strict=True):
        assert part.x.dtype == np.float32
        if len(raw.y):
            np.testing.assert_allclose(part.x, theirs.transform(raw.x), atol=1e-5)
        np.testing.assert_array_equal(part.y, raw.y)


def test_statistics_are_the_training_parts_alone():
    parts = split(wine())
    spoilt = parts._replace(test=parts.test._replace(x=parts.test.x + 1e6))
    np.testing.assert_array_equal(standardize(parts)[1].mean, standardize(spoilt)[1].mean)


def test_unscale_undoes_scale():
    x = np.random.default_rng(0).normal(5, 3, (20, 4)).astype(np.float32)
    scaler = fit_scaler(x)
    np.testing.assert_allclose(unscale(scaler, scale(scaler, x)), x, rtol=1e-5)


def test_large_mean_and_small_spread():
    x = (1e4 + np.random.default_rng(0).normal(size=(1000, 1))).astype(np.float32)
    y = scale(fit_scaler(x), x)
    assert y.std() == pytest.approx(1, abs=1e-3)
    assert y.mean() == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("value", [0.0, 0.1, -7e5])
def test_constant_columns_scale_to_zero(value):
    x = np.full((7, 1), value)
    scaler = fit_scaler(x)
    assert scaler.std == 1
    np.testing.assert_array_equal(scale(scaler, x), np.zeros((7, 1)))


def test_a_spread_below_float32_counts_as_none():
    scaler = fit_scaler(np.array([[0.0], [1e-60]]))
    assert scaler.std == 1


def test_last_axis_is_the_features():
    x = np.random.default_rng(0).normal(size=(5, 6, 3))
    scaler = fit_scaler(x)
    np.testing.assert_allclose(scaler.mean, x.mean(axis=(0, 1)), rtol=1e-5)
    np.testing.assert_allclose(scaler.std, x.std(axis=(0, 1)), rtol=1e-5)


def test_regression_targets():
    y = split(diabetes()).train.y
    scaler = fit_scaler(y)
    np.testing.assert_allclose(unscale(scaler, scale(scaler, y)), y, rtol=1e-5)


def test_jax_arrays_and_jit():
    scaler = fit_scaler([[1.0, 10.0], [3.0, 30.0]])
    x = jnp.array([[2.0, 40.0]])
    expected = [[0.0, 2.0]]
    for function in (scale, jax.jit(scale)):
        y = function(scaler, x)
        assert isinstance(y, jax.Array)
        np.testing.assert_array_equal(y, expected)
    assert scale(scaler, x.astype(jnp.bfloat16)).dtype == jnp.bfloat16
    restored = Scaler(*map(jnp.asarray, scaler))  # as a weights file gives it back
    assert isinstance(scale(restored, np.asarray(x)), np.ndarray)
    np.testing.assert_array_equal(unscale(restored, expected), x)


def test_float64(x64):
    scaler = fit_scaler([[1.0], [3.0]])
    assert scale(scaler, jnp.ones((1, 1))).dtype == jnp.float64


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ([[1.0, np.nan], [2.0, 3.0]], "column 'b'"),
        ([[np.inf, 1.0]], "column 'a'"),
        (np.zeros((0, 2)), "at least one of each"),
        (np.zeros(3), r"x\[:, None\] makes a column"),
        ([["a", "b"]], "real numbers"),
    ],
)
def test_what_cannot_be_fitted(x, message):
    with pytest.raises(JaxNodesError, match=message):
        fit_scaler(x, ("a", "b"))


@pytest.mark.parametrize("function", [scale, unscale])
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((4, 3)), "expected 2 features on the last axis, got 3"),
        (1.0, "got a scalar"),
        ([[1.0, np.nan]], "finite"),
        (jnp.zeros((4, 2), int), "expected floats, got int32"),
    ],
)
def test_what_cannot_be_scaled(function, x, message):
    with pytest.raises(JaxNodesError, match=message):
        function(fit_scaler([[1.0, 2.0], [2.0, 3.0]]), x)


def test_standardize_wants_parts():
    with pytest.raises(JaxNodesError, match="expected Splits, got Dataset"):
        standardize(wine())
    parts = split(wine())
    with pytest.raises(JaxNodesError, match="at least one sample"):
        standardize(parts._replace(train=parts.validation))
