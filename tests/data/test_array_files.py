import gzip
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxnodes.data import load_idx, load_npz
from jaxnodes.errors import JaxNodesError

CODES = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}


def idx_bytes(array):
    """Independently: the format as its author describes it."""
    head = struct.pack(">BBBB", 0, 0, CODES[array.dtype.str[1:]], array.ndim)
    lengths = struct.pack(f">{array.ndim}I", *array.shape)
    return head + lengths + array.astype(array.dtype.newbyteorder(">")).tobytes()


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 3, 4), (0, 5)])
@pytest.mark.parametrize("dtype", CODES)
def test_idx(tmp_path, dtype, shape, compress):
    array = np.random.default_rng(0).integers(-100, 100, shape).astype(dtype)
    path = tmp_path / "array"  # told apart by content, not by name
    path.write_bytes(compress(idx_bytes(array)))
    loaded = load_idx(path)
    np.testing.assert_array_equal(loaded, array)
    assert loaded.dtype == np.dtype(dtype)
    assert loaded.dtype.isnative


GOOD = idx_bytes(np.arange(6, dtype=np.uint8).reshape(2, 3))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "starts with nothing"),
        (GOOD[:3], "starts with 0, 0, 8"),
        (b"\1" + GOOD[1:], "starts with 1, 0, 8, 2"),
        (b"\0\0\x0a" + GOOD[3:], "a dtype of 8, 9, 11, 12, 13, 14"),
        (b"\0\0\x08\0\1", "number of axes"),
        (GOOD[:7], "ends early"),
        (GOOD[:-1], r"expected 6 bytes of data for the shape \(2, 3\), got 5"),
        (GOOD + b"\0", "expected 6 bytes .* got more"),
        (b"\0\0\x08\4" + b"\xff" * 16, "expected .* bytes|can be read"),
        (gzip.compress(GOOD, mtime=0)[:-4], "whole gzip file"),
        (gzip.compress(GOOD, mtime=0)[:15], "whole gzip file"),
        (gzip.compress(GOOD, mtime=0)[:12] + b"\0\0\0\0", "whole gzip file"),
        (gzip.compress(GOOD[:-1], mtime=0), "got 5"),
    ],
)
def test_malformed_idx(tmp_path, data, message):
    path = tmp_path / "broken-idx3-ubyte"
    path.write_bytes(data)
    with pytest.raises(JaxNodesError, match=message) as caught:
        load_idx(path)
    assert str(caught.value).startswith("load_idx broken-idx3-ubyte: ")


def test_gzip_checks_its_sum(tmp_path):
    data = bytearray(gzip.compress(idx_bytes(np.arange(200, dtype=np.uint8)), 0))
    data[-50] ^= 1
    path = tmp_path / "array.gz"
    path.write_bytes(data)
    with pytest.raises(JaxNodesError, match="CRC"):
        load_idx(path)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=40))
