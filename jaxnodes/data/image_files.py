"""MNIST and CIFAR, and what comes in their formats, from a folder of their files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxnodes.data.array_files import load_idx, pixels
from jaxnodes.data.conversion import to_labels
from jaxnodes.data.datasets import Dataset, Splits
from jaxnodes.errors import JaxNodesError, check

CIFAR10_NAMES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)


def mnist(folder: str | Path, class_names: Sequence[str] = tuple("0123456789")) -> Splits[Dataset]:
    """MNIST from its four IDX files; Fashion-MNIST, KMNIST and EMNIST come as the same.

    Args:
      folder: with `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`,
        `t10k-images-idx3-ubyte` and `t10k-labels-idx1-ubyte`; a dot for the last-but-one
        dash and `.gz` at the end are fine too.
      class_names: one a label.

    Returns:
      `Splits` with x (N, 28, 28, 1) in [0, 1], y (N,), and no validation samples.

    Raises:
      JaxNodesError: a missing or damaged file, images and labels that don't match, or a
        label without a name.
    """
    folder = Path(folder)
    train = _idx_part(folder, "train", tuple(class_names))
    test = _idx_part(folder, "t10k", tuple(class_names))
    check(
        train.x.shape[1:] == test.x.shape[1:],
        f"expected images of one size, got train {train.x.shape} and test {test.x.shape}",
        "mnist",
    )
    return with_test(train, test)


def cifar10(folder: str | Path) -> Splits[Dataset]:
    """CIFAR-10 from its binary version.

    Args:
      folder: with `data_batch_1.bin` to `data_batch_5.bin` and `test_batch.bin`, or the
        folder that holds the folder `cifar-10-batches-bin`.

    Returns:
      `Splits` with x (N, 32, 32, 3) in [0, 1], y (N,), and no validation samples.

    Raises:
      JaxNodesError: a missing file, one of a wrong length, a label above 9, or the Python
        version, whose pickles may run any code.
    """
    folder = _cifar_folder(folder, "cifar-10")
    batches = [f"data_batch_{i}.bin" for i in range(1, 6)]
    train = _cifar_part(folder, batches, 1, 0, CIFAR10_NAMES)
    return with_test(train, _cifar_part(folder, ["test_batch.bin"], 1, 0, CIFAR10_NAMES))


def cifar100(folder: str | Path, labels: str = "fine") -> Splits[Dataset]:
    """CIFAR-100 from its binary version.

    Args:
      folder: with `train.bin` and `test.bin`, or the folder that holds the folder
        `cifar-100-binary`. Classes have names if `fine_label_names.txt` (or
        `coarse_...`) is there, as in the archive; else they have numbers.
      labels: `"fine"`, 100 classes, or `"coarse"`, 20.

    Returns:
      As `cifar10`.

    Raises:
      JaxNodesError: as `cifar10`.
    """
    classes = {"coarse": 20, "fine": 100}
    check(
        labels in classes, f"expected labels='fine' or labels='coarse', got {labels!r}", "cifar100"
    )
    folder = _cifar_folder(folder, "cifar-100")
    names = tuple(map(str, range(classes[labels])))
    listing = folder / f"{labels}_label_names.txt"
    if listing.is_file():
        names = tuple(listing.read_text(encoding="utf-8", errors="replace").split())
        check(
            len(names) == classes[labels],
            f"expected {classes[labels]} names in {listing.name}, got {len(names)}",
            "cifar100",
        )
    column = list(classes).index(labels)  # the coarse label comes first
    train = _cifar_part(folder, ["train.bin"], 2, column, names)
    return with_test(train, _cifar_part(folder, ["test.bin"], 2, column, names))


def with_test(train: Dataset, test: Dataset) -> Splits[Dataset]:
    """Splits of data that come with a test part of their own."""
    return Splits(train, train._replace(x=train.x[:0], y=train.y[:0]), test)


def _idx_part(folder: Path, part: str, class_names: tuple[str, ...]) -> Dataset:
    images = load_idx(_idx_path(folder, f"{part}-images", 3))
    labels = load_idx(_idx_path(folder, f"{part}-labels", 1))
    where = f"mnist: {part}"
    check(
        images.dtype == labels.dtype == np.uint8 and images.ndim == 3 and labels.ndim == 1,
        f"expected bytes, images (N, H, W) and labels (N,), got {images.dtype} {images.shape} "
        f"and {labels.dtype} {labels.shape}",
        where,
    )
    check(
        len(images) == len(labels) > 0,
        f"expected as many labels as images, got {len(labels)} and {len(images)}",
        where,
    )
    y = to_labels(labels, len(class_names), where)
    return _part(pixels(images[..., None]), y, class_names)


def _idx_path(folder: Path, stem: str, axes: int) -> Path:
    names = [f"{stem}{mark}idx{axes}-ubyte{end}" for mark in "-." for end in ("", ".gz")]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise JaxNodesError(f"expected {' or '.join(names)} in {folder}, got neither", "mnist")


def _cifar_folder(folder: str | Path, name: str) -> Path:
    folder, where = Path(folder), name.replace("-", "")
    inner = {"cifar-10": "cifar-10-batches-bin", "cifar-100": "cifar-100-binary"}[name]
    first = {"cifar-10": "data_batch_1", "cifar-100": "train"}[name]
    for place in (folder, folder / inner):
        if (place / f"{first}.bin").is_file():
            return place
    pickled = ("", "cifar-10-batches-py", "cifar-100-python")
    if any((folder / place / first).is_file() for place in pickled):
        raise JaxNodesError(
            f"expected the binary version, got the Python one, whose pickles may run any code; "
            f"take {name}-binary.tar.gz instead",
            where,
        )
    raise JaxNodesError(f"expected {first}.bin in {folder} or its {inner}, got neither", where)


def _cifar_part(
    folder: Path, names: list[str], labels: int, column: int, class_names: tuple[str, ...]
) -> Dataset:
    """Records of `labels` label bytes and 3 x 32 x 32 pixels, channels first."""
    size = labels + 3 * 32 * 32
    records = []
    for name in names:
        path = folder / name
        check(path.is_file(), f"expected {name} in {folder}, got no such file", "cifar")
        data = np.fromfile(path, np.uint8)
        check(
            data.size > 0 and data.size % size == 0,
            f"expected records of {size} bytes, got {data.size} bytes; fetch the file again",
            name,
        )
        records.append(data.reshape(-1, size))
        to_labels(records[-1][:, column], len(class_names), name)
    data = np.concatenate(records)
    images = data[:, labels:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return _part(pixels(images), data[:, column].astype(np.int32), class_names)


def _part(x: np.ndarray, y: np.ndarray, class_names: tuple[str, ...]) -> Dataset:
    return Dataset(np.ascontiguousarray(x), y, (), class_names, "class")
