"""Activations: saturation against the normal distribution, and relu nodes that die."""

import activations_tour
import numpy as np
import pytest


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    out = tmp_path_factory.mktemp("activations_tour")
    return activations_tour.main(out), out / "activations_tour.png"


BOUNDS = {"sigmoid": np.log(19), "tanh": np.arctanh(0.9)}


@pytest.mark.parametrize("name", list(BOUNDS))
def test_saturated_is_beyond_a_twentieth_from_a_limit(shown, name):
    """sigmoid > 0.95 where z > log 19, tanh > 0.9 where z > artanh 0.9; z is normal."""
    z = np.random.default_rng(1).normal(size=200_000)
    for size, share in zip((1, 10), shown[0]["near_limit"][name], strict=True):
        np.testing.assert_allclose(share, np.mean(np.abs(size * z) > BOUNDS[name]), atol=0.03)


@pytest.mark.parametrize("name", ["sigmoid", "tanh"])
def test_saturated_nodes_have_hardly_a_slope(shown, name):
    small, large = shown[0]["slopes"][name]
    assert large < 0.25 * small


def test_relu_nodes_stay_dead_and_leaky_ones_come_back(shown):
    numbers = shown[0]
    assert numbers["before"] == {"relu": 64, "leaky_relu": 64}
    assert numbers["after"]["relu"] == numbers["dead"]["relu"] == 64
    assert numbers["dead"]["leaky_relu"] == 0
    assert numbers["after"]["leaky_relu"] < 32


def test_only_the_network_with_leaky_relu_learns(shown):
    assert shown[0]["accuracy"]["relu"] < 0.15
    assert shown[0]["accuracy"]["leaky_relu"] > 0.95


def test_the_figure_is_there(shown):
    assert shown[1].stat().st_size > 10_000
