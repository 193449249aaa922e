"""The guides' classifier: its sizes by hand, its loss and accuracy by scikit-learn."""

import classifier
import numpy as np
import pytest
from sklearn.metrics import accuracy_score, log_loss


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    out = tmp_path_factory.mktemp("classifier")
    return classifier.main(out), out / "classifier.png"


def test_nodes_and_parameters_are_those_of_the_guides(shown):
    found = shown[0]
    assert found["nodes"] == {"input": 784, "dense1": 256, "dense2": 128, "dense3": 10}
    assert found["total_nodes"] == 1178
    assert found["parameters"] == {
        "dense1": 784 * 256 + 256,
        "dense2": 256 * 128 + 128,
        "dense3": 128 * 10 + 10,
    }
    assert found["total_parameters"] == 235_146


def test_the_loss_falls(shown):
    losses = shown[0]["history"]["loss"]
    assert losses.shape == (10,)
    assert losses[-1] < 0.3 * losses[0]
    assert shown[0]["test"]["loss"] < 0.1 * np.log(10)
    assert shown[0]["test"]["accuracy"] > 0.95


def test_scikit_learn_finds_the_same_loss_and_accuracy(shown):
    chances, y = shown[0]["probabilities"], shown[0]["y"]
    chances = chances / chances.sum(axis=1, keepdims=True)
    found = shown[0]["test"]
    np.testing.assert_allclose(found["loss"], log_loss(y, chances), rtol=1e-4)
    np.testing.assert_allclose(found["accuracy"], accuracy_score(y, chances.argmax(1)), rtol=1e-6)


def test_every_layer_gives_its_activations(shown):
    n = len(shown[0]["y"])
    assert shown[0]["activations"] == {"dense1": (n, 256), "dense2": (n, 128), "dense3": (n, 10)}


def test_the_figure_is_there(shown):
    assert shown[1].stat().st_size > 10_000
