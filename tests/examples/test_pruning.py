"""Pruning in rounds: the accuracy kept, and the smaller network by NumPy."""

import jax
import numpy as np
import pruning
import pytest


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    out = tmp_path_factory.mktemp("pruning")
    return pruning.main(out), out / "pruning.png"


def test_eight_rounds_keep_the_accuracy_and_one_cut_does_not(shown):
    whole, half = shown[0]["whole"], shown[0]["half"]
    assert whole > 0.95
    assert half[8] > 0.9
    assert half[1] < whole - 0.2


def test_half_of_the_nodes_are_left(shown):
    for nodes in shown[0]["nodes"].values():
        assert nodes.tolist() == [256 + 128, 128 + 64]
    assert shown[0]["sizes"] == {
        "all": 64 * 256 + 256 + 256 * 128 + 128 + 128 * 10 + 10,
        "half": 64 * 128 + 128 + 128 * 64 + 64 + 64 * 10 + 10,
    }


def test_the_smaller_network_is_as_good_by_numpy(shown):
    params = jax.tree.map(np.asarray, shown[0]["smaller"])
    x, y = shown[0]["test"]
    for name in ("dense1", "dense2"):
        x = np.maximum(x @ params[name]["w"] + params[name]["b"], 0)
    logits = x @ params["dense3"]["w"] + params["dense3"]["b"]
    expected = np.mean(logits.argmax(axis=1) == y)
    np.testing.assert_allclose(shown[0]["half"][8], expected, atol=1.5 / len(y))


def test_the_figure_is_there(shown):
    assert shown[1].stat().st_size > 10_000
