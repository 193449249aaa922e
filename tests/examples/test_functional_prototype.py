"""The prototype layer: its nodes by the equation in NumPy, and what a node is worth by hand."""

import functional_prototype
import numpy as np
import pytest


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    out = tmp_path_factory.mktemp("functional_prototype")
    return functional_prototype.main(out), out / "functional_prototype.png"


def test_every_seed_parts_the_rings(shown):
    assert shown[0]["accuracy"] > 0.97
    assert shown[0]["accuracies"].shape == (functional_prototype.SEEDS,)
    assert shown[0]["accuracies"].min() > 0.95


def test_the_recorded_nodes_are_the_equation(shown):
    params, x = shown[0]["params"], shown[0]["x"].astype(float)
    distances = np.linalg.norm(x[:, None] - params["center"], axis=-1)
    expected = np.exp(-(distances**2) / (2 * params["width"].astype(float) ** 2))
    np.testing.assert_allclose(shown[0]["recorded"], expected, atol=1e-5)


def test_a_nodes_worth_is_what_removing_it_costs(shown):
    assert shown[0]["worth"].max() > 0
    np.testing.assert_allclose(shown[0]["by_hand"], shown[0]["worth"].max(), atol=1e-6)


def test_vmap_over_samples_is_the_batch(shown):
    assert shown[0]["apart"] < 1e-3


def test_the_figure_is_there(shown):
    assert shown[1].stat().st_size > 10_000
