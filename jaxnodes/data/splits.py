"""Parts of a data set to train, tune and test on: disjoint, complete, every class in its share."""

from typing import Any

import numpy as np

from jaxnodes.data.conversion import check_seed, to_labels
from jaxnodes.data.datasets import Dataset, Splits, check_dataset, holds_classes
from jaxnodes.errors import JaxNodesError, check, check_count


def split(
    dataset: Dataset,
    *,
    test: float = 0.2,
    validation: float = 0.0,
    seed: int = 0,
    stratify: bool = True,
) -> Splits[Dataset]:
    """Shuffles a data set and cuts it into three parts.

    Args:
      dataset: N samples.
      test, validation: fractions of N, at least 0 and together below 1; the rest is
        to train on.
      seed: the same one gives the same parts.
      stratify: whether every class is cut in these proportions: of n members each part
        gets its share of n, rounded down or up, such that the totals come out right
        too. Targets that are no classes are cut as a whole.

    Returns:
      `Splits(train, validation, test)`, each a `Dataset` whose `index` says which rows of
      the whole it holds. A part of fraction 0 has no samples.

    Raises:
      JaxNodesError: a fraction out of range, a part that would come out empty, or a class
        with fewer members than there are parts.

    Example:

    >>> from jaxnodes.data.datasets import iris
    >>> parts = split(iris(), test=0.2, validation=0.1)
    >>> [len(part.y) for part in parts], np.bincount(parts.test.y)
    ([105, 15, 30], array([10, 10, 10]))
    """
    check_dataset(dataset, "split")
    check_seed(seed, "split")
    fractions = check_fractions(test, validation, "split")
    rng = np.random.default_rng(seed)
    if stratify and holds_classes(dataset):
        check(
            dataset.y.ndim == 1,
            f"expected one label a sample to stratify by, got y {dataset.y.shape}; "
            "pass stratify=False",
            "split",
        )
        labels = to_labels(dataset.y, None, "split")
        groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    else:
        groups = [np.arange(len(dataset.y))]
    counts = _share_out(np.array([len(group) for group in groups]), fractions)
    if len(groups) > 1:
        _check_members(dataset, groups, counts, fractions)
    for name, fraction, total in zip(Splits._fields, fractions, counts.sum(axis=0), strict=True):
        check(
            total > 0 or fraction == 0,
            f"expected at least one sample to {name}, got none of {len(dataset.y)}; "
            "use larger fractions or more data",
            "split",
        )
    parts: list[list[np.ndarray]] = [[], [], []]
    for group, row in zip(groups, counts, strict=True):
        pieces = np.split(rng.permutation(group), np.cumsum(row)[:-1])
        for part, piece in zip(parts, pieces, strict=True):
            part.append(piece)
    return Splits(*(take(dataset, rng.permutation(np.concatenate(part))) for part in parts))


def stratified_folds(y: Any, k: int, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """The k train and test parts of a cross-validation, every class in its share.

    Args:
      y: (N,) integer labels.
      k: number of folds, 2 or more.
      seed: the same one gives the same folds.

    Returns:
      k pairs `(train, test)` of row numbers, ascending. Every row is in the test part of
      just one; the folds' sizes, of each class and in all, differ by one at most.

    Raises:
      JaxNodesError: y is no labels, k below 2, or a class with fewer than k members.

    Example:

    >>> folds = stratified_folds([0, 0, 0, 1, 1, 1], 3)
    >>> [len(train) for train, test in folds], [len(test) for train, test in folds]
    ([4, 4, 4], [2, 2, 2])
    """
    labels = to_labels(y, None, "stratified_folds")
    check_count(k, "k", "stratified_folds", least=2)
    check_seed(seed, "stratified_folds")
    classes, counts = np.unique(labels, return_counts=True)
    check(len(labels), "expected at least one label, got none", "stratified_folds")
    check(
        counts.min() >= k,
        f"expected at least {k} samples of each class, got {counts.min()} "
        f"of class {classes[counts.argmin()]}; use fewer folds",
        "stratified_folds",
    )
    rng = np.random.default_rng(seed)
    # Dealt out like cards, class after class: each run of k cards goes to k folds.
    order = np.lexsort((rng.random(len(labels)), labels))
    fold = np.empty(len(labels), int)
    fold[order] = np.arange(len(labels)) % k
    return [(np.flatnonzero(fold != i), np.flatnonzero(fold == i)) for i in range(k)]


def take(dataset: Dataset, rows: np.ndarray) -> Dataset:
    """These rows of a data set; `index` keeps saying where they come from."""
    rows = np.asarray(rows, np.int32)
    index = rows if dataset.index is None else dataset.index[rows]
    return dataset._replace(x=dataset.x[rows], y=dataset.y[rows], index=index)


def check_fractions(test: Any, validation: Any, where: str) -> np.ndarray:
    """(train, validation, test) as fractions of the whole."""
    for name, fraction in (("test", test), ("validation", validation)):
        check(
            isinstance(fraction, (int, float, np.number))
            and not isinstance(fraction, bool)
            and 0 <= fraction < 1,
            f"expected {name} to be a fraction from 0 to below 1, got {fraction!r}",
            where,
        )
    check(
        test + validation < 1,
        f"expected test and validation to leave samples to train on, got {test} + {validation}",
        where,
    )
    return np.array([1 - test - validation, validation, test], float)


def _share_out(counts: np.ndarray, fractions: np.ndarray) -> np.ndarray:
    """How many of each class (C,) go to each part (P,): (C, P), rows summing to `counts`.

    Each is its share `count * fraction` rounded down or up. The parts that are rounded up
    are those that the classes before left furthest behind, so that the errors of the
    rounding do not add up in the totals.
    """
    shares = counts[:, None] * fractions
    shares = np.where(np.abs(shares - shares.round()) < 1e-9 * (1 + shares), shares.round(), shares)
    result = np.floor(shares).astype(int)
    behind = np.zeros(len(fractions))
    for row, share, count in zip(result, shares, counts, strict=True):
        rest = share - row
        behind += rest
        candidates = np.flatnonzero(rest > 0)
        first = candidates[np.argsort(-behind[candidates], kind="stable")]
        chosen = first[: count - row.sum()]
        row[chosen] += 1
        behind[chosen] -= 1
    return result


def _check_members(
    dataset: Dataset, groups: list[np.ndarray], counts: np.ndarray, fractions: np.ndarray
) -> None:
    parts = int((fractions > 0).sum())
    for group, row in zip(groups, counts, strict=True):
        if len(group) < parts or row[0] == 0:
            label = int(dataset.y[group[0]])
            name = repr(dataset.class_names[label]) if dataset.class_names else label
            raise JaxNodesError(
                f"expected enough samples of each class for {parts} parts, got {len(group)} "
                f"of class {name}; gather more, leave the class out, or pass stratify=False",
                "split",
            )
