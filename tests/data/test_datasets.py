import subprocess
import sys

import numpy as np
import pytest
from sklearn import datasets as sklearn_datasets

from jaxnodes.data import Dataset, Splits, digits, load_dataset
from jaxnodes.data.datasets import check_dataset
from jaxnodes.errors import JaxNodesError

SHAPES = {
    "digits": ((1797, 64), 10),
    "iris": ((150, 4), 3),
    "wine": ((178, 13), 3),
    "breast_cancer": ((569, 30), 2),
    "diabetes": ((442, 10), 0),
}


@pytest.mark.parametrize("name", SHAPES)
def test_bundled(name):
    shape, classes = SHAPES[name]
    dataset = load_dataset(name)
    assert dataset.x.shape == shape
    assert dataset.x.dtype == np.float32
    assert len(dataset.feature_names) == shape[1]
    assert len(dataset.class_names) == classes
    if classes:
        assert dataset.y.shape == shape[:1]
        assert dataset.y.dtype == np.int32
        assert set(dataset.y.tolist()) == set(range(classes))
    else:
        assert dataset.y.shape == (shape[0], 1)
        assert dataset.y.dtype == np.float32
    check_dataset(dataset, "test")


@pytest.mark.parametrize("kept", ["in its file", "elsewhere"])
def test_digits_are_scikit_learns_over_sixteen(kept, monkeypatch):
    bunch = sklearn_datasets.load_digits()
    if kept == "elsewhere":
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    dataset = digits()
    assert dataset.feature_names == tuple(bunch["feature_names"])
    np.testing.assert_array_equal(dataset.x * 16, bunch["data"])
    np.testing.assert_array_equal(dataset.y, bunch["target"])
    assert dataset.x.min() == 0
    assert dataset.x.max() == 1
    assert dataset.class_names == tuple("0123456789")


def test_digits_do_not_wait_for_scikit_learn():
    code = "import sys, jaxnodes.data as d; d.digits(); assert 'sklearn' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_breast_cancer_classes():
    dataset = load_dataset("breast_cancer")
    assert dataset.class_names == ("malignant", "benign")
    assert np.bincount(dataset.y).tolist() == [212, 357]


def test_diabetes_measures_are_raw():
    dataset = load_dataset("diabetes")
    age = dataset.x[:, dataset.feature_names.index("age")]
    assert 19 <= age.min() < age.max() <= 79  # years, not scaled over all patients
    np.testing.assert_array_equal(dataset.y[:3, 0], [151, 75, 141])


def test_unknown_name_lists_the_right_ones():
    with pytest.raises(JaxNodesError, match=r"digits, iris, wine.*got 'mnst'"):
        load_dataset("mnst")


def test_printing_is_short_and_holds_no_arrays():
    dataset = digits()
    assert repr(dataset) == (
        "Dataset(x=float32 (1797, 64), y=int32 (1797,), target='digit', "
        "10 classes: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9)"
    )
    assert repr(Splits(dataset, dataset, np.zeros((3, 2)))).endswith("test=float64 (3, 2),\n)")
    names = tuple(map(str, range(100)))
    assert "100 classes: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ...)" in repr(
        dataset._replace(class_names=names)
    )


def test_the_pair_comes_first():
    x, y = digits()[:2]
    assert x.shape == (1797, 64)
    assert y.shape == (1797,)


X = np.zeros((3, 2), np.float32)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ((X, np.zeros(3)), "expected a Dataset, got tuple"),
        (Dataset(X, np.zeros(2)), r"x \(3, 2\) and y \(2,\)"),
        (Dataset(X[:0], np.zeros(0)), "at least one sample"),
        (Dataset(X, np.array([0, 1, 2]), (), ("a", "b")), "labels from 0 to 1, got 2"),
        (Dataset(X, np.array([0, -1, 1])), "got -1"),
        (Dataset(X, np.array([0, 1, 1]), ("a",)), "expected 2 feature names, got 1"),
    ],
)
def test_bad_datasets(dataset, message):
    with pytest.raises(JaxNodesError, match=message):
        check_dataset(dataset, "test")
