"""Rents: the network against the linear model and against the noise."""

import numpy as np
import pytest
import rent_regression


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    out = tmp_path_factory.mktemp("rent_regression")
    return rent_regression.main(out), out / "rent_regression.png"


def test_the_fair_rent_of_a_flat_worked_out_by_hand():
    """(120 + 14 * 50) * (0.6 + 0.4 / e) * e^-0.25 = 820 * 0.747152 * 0.778801."""
    np.testing.assert_allclose(rent_regression.fair_rent([50, 15, 1]), 477.141, rtol=1e-5)


def test_the_network_beats_the_linear_model_and_nears_the_noise(shown):
    errors = shown[0]["errors"]
    assert errors["network"] < 0.5 * errors["linear model"]
    assert errors["noise alone"] < errors["network"] < 1.3 * errors["noise alone"]


def test_predictions_are_in_euros(shown):
    np.testing.assert_allclose(shown[0]["predicted"], shown[0]["fair"], rtol=0.07)


def test_the_figure_is_there(shown):
    assert shown[1].stat().st_size > 10_000
