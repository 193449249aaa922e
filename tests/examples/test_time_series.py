"""Time series: the LSTM beats the naive forecasts, in MW, on hours that came later."""

import numpy as np
import pytest
import time_series


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    out = tmp_path_factory.mktemp("time_series")
    return time_series.main(out), out / "time_series.png"


def test_the_truth_is_the_last_quarter_in_the_order_of_time(shown):
    load, truth = shown[0]["load"], shown[0]["truth"]
    begins = len(load) * 3 // 4 + 48
    np.testing.assert_allclose(truth[0], load[begins : begins + 24], atol=1e-3)
    np.testing.assert_allclose(truth[-1], load[-24:], atol=1e-3)


@pytest.mark.parametrize(
    ("name", "back"), [("same hour yesterday", 24), ("same hour a week ago", 168)]
)
def test_seasonal_naive_errors_are_differences_of_the_series(shown, name, back):
    load, errors = shown[0]["load"], shown[0]["errors"][name]
    begins = len(load) * 3 // 4 + 48
    for ahead in (0, 23):
        hours = np.arange(begins + ahead, begins + ahead + len(shown[0]["truth"]))
        expected = np.abs(load[hours] - load[hours - back]).mean()
        np.testing.assert_allclose(errors[ahead], expected, rtol=1e-4)


def test_the_last_value_is_compared_with_what_follows(shown):
    load = shown[0]["load"]
    begins = len(load) * 3 // 4 + 48
    expected = np.abs(np.diff(load[begins - 1 :])[: len(shown[0]["truth"])]).mean()
    np.testing.assert_allclose(shown[0]["errors"]["last value"][0], expected, rtol=1e-4)


def test_the_network_beats_them(shown):
    errors = shown[0]["errors"]
    naive = ("last value", "same hour yesterday", "same hour a week ago")
    assert errors["LSTM"].mean() < 0.75 * min(errors[name].mean() for name in naive)
    assert errors["LSTM"][0] < errors["last value"][0]


def test_a_linear_regression_does_as_well_on_a_sum(shown):
    errors = shown[0]["errors"]
    assert errors["linear regression"].mean() < 1.05 * errors["LSTM"].mean()


def test_errors_grow_with_the_hours_ahead(shown):
    error = shown[0]["errors"]["LSTM"]
    assert error[0] < error[5] < error[23]


def test_the_figure_is_there(shown):
    assert shown[1].stat().st_size > 10_000