def test_any_bytes_are_an_array_or_an_error(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("idx") / "array"
    path.write_bytes(b"\0\0" + data)
    try:
        array = load_idx(path)
    except JaxNodesError:
        return
    assert len(data) == 2 + 4 * array.ndim + array.nbytes


def test_missing_idx(tmp_path):
    with pytest.raises(JaxNodesError, match="No such file"):
        load_idx(tmp_path / "nothing")


def test_npz_tables(tmp_path):
    path = tmp_path / "data.npz"
    x = np.random.default_rng(0).normal(size=(4, 3))
    np.savez(path, x=x, y=np.array([0, 2, 1, 2], np.int64))
    dataset = load_npz(path)
    np.testing.assert_array_equal(dataset.x, x.astype(np.float32))
    np.testing.assert_array_equal(dataset.y, [0, 2, 1, 2])
    assert dataset.y.dtype == np.int32
    assert dataset.class_names == ("0", "1", "2")


def test_npz_images_as_keras_hands_them_out(tmp_path):
    rng = np.random.default_rng(0)
    gray = rng.integers(0, 256, (5, 28, 28), dtype=np.uint8)
    color = rng.integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    y = np.array([[3], [1], [4], [1], [5]], np.uint8)
    path = tmp_path / "images.npz"
    np.savez_compressed(path, x_train=gray, y_train=y[:, 0], x_color=color, y_color=y)
    dataset = load_npz(path, "x_train", "y_train")
    np.testing.assert_allclose(dataset.x[..., 0] * 255, gray, rtol=1e-6)
    assert dataset.x.dtype == np.float32
    assert dataset.x.max() <= 1
    dataset = load_npz(path, "x_color", "y_color")
    assert dataset.x.shape == (5, 32, 32, 3)
    np.testing.assert_array_equal(dataset.y, [3, 1, 4, 1, 5])


def test_npz_targets(tmp_path):
    path = tmp_path / "data.npz"
    x = np.zeros((2, 3), np.uint8)
    np.savez(path, x=x, number=np.array([0.5, 1.5]), word=np.array(["b", "a"]))
    numbers = load_npz(path, y="number")
    np.testing.assert_array_equal(numbers.y, [[0.5], [1.5]])
    assert numbers.class_names == ()
    words = load_npz(path, y="word")
    np.testing.assert_array_equal(words.y, [1, 0])
    assert words.class_names == ("a", "b")


X, Y = np.zeros((2, 3)), np.array([0, 1])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": X}, "arrays named x and y, got x; say which"),
        ({"x": X, "y": Y[:1]}, r"x \(2, 3\) and y \(1,\)"),
        ({"x": X[:0], "y": Y[:0]}, "at least one sample"),
        ({"x": X[0], "y": Y}, r"samples by features \(N, ...\), got \(3,\)"),
        ({"x": X * np.nan, "y": Y}, "x: expected finite numbers"),
        ({"x": X.astype(np.int64) + 2**40, "y": Y}, "within 2\\*\\*24"),
        ({"x": X, "y": Y + 2**33}, "y: expected labels from 0 to 65535, got 8589934593"),
        ({"x": X, "y": Y - 1}, "got -1"),
        ({"x": X, "y": np.eye(2, dtype=int)}, "argmax"),
        ({"x": X, "y": Y + 1j}, "whole numbers as labels, got dtype complex128"),
        ({"x": X, "y": np.array([np.inf, 1.0])}, "y: expected finite"),
        ({"x": X, "y": np.array([["a"], ["b"]])}, "one class name a sample"),
        ({"x": np.array([[{}], [{}]]), "y": Y}, "pickled objects, which may run any code"),
    ],
)
def test_bad_npz(tmp_path, arrays, message):
    path = tmp_path / "data.npz"
    np.savez(path, **arrays)
    with pytest.raises(JaxNodesError, match=message) as caught:
        load_npz(path)
    assert "allow_pickle" not in str(caught.value)


def test_files_that_are_no_npz(tmp_path):
    path = tmp_path / "data.npz"
    with pytest.raises(JaxNodesError, match="No such file"):
        load_npz(path)
    with pytest.raises(JaxNodesError, match="directory"):
        load_npz(tmp_path)
    np.save(tmp_path / "one.npy", X)
    for data in (b"", b"hello", (tmp_path / "one.npy").read_bytes()):
        path.write_bytes(data)
        with pytest.raises(JaxNodesError, match=r"expected an \.npz file"):
            load_npz(path)


def test_a_flipped_byte_is_an_error_or_changes_nothing(tmp_path):
    path = tmp_path / "data.npz"
    x = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    np.savez(path, x=x, y=np.arange(4))
    whole = path.read_bytes()
    refused = 0
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x41]) + whole[place + 1 :])
        try:
            dataset = load_npz(path)
        except JaxNodesError:
            refused += 1
            continue
        np.testing.assert_array_equal(dataset.x, x)
        np.testing.assert_array_equal(dataset.y, range(4))
    assert refused > len(whole) / 2
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(JaxNodesError):
            load_npz(path)
