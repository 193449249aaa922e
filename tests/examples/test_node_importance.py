"""The worth of nodes: the guides' own loop in NumPy, and rank correlations by SciPy."""

import jax
import node_importance
import numpy as np
import pytest
from scipy.stats import spearmanr


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    out = tmp_path_factory.mktemp("node_importance")
    return node_importance.main(out), out / "node_importance.png"


def accuracy(params, x, y):
    for name in ("dense1", "dense2"):
        x = np.maximum(x @ params[name]["w"] + params[name]["b"], 0)
    logits = x @ params["dense3"]["w"] + params["dense3"]["b"]
    return np.mean(logits.argmax(axis=1) == y)


def test_the_accuracy_lost_is_that_of_the_guides_loop(shown):
    """Incoming weights zeroed, the bias left, a whole evaluation for each node."""
    x, y = shown[0]["test"]
    params = jax.tree.map(np.array, shown[0]["variables"][0])
    whole = accuracy(params, x, y)
    assert whole > 0.95
    for name, drops in shown[0]["lost"].items():
        expected = []
        for j in range(len(drops)):
            w = params[name]["w"].copy()
            w[:, j] = 0
            less = {**params, name: {"w": w, "b": params[name]["b"]}}
            expected.append(whole - accuracy(less, x, y))
        assert max(expected) > 0.01
        np.testing.assert_allclose(drops, expected, atol=1.5 / len(y))  # a tie, by rounding
        assert np.mean(np.abs(drops - np.array(expected)) < 1e-6) > 0.95


def test_the_second_order_agrees_best(shown):
    ranks, exact = shown[0]["ranks"], shown[0]["exact"]
    both = np.concatenate([np.asarray(exact[name]) for name in exact])
    for method, cheap in shown[0]["cheap"].items():
        pooled = np.concatenate([np.asarray(cheap[name]) for name in exact])
        np.testing.assert_allclose(ranks[method], spearmanr(pooled, both).statistic, atol=1e-6)
    assert max(ranks, key=ranks.get) == "taylor2"
    assert ranks["taylor2"] > 0.9


def test_the_least_important_go_without_harm_and_the_most_important_with_much(shown):
    curves = shown[0]["curves"]
    assert all(curve.shape == (97,) for curve in curves.values())
    assert curves["exact", "worst"][24] > 0.9
    assert curves["exact", "best"][24] < 0.7
    for word in ("exact", "taylor2"):  # on the whole, too
        assert curves[word, "worst"].mean() > curves[word, "best"].mean() + 0.1


def test_the_figure_is_there(shown):
    assert shown[1].stat().st_size > 10_000
