"""What a data set is, and the real ones that come with scikit-learn, no download needed."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from jaxnodes.data.conversion import to_float32, to_labels, to_targets
from jaxnodes.errors import JaxNodesError, check, describe


class Dataset(NamedTuple):
    """Samples and what to predict of them. `dataset[:2]` is the pair `(x, y)`.

    Attributes:
      x: (N, ...) float32, one row a sample.
      y: (N,) int32 class labels from 0 on; for regression (N, K) float32, the shape
        that a network with K output nodes predicts.
      feature_names: of the columns of `x` (N, D); empty where they have none (images).
      class_names: class `c` is called `class_names[c]`; empty for regression.
      target: what `y` is.
      index: (N,) int32, the row of the whole data set that each sample was made
        from. `split` fills it in; augmented copies of a sample share it.

    Example:

    >>> Dataset(np.zeros((4, 2), np.float32), np.array([0, 1, 1, 0], np.int32), ("a", "b"))
    Dataset(x=float32 (4, 2), y=int32 (4,), target='target')
    """

    x: np.ndarray
    y: np.ndarray
    feature_names: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    target: str = "target"
    index: np.ndarray | None = None

    def __repr__(self) -> str:
        shown = f"Dataset(x={describe(self.x)}, y={describe(self.y)}, target={self.target!r}"
        if self.class_names:
            names = ", ".join(self.class_names[:10])
            more = ", ..." if len(self.class_names) > 10 else ""
            shown += f", {len(self.class_names)} classes: {names}{more}"
        return shown + ")"


Part = TypeVar("Part")


class Splits(NamedTuple, Generic[Part]):
    """The parts of a data set. What was not asked for is there, with no samples in it."""

    train: Part
    validation: Part
    test: Part

    def __repr__(self) -> str:
        parts = [
            f"  {name}={part if isinstance(part, Dataset) else describe(part)},\n"
            for name, part in zip(self._fields, self, strict=True)
        ]
        return f"Splits(\n{''.join(parts)})"


def digits() -> Dataset:
    """Handwritten digits: 1,797 images of 8 x 8 pixels in [0, 1], flat; 10 classes.

    Source: scikit-learn's `load_digits` (the test part of UCI "Optical Recognition of
    Handwritten Digits"), divided by 16.

    Example:

    >>> digits()
    Dataset(x=float32 (1797, 64), y=int32 (1797,), target='digit',
      10 classes: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
    """
    pixels, y = _digits()
    x = to_float32(pixels, "digits") / np.float32(16)
    names = tuple(f"pixel_{row}_{column}" for row in range(8) for column in range(8))
    return Dataset(x, to_labels(y, 10, "digits"), names, numbered_classes(y), "digit")


def iris() -> Dataset:
    """Irises: 150 flowers, 4 measures in cm, 3 species (Fisher 1936)."""
    return _bundled("iris", "species")


def wine() -> Dataset:
    """Wines: 178 chemical analyses, 13 measures, 3 cultivars (UCI "Wine")."""
    return _bundled("wine", "cultivar")


def breast_cancer() -> Dataset:
    """Breast cancer, Wisconsin: 569 tumors, 30 measures; 0 is malignant, 1 benign."""
    return _bundled("breast_cancer", "diagnosis")


def diabetes() -> Dataset:
    """Diabetes: 442 patients, 10 measures, progression after a year (Efron et al. 2004).

    For regression. The measures are the raw ones: scikit-learn hands out by default
    columns scaled with statistics of all patients, the test part among them.

    Example:

    >>> diabetes()
    Dataset(x=float32 (442, 10), y=float32 (442, 1), target='progression')
    """
    return _bundled("diabetes", "progression", scaled=False)


BUNDLED: dict[str, Callable[[], Dataset]] = {
    loader.__name__: loader for loader in (digits, iris, wine, breast_cancer, diabetes)
}


def load_dataset(name: str) -> Dataset:
    """A bundled data set by its name: digits, iris, wine, breast_cancer or diabetes.

    Raises:
      JaxNodesError: no such name.

    Example:

    >>> load_dataset("iris").feature_names[0]
    'sepal length (cm)'
    """
    if name not in BUNDLED:
        raise JaxNodesError(f"expected one of {', '.join(BUNDLED)}, got {name!r}", "load_dataset")
    return BUNDLED[name]()


def check_dataset(dataset: Any, where: str) -> None:
    """Raises unless `dataset` is a `Dataset` with one target a sample and labels in range."""
    check(
        isinstance(dataset, Dataset),
        f"expected a Dataset, got {type(dataset).__name__}; Dataset(x, y) makes one",
        where,
    )
    x, y = np.asarray(dataset.x), np.asarray(dataset.y)
    check(
        x.ndim >= 1 and y.ndim >= 1 and len(x) == len(y) > 0,
        f"expected one target for each of at least one sample, got x {x.shape} and y {y.shape}",
        where,
    )
    if holds_classes(dataset):
        to_labels(y.reshape(-1), len(dataset.class_names) or None, where)
    features = len(dataset.feature_names)
    check(
        features in (0, x.shape[-1]),
        f"expected {x.shape[-1]} feature names, got {features}",
        where,
    )


def holds_classes(dataset: Dataset) -> bool:
    """Whether `y` is class labels (whole numbers), not numbers to predict."""
    return dataset.y.dtype.kind in "iub"


def numbered_classes(labels: np.ndarray) -> tuple[str, ...]:
    """Names for classes that only have numbers: `("0", "1", ...)`."""
    return tuple(str(label) for label in range(int(labels.max()) + 1 if labels.size else 0))


def _digits() -> tuple[np.ndarray, np.ndarray]:
    """Pixels and labels from scikit-learn's file, without the second that its import takes."""
    found = importlib.util.find_spec("sklearn")
    for folder in (found and found.submodule_search_locations) or []:
        file = Path(folder, "datasets", "data", "digits.csv.gz")
        if file.is_file():
            table = np.loadtxt(file, delimiter=",", dtype=np.float32)
            return table[:, :-1], table[:, -1].astype(np.int32)
    from sklearn import datasets  # another version may keep it elsewhere

    bunch: Any = datasets.load_digits()
    return bunch.data, bunch.target


def _bundled(name: str, target: str, **options: Any) -> Dataset:
    from sklearn import datasets

    bunch: Any = getattr(datasets, f"load_{name}")(**options)
    feature_names = tuple(str(feature) for feature in bunch.feature_names)
    x = to_float32(bunch.data, name, feature_names)
    if "target_names" not in bunch:
        return Dataset(x, to_targets(bunch.target, name), feature_names, (), target)
    class_names = tuple(str(label) for label in bunch.target_names)
    y = to_labels(bunch.target, len(class_names), name)
    return Dataset(x, y, feature_names, class_names, target)
