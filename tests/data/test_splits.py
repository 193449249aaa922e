import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedKFold, train_test_split

from jaxnodes.data import Dataset, breast_cancer, diabetes, iris, split, stratified_folds, wine
from jaxnodes.data.splits import _share_out
from jaxnodes.errors import JaxNodesError


def labeled(y):
    y = np.asarray(y, np.int32)
    return Dataset(np.arange(len(y), dtype=np.float32)[:, None], y)


def check_complete(dataset, parts):
    """Every row is in one part, with its own x and y."""
    index = np.concatenate([part.index for part in parts])
    assert sorted(index) == list(range(len(dataset.y)))
    for part in parts:
        np.testing.assert_array_equal(part.x, dataset.x[part.index])
        np.testing.assert_array_equal(part.y, dataset.y[part.index])


@pytest.mark.parametrize("load", [iris, wine, breast_cancer])
def test_each_class_gets_its_share_as_in_scikit_learn(load):
    dataset = load()
    parts = split(dataset, test=0.3, seed=1)
    check_complete(dataset, parts)
    _, _, _, theirs = train_test_split(
        dataset.x, dataset.y, test_size=0.3, stratify=dataset.y, random_state=0
    )
    ours = np.bincount(parts.test.y)
    assert np.abs(ours - 0.3 * np.bincount(dataset.y)).max() < 1
    assert np.abs(ours - np.bincount(theirs)).max() <= 1
    assert len(parts.test.y) == pytest.approx(0.3 * len(dataset.y), abs=1)
    assert len(parts.validation.y) == 0
    assert parts.validation.x.shape == (0, dataset.x.shape[1])


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(1, 400), min_size=1, max_size=30),
    st.floats(0, 0.6),
    st.floats(0, 0.39),
)
def test_shares_are_rounded_down_or_up_and_totals_come_out(counts, test, validation):
    counts = np.array(counts)
    fractions = np.array([1 - test - validation, validation, test])
    shares = _share_out(counts, fractions)
    exact = counts[:, None] * fractions
    np.testing.assert_array_equal(shares.sum(axis=1), counts)
    assert (np.abs(shares - exact) < 1 + 1e-6).all()
    assert (shares >= 0).all()
    assert (np.abs(shares.sum(axis=0) - exact.sum(axis=0)) < 2).all()


def test_shares_by_hand():
    # 100 classes of 7: a fifth is 1.4 of each, so 40 classes give 2 and 60 give 1.
    shares = _share_out(np.full(100, 7), np.array([0.8, 0.0, 0.2]))
    assert shares[:, 2].sum() == 140
    assert np.bincount(shares[:, 2]).tolist() == [0, 60, 40]
    assert shares[:, 1].sum() == 0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(8, 40), min_size=2, max_size=6),
    st.floats(0.1, 0.4),
    st.floats(0.1, 0.4),
    st.integers(0, 99),
)
def test_parts_are_disjoint_complete_and_stratified(counts, test, validation, seed):
    dataset = labeled(np.repeat(np.arange(len(counts)), counts))
    parts = split(dataset, test=test, validation=validation, seed=seed)
    check_complete(dataset, parts)
    for part, fraction in zip(parts, (1 - test - validation, validation, test), strict=True):
        of_class = np.bincount(part.y, minlength=len(counts))
        assert (np.abs(of_class - fraction * np.array(counts)) < 1 + 1e-6).all()


def test_seeds():
    same, again, other = (split(iris(), seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(same.train.x, again.train.x)
    np.testing.assert_array_equal(same.test.index, again.test.index)
    assert (same.test.index != other.test.index).any()


def test_parts_are_shuffled():
    train = split(iris()).train
    assert (np.diff(train.y) < 0).any()
    assert (np.diff(train.index) < 0).any()


def test_a_split_of_a_split_knows_the_first_rows():
    dataset = iris()
    inner = split(split(dataset).train, test=0.5).test
    np.testing.assert_array_equal(inner.x, dataset.x[inner.index])


def test_regression_and_unstratified():
    dataset = diabetes()
    parts = split(dataset, test=0.25, validation=0.25)
    check_complete(dataset, parts)
    assert [len(part.y) for part in parts] == [221, 111, 110]
    lonely = labeled([0] * 9 + [1])
    check_complete(lonely, split(lonely, stratify=False))
    sequences = Dataset(np.zeros((10, 4)), np.zeros((10, 4), np.int32))
    assert len(split(sequences, stratify=False).test.y) == 2


def test_no_test_part_on_demand():
    parts = split(iris(), test=0.0)
    assert [len(part.y) for part in parts] == [150, 0, 0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"test": 1.0}, "test to be a fraction from 0 to below 1, got 1.0"),
        ({"test": -0.1}, "got -0.1"),
        ({"test": float("nan")}, "got nan"),
        ({"test": "0.2"}, "got '0.2'"),
        ({"test": True}, "got True"),
        ({"validation": 30}, "validation .*got 30"),
        ({"test": 0.5, "validation": 0.5}, "leave samples to train on"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(JaxNodesError, match=message):
        split(iris(), **arguments)


def test_classes_with_too_few_members():
    with pytest.raises(JaxNodesError, match=r"for 2 parts, got 1 of class 1; .*stratify=False"):
        split(labeled([0] * 9 + [1]))
    named = labeled([0] * 9 + [1, 1])._replace(class_names=("cat", "dog"))
    with pytest.raises(JaxNodesError, match="for 3 parts, got 2 of class 'dog'"):
        split(named, validation=0.2)
    with pytest.raises(JaxNodesError, match="got none of 2; use larger fractions"):
        split(diabetes()._replace(x=np.zeros((2, 10)), y=np.zeros((2, 1))), test=0.1)
    with pytest.raises(JaxNodesError, match="pass stratify=False"):
        split(Dataset(np.zeros((10, 4)), np.zeros((10, 4), np.int32)))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(5, 30), min_size=1, max_size=6), st.integers(2, 5), st.integers(0, 9))
def test_folds_as_in_scikit_learn(counts, k, seed):
    y = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    folds = stratified_folds(y, k, seed)
    assert len(folds) == k
    np.testing.assert_array_equal(
        np.sort(np.concatenate([test for _, test in folds])), np.arange(len(y))
    )
    theirs = StratifiedKFold(k, shuffle=True, random_state=seed).split(y, y)
    for (train, test), (_, their_test) in zip(folds, theirs, strict=True):
        np.testing.assert_array_equal(np.sort(np.concatenate([train, test])), np.arange(len(y)))
        ours = np.bincount(y[test], minlength=len(counts))
        assert (np.abs(ours - np.array(counts) / k) < 1).all()
        assert (np.abs(ours - np.bincount(y[their_test], minlength=len(counts))) <= 1).all()
        assert abs(len(test) - len(y) / k) < 1


def test_folds_depend_on_the_seed():
    y = np.repeat([0, 1], 20)
    first, again, other = (stratified_folds(y, 4, seed)[0][1] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize(
    ("y", "k", "message"),
    [
        ([0, 0, 1, 1], 1, "k to be a whole number of at least 2"),
        ([0, 0, 0, 1, 1], 3, "at least 3 samples of each class, got 2 of class 1"),
        ([0.5, 1.5], 2, "whole numbers as labels"),
        (np.zeros(0, int), 2, "at least one label"),
    ],
)
def test_bad_folds(y, k, message):
    with pytest.raises(JaxNodesError, match=message):
        stratified_folds(y, k)
