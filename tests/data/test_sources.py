import numpy as np
import pytest

from jaxnodes.data import digits28, load_csv, load_data, split, wine
from jaxnodes.errors import JaxNodesError
from tests.data.test_image_files import cifar_records, write_mnist


def test_bundled():
    parts = load_data("wine", test=0.3, validation=0.2, seed=4)
    expected = split(wine(), test=0.3, validation=0.2, seed=4)
    for part, same in zip(parts, expected, strict=True):
        np.testing.assert_array_equal(part.x, same.x)
        np.testing.assert_array_equal(part.y, same.y)
    assert len(load_data("digits").test.y) == pytest.approx(0.2 * 1797, abs=1)


def test_digits28():
    parts = load_data("digits28", validation=0.1, seed=2, train_size=1500)
    same = digits28(validation=0.1, seed=2, train_size=1500)
    np.testing.assert_array_equal(parts.train.x, same.train.x)
    np.testing.assert_array_equal(parts.validation.index, same.validation.index)
    with pytest.raises(JaxNodesError, match="stratify"):
        load_data("digits28", stratify=False)


@pytest.mark.parametrize(("name", "mark"), [("t.csv", ","), ("t.tsv", "\t"), ("t.txt", ",")])
def test_tables(tmp_path, name, mark):
    path = tmp_path / name
    path.write_text("".join(f"{i}.5{mark}{'ab'[i % 2]}\n" for i in range(20)))
    parts = load_data(str(path))
    assert [len(part.y) for part in parts] == [16, 0, 4]
    assert np.bincount(parts.test.y).tolist() == [2, 2]
    parts = load_data(path, target=0, categorical="onehot")
    assert parts.train.feature_names == ("column2=a", "column2=b")
    assert parts.train.y.shape == (16, 1)


def test_npz(tmp_path):
    path = tmp_path / "data.npz"
    x, y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2
    np.savez(path, a=x, b=y)
    parts = load_data(path, x="a", y="b", validation=0.1)
    assert [len(part.y) for part in parts] == [14, 2, 4]


def test_npz_with_a_test_part(tmp_path):
    path = tmp_path / "mnist.npz"
    images = np.random.default_rng(0).integers(0, 256, (12, 28, 28), dtype=np.uint8)
    labels = np.arange(12, dtype=np.uint8) % 3
    named = {"x_train": images[:9], "y_train": labels[:9]}
    np.savez(path, **named, x_test=images[9:], y_test=labels[9:] % 2)
    parts = load_data(path)
    np.testing.assert_allclose(parts.test.x[..., 0], images[9:] / 255, rtol=1e-6)
    np.testing.assert_array_equal(parts.train.y, labels[:9])
    assert parts.test.class_names == parts.train.class_names == ("0", "1", "2")
    assert [len(part.y) for part in load_data(path, validation=1 / 3)] == [6, 3, 3]
    assert len(load_data(path, x="x_train", y="y_train", test=1 / 3).test.y) == 3
    with pytest.raises(JaxNodesError, match="no test fraction for data with a test part"):
        load_data(path, test=0.2)
    np.savez(path, **named, x_test=images[9:, :14], y_test=labels[9:])
    with pytest.raises(JaxNodesError, match="like shapes"):
        load_data(path)
    np.savez(path, **named, x_test=images[9:], y_test=labels[9:] / 2)
    with pytest.raises(JaxNodesError, match="like shapes"):
        load_data(path)


def test_npz_with_other_classes_in_the_test_part(tmp_path):
    path = tmp_path / "data.npz"
    words = np.array(["a", "b", "c"])
    np.savez(path, x_train=np.eye(3), y_train=words, x_test=np.eye(2, 3), y_test=words[1:])
    with pytest.raises(JaxNodesError, match="same classes in train and test"):
        load_data(path)


def test_folders(tmp_path):
    folder = tmp_path / "mnist"
    folder.mkdir()
    arrays = write_mnist(folder, ".", ".gz", labels=1)
    parts = load_data(folder, validation=0.5)
    assert [len(part.y) for part in parts] == [3, 3, 3]
    np.testing.assert_allclose(parts.test.x[..., 0], arrays["t10k"][0] / 255, rtol=1e-6)
    assert not set(parts.train.index.tolist()) & set(parts.validation.index.tolist())
    folder = tmp_path / "cifar10"
    folder.mkdir()
    for name in (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"):
        cifar_records([1, 7])[0].tofile(folder / name)
    assert load_data(folder).train.x.shape == (10, 32, 32, 3)
    folder = tmp_path / "cifar100"
    (folder / "cifar-100-binary").mkdir(parents=True)
    for name in ("train.bin", "test.bin"):
        cifar_records([[1, 7], [2, 8]])[0].tofile(folder / "cifar-100-binary" / name)
    np.testing.assert_array_equal(load_data(folder, labels="coarse").test.y, [1, 2])
    (tmp_path / "pickled" / "cifar-10-batches-py").mkdir(parents=True)
    (tmp_path / "pickled" / "cifar-10-batches-py" / "data_batch_1").write_bytes(b"")
    with pytest.raises(JaxNodesError, match="may run any code"):
        load_data(tmp_path / "pickled")


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("mnst", {}, "digits, iris, .*digits28, a .csv or .npz file, or a folder .*'mnst'"),
        ("iris", {"target": "x"}, r"options of iris \(it has none\), got 'target'"),
        ("digits28", {"train_sise": 9}, r"options of digits28 \(train_size, .*'train_sise'"),
        ("iris", {"test": 2}, "fraction"),
        ("iris", {"validation": 0.9}, "leave samples to train on"),
        ("iris", {"seed": 0.5}, "seed"),
        (3, {}, "expected a name or a path, got 3"),
        ("nothing.csv", {}, "No such file"),
        ("nothing.npz", {}, "No such file"),
    ],
)
def test_bad_sources(source, options, message):
    with pytest.raises(JaxNodesError, match=message):
        load_data(source, **options)


def test_a_folder_of_something_else(tmp_path):
    with pytest.raises(JaxNodesError, match="IDX files or CIFAR's binary files, got"):
        load_data(tmp_path)


def test_options_reach_the_loader(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("x;y\n" + "1;1.5\n" * 10)
    parts = load_data(path, delimiter=";", stratify=False)
    assert load_csv(path, delimiter=";").x.shape == (10, 1)
    assert len(parts.train.y) == 8
