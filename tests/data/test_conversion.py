import numpy as np
import pytest

from jaxnodes.data.conversion import check_choice, check_seed, to_float32, to_labels, to_targets
from jaxnodes.errors import JaxNodesError


def test_what_float32_holds_exactly_passes():
    for x in ([True, False], np.array([-(2**24), 2**24]), np.array([0.5, -3.0], np.float16)):
        y = to_float32(x, "test")
        assert y.dtype == np.float32
        np.testing.assert_array_equal(y.astype(float), np.asarray(x, float))


def test_float64_is_rounded():
    assert to_float32([0.1], "test")[0] == np.float32(0.1)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.array([2**24 + 1]), "got 16777217"),
        (np.array([-(2**63)]), "got 9223372036854775808"),
        (np.array([1e39]), "within float32's range"),
        (np.array([[1.0, np.nan], [np.inf, np.nan]]), "got 3 .*first in row 0.* 'a', 'b'"),
        (np.array([[1.0, np.nan]]).reshape(1, 1, 2), "column 'b'"),
        (np.array(["1"]), "dtype <U1"),
        (np.array([None]), "dtype object"),
        (np.array([1j]), "dtype complex128"),
        (np.ma.masked_array([1.0, 2.0], [True, False]), "without masked entries"),
    ],
)
def test_what_it_cannot_hold_is_an_error(x, message):
    with pytest.raises(JaxNodesError, match=message):
        to_float32(x, "test", ("a", "b"))


def test_many_bad_columns_are_not_all_listed():
    with pytest.raises(JaxNodesError, match="column 0, 1, 2, 3, 4, 5, 6, 7 and more; fill"):
        to_float32(np.full((2, 30), np.nan), "test")


@pytest.mark.parametrize("y", [[[0], [2]], np.array([0, 2], np.uint8), np.array([0, 2])])
def test_labels(y):
    labels = to_labels(y, 3, "test")
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, [0, 2])


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([0.0, 1.0], "dtype float64"),
        ([[0, 1], [1, 0]], "argmax"),
        ([0, -1], "got -1"),
        ([0, 3], "from 0 to 2, got 3"),
        ([2**33 + 5], "got 8589934597"),
        (np.array([2**64 - 1], np.uint64), "got 18446744073709551615"),
    ],
)
def test_bad_labels(y, message):
    with pytest.raises(JaxNodesError, match=message):
        to_labels(y, 3, "test")


def test_targets_are_columns():
    assert to_targets([1.5, 2.5], "test").shape == (2, 1)
    assert to_targets([[1.5, 2.5]], "test").shape == (1, 2)
    with pytest.raises(JaxNodesError, match="one target a sample"):
        to_targets(1.0, "test")


@pytest.mark.parametrize("seed", [-1, 1.0, None, True])
def test_bad_seeds(seed):
    with pytest.raises(JaxNodesError, match="seed"):
        check_seed(seed, "test")


def test_choices_are_told_apart_by_type():
    check_choice(True, (True, "auto"), "header", "test")
    with pytest.raises(JaxNodesError, match=r"expected header=True or 'auto', got 1"):
        check_choice(1, (True, "auto"), "header", "test")
