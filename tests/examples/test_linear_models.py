"""Linear models: networks of one layer, against scikit-learn and the normal equations."""

import linear_models
import numpy as np
import pytest

import jaxnodes as jn


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    out = tmp_path_factory.mktemp("linear_models")
    return linear_models.main(out), out / "linear_models.png"


@pytest.mark.parametrize("name", ["simple", "multiple", "logistic"])
def test_weights_and_bias_are_scikit_learns(shown, name):
    (w, b), (exact_w, exact_b) = shown[0]["found"][name], shown[0]["exact"][name]
    scale = np.abs(exact_w).max()
    np.testing.assert_allclose(w, exact_w, atol=1e-4 * scale)
    np.testing.assert_allclose(b, exact_b, atol=1e-4 * scale)
    assert shown[0]["apart"][name] < 1e-4


def test_the_multiple_regression_solves_the_normal_equations(shown):
    data = jn.data.diabetes()
    x, y = data.x.astype(float), data.y[:, 0].astype(float)
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    w, b = shown[0]["found"]["multiple"]
    np.testing.assert_allclose(w, np.linalg.solve(x.T @ x, x.T @ y), atol=0.01)
    np.testing.assert_allclose(b, y.mean(), rtol=1e-5)


def test_the_slopes_gradient_of_the_penalized_loss_is_zero(shown):
    data = jn.data.breast_cancer()
    x = data.x.astype(float)
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    w, b = shown[0]["found"]["logistic"]
    p = 1 / (1 + np.exp(-(x @ w + b)))
    np.testing.assert_allclose(x.T @ (p - data.y) + w, 0, atol=0.01)


def test_what_is_explained_is_what_is_known(shown):
    """R² of 0.344 and 0.518 are scikit-learn's own for this data."""
    np.testing.assert_allclose(shown[0]["r2"]["simple"], 0.3439, atol=1e-3)
    np.testing.assert_allclose(shown[0]["r2"]["multiple"], 0.5177, atol=1e-3)
    assert shown[0]["accuracy"] > 0.98


def test_the_figure_is_there(shown):
    assert shown[1].stat().st_size > 10_000
