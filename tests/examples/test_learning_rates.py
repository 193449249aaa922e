"""Learning rates: the smallest crawls, one in the middle learns, the largest diverges."""

import learning_rates
import numpy as np
import pytest


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    out = tmp_path_factory.mktemp("learning_rates")
    return learning_rates.main(out), out / "learning_rates.png"


def test_the_smallest_rate_has_hardly_begun(shown):
    losses = shown[0]["losses"][0]
    assert losses[-1] < losses[0]
    assert losses[-1] > 0.95 * losses[0]


def test_a_rate_in_the_middle_learns(shown):
    numbers = shown[0]
    assert 0.1 < numbers["rates"][numbers["best"]] < 3
    assert numbers["losses"][numbers["best"], -1] < 0.1
    assert numbers["accuracies"][numbers["best"]] > 0.95


def test_the_largest_ends_above_knowing_nothing(shown):
    last = shown[0]["losses"][-1, -1]
    assert not last < np.log(10)  # or NaN
    assert shown[0]["losses"][-1, 0] > 100 or np.isnan(last)


def test_small_rates_get_further_the_larger_they_are(shown):
    upwards = shown[0]["losses"][: shown[0]["best"] + 1, -1]
    assert np.all(np.diff(upwards) < 0)


def test_the_figure_is_there(shown):
    assert shown[1].stat().st_size > 10_000
