"""Signals through fifty layers, against the equations for infinitely wide ones."""

import initialisers
import numpy as np
import pytest


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    out = tmp_path_factory.mktemp("initialisers")
    return initialisers.main(out), out / "initialisers.png"


def test_the_expected_sizes_are_those_of_closed_forms(shown):
    """relu halves: He keeps 1, Xavier 2^-layer, 0.01 x normal (0.0128)^layer."""
    theory, layers = shown[0]["theory"], np.arange(1, initialisers.LAYERS + 1)
    np.testing.assert_allclose(theory["He, relu"], 1, rtol=1e-6)
    np.testing.assert_allclose(theory["Xavier, relu"], 0.5**layers, rtol=1e-6)
    np.testing.assert_allclose(theory["0.01 x normal, relu"], 0.0128**layers, rtol=1e-6)
    z = np.random.default_rng(0).normal(size=400_000)
    np.testing.assert_allclose(theory["Xavier, tanh"][0], np.mean(np.tanh(z) ** 2), rtol=0.01)


@pytest.mark.parametrize("name", list(initialisers.CASES))
def test_measured_sizes_follow_the_equations(shown, name):
    """Within a tenth in the first layers; 256 nodes wander by a few times in fifty."""
    measured, expected = shown[0]["sizes"][name], shown[0]["theory"][name]
    np.testing.assert_allclose(measured[:2], expected[:2], rtol=0.15)
    held = expected > 1e-70
    assert np.abs(np.log10(measured[held] / expected[held])).max() < 1


def test_what_is_left_after_fifty_layers(shown):
    sizes = {name: of_case[-1] for name, of_case in shown[0]["sizes"].items()}
    assert sizes["He, relu"] > 0.1
    assert sizes["Xavier, tanh"] > 0.002
    assert sizes["Xavier, relu"] < 1e-13
    assert sizes["0.01 x normal, relu"] == 0
    assert 35 <= shown[0]["gone_at_layer"] <= 48


def test_the_figure_is_there(shown):
    assert shown[1].stat().st_size > 10_000
