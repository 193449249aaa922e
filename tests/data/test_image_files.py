import gzip

import numpy as np
import pytest

from jaxnodes.data import cifar10, cifar100, mnist
from jaxnodes.errors import JaxNodesError
from tests.data.test_array_files import idx_bytes

RNG = np.random.default_rng(0)


def write_mnist(folder, mark="-", end="", labels=10, size=28):
    arrays = {}
    for part, n in (("train", 6), ("t10k", 3)):
        images = RNG.integers(0, 256, (n, size, size), dtype=np.uint8)
        y = RNG.integers(0, labels, n, dtype=np.uint8)
        arrays[part] = images, y
        for stem, axes, array in (("images", 3, images), ("labels", 1, y)):
            data = idx_bytes(array)
            path = folder / f"{part}-{stem}{mark}idx{axes}-ubyte{end}"
            path.write_bytes(gzip.compress(data) if end else data)
    return arrays


@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.parametrize("mark", ["-", "."])
def test_mnist(tmp_path, mark, end):
    arrays = write_mnist(tmp_path, mark, end)
    parts = mnist(tmp_path)
    for part, name in ((parts.train, "train"), (parts.test, "t10k")):
        images, labels = arrays[name]
        assert part.x.shape == (*images.shape, 1)
        assert part.x.dtype == np.float32
        np.testing.assert_allclose(part.x[..., 0], images / 255, rtol=1e-6)
        np.testing.assert_array_equal(part.y, labels)
        assert part.y.dtype == np.int32
        assert part.class_names == tuple("0123456789")
    assert parts.validation.x.shape == (0, 28, 28, 1)


def test_fashion_mnist_by_its_class_names(tmp_path):
    write_mnist(tmp_path, labels=3)
    assert mnist(tmp_path, ("shirt", "shoe", "bag")).test.class_names == ("shirt", "shoe", "bag")


def replace(folder, name, array):
    (folder / name).write_bytes(idx_bytes(array))


def test_bad_mnist(tmp_path):
    with pytest.raises(JaxNodesError, match=r"train-images-idx3-ubyte or .* got neither"):
        mnist(tmp_path)
    write_mnist(tmp_path)
    replace(tmp_path, "train-labels-idx1-ubyte", np.array([0, 1, 2, 3, 4, 10], np.uint8))
    with pytest.raises(JaxNodesError, match="train: expected labels from 0 to 9, got 10"):
        mnist(tmp_path)
    replace(tmp_path, "train-labels-idx1-ubyte", np.zeros(5, np.uint8))
    with pytest.raises(JaxNodesError, match="as many labels as images, got 5 and 6"):
        mnist(tmp_path)
    replace(tmp_path, "train-labels-idx1-ubyte", np.zeros((6, 1), np.uint8))
    with pytest.raises(JaxNodesError, match=r"labels \(N,\), got uint8 \(6, 28, 28\) and"):
        mnist(tmp_path)
    replace(tmp_path, "train-labels-idx1-ubyte", np.zeros(6, np.uint8))
    replace(tmp_path, "train-images-idx3-ubyte", np.zeros((6, 28, 28), np.float32))
    with pytest.raises(JaxNodesError, match=r"expected bytes, images .* got float32"):
        mnist(tmp_path)
    replace(tmp_path, "train-images-idx3-ubyte", np.zeros((6, 14, 14), np.uint8))
    with pytest.raises(JaxNodesError, match="images of one size"):
        mnist(tmp_path)


def cifar_records(labels):
    """Records (N, bytes) and the images (N, 32, 32, 3) that they hold."""
    images = RNG.integers(0, 256, (len(labels), 32, 32, 3), dtype=np.uint8)
    # The format: the red plane, row by row, then the green and the blue one.
    planes = np.stack([images[..., c].reshape(len(labels), -1) for c in range(3)], axis=1)
    labels = np.array(labels, np.uint8).reshape(len(labels), -1)
    return np.concatenate([labels, planes.reshape(len(labels), -1)], axis=1), images


