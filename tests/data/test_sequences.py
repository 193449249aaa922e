import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxnodes.data import split_series, windows
from jaxnodes.errors import JaxNodesError


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 40),
    st.sampled_from([(), (1,), (3,)]),
    st.integers(1, 6),
    st.integers(1, 4),
    st.integers(1, 5),
)
def test_windows_by_a_loop(extra, features, width, horizon, stride):
    steps = width + horizon + extra - 1
    series = np.arange(steps * int(np.prod(features)), dtype=float).reshape(steps, *features)
    x, y = windows(series, width, horizon=horizon, stride=stride)
    columns = series.reshape(steps, -1)
    starts = range(0, steps - width - horizon + 1, stride)
    np.testing.assert_array_equal(x, [columns[i : i + width] for i in starts])
    np.testing.assert_array_equal(y, [columns[i + width : i + width + horizon] for i in starts])
    assert x.dtype == y.dtype == np.float32
    assert len(x) == (steps - width - horizon) // stride + 1


def test_no_look_ahead():
    """Spoiling all from a step on changes no window that ends before it."""
    series = np.random.default_rng(0).normal(size=(50, 2))
    x, _ = windows(series, 5, horizon=3)
    for step in (5, 20, 49):
        spoilt = series.copy()
        spoilt[step:] = 1e6
        changed = (windows(spoilt, 5, horizon=3)[0] != x).any(axis=(1, 2))
        assert not changed[: step - 4].any()
        assert changed[step - 4 :].all()


def test_windows_are_copies():
    series = np.zeros(10, np.float32)
    x, y = windows(series, 3)
    x[:], y[:] = 1, 1
    assert series.sum() == 0
    assert x.flags.c_contiguous


@pytest.mark.parametrize(
    ("series", "options", "message"),
    [
        (np.zeros(4), {"width": 4}, "expected at least 5 steps .* got 4"),
        (np.zeros(9), {"width": 0}, "width"),
        (np.zeros(9), {"width": 2, "horizon": 0}, "horizon"),
        (np.zeros(9), {"width": 2, "stride": 1.0}, "stride"),
        (np.zeros((9, 1, 1)), {"width": 2}, r"\(T,\) or \(T, D\)"),
        (np.float64(1), {"width": 2}, "got shape"),
        (np.array([0, np.nan, 1]), {"width": 1}, "first in row 1"),
    ],
)
def test_bad_windows(series, options, message):
    with pytest.raises(JaxNodesError, match=message):
        windows(series, **options)


@settings(max_examples=60, deadline=None)
@given(st.integers(20, 300), st.floats(0.1, 0.45), st.floats(0.1, 0.45))
def test_series_are_cut_by_time(steps, test, validation):
    series = np.arange(steps)
    parts = split_series(series, test=test, validation=validation)
    np.testing.assert_array_equal(np.concatenate(parts), series)
    assert abs(len(parts.test) - test * steps) <= 0.5
    assert abs(len(parts.validation) - validation * steps) <= 0.5


def test_split_series_keeps_dtype_and_axes():
    parts = split_series(np.zeros((10, 3), np.int32), test=0.0)
    assert [part.shape for part in parts] == [(10, 3), (0, 3), (0, 3)]
    assert parts.train.dtype == np.int32


@pytest.mark.parametrize(
    ("series", "options", "message"),
    [
        (np.zeros(10), {"test": 1.2}, "fraction"),
        (np.zeros(10), {"test": 0.6, "validation": 0.4}, "leave samples"),
        (np.zeros(10), {"test": 0.01}, r"steps in every part, got \[10, 0, 0\] of 10"),
        (np.float64(0), {}, "expected a series"),
    ],
)
def test_bad_series(series, options, message):
    with pytest.raises(JaxNodesError, match=message):
        split_series(series, **options)
