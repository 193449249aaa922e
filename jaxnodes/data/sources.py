"""One way to all data: by name, file or folder, cut into parts. The command line's."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxnodes.data.array_files import array_names, load_npz
from jaxnodes.data.conversion import check_seed
from jaxnodes.data.csv_files import load_csv
from jaxnodes.data.datasets import BUNDLED, Dataset, Splits, check_dataset
from jaxnodes.data.digit_images import digits28
from jaxnodes.data.image_files import cifar10, cifar100, mnist, with_test
from jaxnodes.data.splits import check_fractions, split
from jaxnodes.errors import JaxNodesError, check


def load_data(
    source: str | Path,
    *,
    test: float | None = None,
    validation: float = 0.0,
    seed: int = 0,
    stratify: bool = True,
    **options: Any,
) -> Splits[Dataset]:
    """Data from wherever they are, in parts to train, tune and test on.

    Args:
      source: `digits`, `iris`, `wine`, `breast_cancer`, `diabetes` or `digits28`; the path
        of a `.csv` (`.tsv`, `.txt`) or `.npz` file; or a folder of MNIST's IDX files or of
        CIFAR's binary ones. A name wins over a file of that name.
      test: fraction to test on, by default 0.2. Folders, and `.npz` files that hold
        `x_train`, `y_train`, `x_test` and `y_test`, bring a test part of their own: they
        leave this out.
      validation: fraction to tune on: of the whole, or of the training part where the test
        part is given.
      seed, stratify: as in `split`.
      **options: of the one that loads: `load_csv`, `load_npz`, `digits28`, `mnist`,
        `cifar10` or `cifar100`.

    Returns:
      `Splits` of `Dataset`s.

    Raises:
      JaxNodesError: nothing of that name, an option that the loader doesn't have, and all
        that it finds wrong itself.

    Example:

    >>> load_data("iris", validation=0.1)
    Splits(
      train=Dataset(x=float32 (105, 4), y=int32 (105,), target='species',
        3 classes: setosa, versicolor, virginica),
      validation=Dataset(x=float32 (15, 4), y=int32 (15,), target='species',
        3 classes: setosa, versicolor, virginica),
      test=Dataset(x=float32 (30, 4), y=int32 (30,), target='species',
        3 classes: setosa, versicolor, virginica),
    )
    """
    check(
        isinstance(source, (str, Path)),
        f"expected a name or a path, got {source!r}",
        "load_data",
    )
    check_seed(seed, "load_data")
    check_fractions(0.2 if test is None else test, validation, "load_data")
    cut = {"validation": validation, "seed": seed}
    if source == "digits28":
        check(stratify, "expected stratify=True for digits28, got False", "load_data")
        own = 0.2 if test is None else test
        return _load(digits28, (), {**options, **cut, "test": own})
    loaded = _load(*_loader(source, options))
    if isinstance(loaded, Dataset):
        return split(loaded, test=0.2 if test is None else test, stratify=stratify, **cut)
    check(
        test is None,
        f"expected no test fraction for data with a test part of their own, got {test}; "
        "leave it out",
        "load_data",
    )
    if not validation:
        return loaded
    parts = split(loaded.train, test=validation, seed=seed, stratify=stratify)
    return Splits(parts.train, parts.test, loaded.test)


def _loader(source: str | Path, options: dict[str, Any]) -> tuple[Callable, tuple, dict]:
    """The function that loads `source`, its arguments and its options."""
    if source in BUNDLED:
        return BUNDLED[str(source)], (), options
    path = Path(source)
    if path.is_dir():
        return _folder_loader(path), (path,), options
    if path.suffix in (".csv", ".tsv", ".txt"):
        if path.suffix == ".tsv":
            options = {"delimiter": "\t", **options}
        return load_csv, (path,), options
    if path.suffix == ".npz":
        has_parts = {"x_train", "y_train", "x_test", "y_test"} <= array_names(path)
        return _npz_parts if has_parts and not options else load_npz, (path,), options
    known = ", ".join((*BUNDLED, "digits28"))
    raise JaxNodesError(
        f"expected one of {known}, a .csv or .npz file, or a folder of IDX or CIFAR files, "
        f"got {str(source)!r}",
        "load_data",
    )


def _folder_loader(folder: Path) -> Callable:
    signs = {
        mnist: ("*-idx?-ubyte*", "*.idx?-ubyte*"),
        cifar10: ("data_batch_1*", "cifar-10-batches-*"),
        cifar100: ("train.bin", "train", "cifar-100-*"),
    }
    for loader, patterns in signs.items():
        if any(any(folder.glob(pattern)) for pattern in patterns):
            return loader
    raise JaxNodesError(
        f"expected a folder of MNIST's IDX files or CIFAR's binary files, got {folder}; "
        "a file is given by its own path",
        "load_data",
    )


def _npz_parts(path: Path) -> Splits[Dataset]:
    """The two parts of a file such as Keras's `mnist.npz`."""
    train, test = (load_npz(path, f"x_{part}", f"y_{part}") for part in ("train", "test"))
    where = f"load_npz {path.name}"
    check(
        train.x.shape[1:] == test.x.shape[1:] and train.y.shape[1:] == test.y.shape[1:],
        f"expected train and test of like shapes, got {train.x.shape} and {test.x.shape}",
        where,
    )
    names = max(train.class_names, test.class_names, key=len)
    numbered = names[: len(train.class_names)] == train.class_names
    check(
        bool(train.class_names) == bool(test.class_names)
        and numbered
        and names[: len(test.class_names)] == test.class_names,
        "expected the same classes in train and test, got others",
        where,
    )
    train, test = (part._replace(class_names=names, target="y") for part in (train, test))
    check_dataset(test, where)
    return with_test(train, test)


def _load(loader: Callable, arguments: tuple, options: dict[str, Any]) -> Any:
    accepted = list(inspect.signature(loader).parameters)[len(arguments) :]
    for option in options:
        check(
            option in accepted,
            f"expected options of {loader.__name__} ({', '.join(accepted) or 'it has none'}), "
            f"got {option!r}",
            "load_data",
        )
    return loader(*arguments, **options)