@pytest.mark.parametrize("inner", ["", "cifar-10-batches-bin"])
def test_cifar10(tmp_path, inner):
    folder = tmp_path / inner
    folder.mkdir(exist_ok=True)
    images = []
    for i in range(1, 6):
        records, batch = cifar_records([i, 9 - i])
        records.tofile(folder / f"data_batch_{i}.bin")
        images.append(batch)
    records, test_images = cifar_records([0, 9, 3])
    records.tofile(folder / "test_batch.bin")
    parts = cifar10(tmp_path)
    np.testing.assert_allclose(parts.train.x, np.concatenate(images) / 255, rtol=1e-6)
    np.testing.assert_allclose(parts.test.x, test_images / 255, rtol=1e-6)
    np.testing.assert_array_equal(parts.train.y, [1, 8, 2, 7, 3, 6, 4, 5, 5, 4])
    np.testing.assert_array_equal(parts.test.y, [0, 9, 3])
    assert parts.train.x.dtype == np.float32
    assert parts.test.class_names[3] == "cat"
    assert len(parts.validation.x) == 0


@pytest.mark.parametrize("inner", ["", "cifar-100-binary"])
def test_cifar100(tmp_path, inner):
    folder = tmp_path / inner
    folder.mkdir(exist_ok=True)
    records, images = cifar_records([[19, 99], [0, 42]])
    records.tofile(folder / "train.bin")
    records.tofile(folder / "test.bin")
    fine, coarse = cifar100(tmp_path), cifar100(tmp_path, labels="coarse")
    np.testing.assert_array_equal(fine.train.y, [99, 42])
    np.testing.assert_array_equal(coarse.train.y, [19, 0])
    np.testing.assert_allclose(fine.test.x, images / 255, rtol=1e-6)
    assert fine.train.class_names[99] == "99"
    (folder / "coarse_label_names.txt").write_text("\n".join(f"kind{i}" for i in range(20)) + "\n")
    assert cifar100(tmp_path, labels="coarse").train.class_names[19] == "kind19"
    (folder / "fine_label_names.txt").write_text("apple\n")
    with pytest.raises(JaxNodesError, match=r"expected 100 names in fine_label_names.txt, got 1"):
        cifar100(tmp_path)


def test_bad_cifar(tmp_path):
    with pytest.raises(JaxNodesError, match=r"expected data_batch_1.bin in .*, got neither"):
        cifar10(tmp_path)
    records, _ = cifar_records([1, 2])
    for i in range(1, 6):
        records.tofile(tmp_path / f"data_batch_{i}.bin")
    with pytest.raises(JaxNodesError, match=r"expected test_batch.bin in"):
        cifar10(tmp_path)
    test = tmp_path / "test_batch.bin"
    for data in (b"", records.tobytes()[:-1], records.tobytes() + b"\0"):
        test.write_bytes(data)
        with pytest.raises(JaxNodesError, match=f"of 3073 bytes, got {len(data)} bytes"):
            cifar10(tmp_path)
    cifar_records([1, 10])[0].tofile(test)
    with pytest.raises(JaxNodesError, match=r"test_batch.bin: expected labels from 0 to 9, got 10"):
        cifar10(tmp_path)
    with pytest.raises(JaxNodesError, match="labels='fine' or labels='coarse', got 'both'"):
        cifar100(tmp_path, labels="both")


@pytest.mark.parametrize(
    ("loader", "inner", "name"),
    [
        (cifar10, "cifar-10-batches-py", "data_batch_1"),
        (cifar10, "", "data_batch_1"),
        (cifar100, "cifar-100-python", "train"),
    ],
)
def test_pickles_are_refused(tmp_path, loader, inner, name):
    (tmp_path / inner).mkdir(exist_ok=True)
    (tmp_path / inner / name).write_bytes(b"never read")
    with pytest.raises(JaxNodesError, match=r"may run any code; take cifar-100?-binary.tar.gz"):
        loader(tmp_path)
