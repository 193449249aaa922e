"""Arrays from NumPy's .npz files and from IDX files, the format of MNIST."""

import contextlib
import gzip
import math
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxnodes.data.conversion import to_float32, to_labels, to_targets
from jaxnodes.data.datasets import Dataset, numbered_classes
from jaxnodes.errors import JaxNodesError, check

# What NumPy and zipfile raise for files that aren't what they should be.
_DAMAGE = (
    ValueError,
    EOFError,
    KeyError,
    TypeError,
    RuntimeError,
    MemoryError,
    SyntaxError,
    zipfile.BadZipFile,
    zlib.error,
)

# The third byte of an IDX file; what is longer than a byte is big-endian.
IDX_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def load_npz(path: str | Path, x: str = "x", y: str = "y") -> Dataset:
    """A data set from two arrays of an .npz file.

    Args:
      path: the file, as `numpy.savez` writes it. Pickled objects are refused.
      x: name of the samples (N, ...). Bytes of three axes or more are taken for images:
        divided by 255, and given a channel axis if there are just three. All other
        numbers become float32 as they are.
      y: name of the targets. Integers (N,) or (N, 1) and strings (N,) are classes, floats
        numbers to predict. `x="x_train", y="y_train"` reads the training part of
        `mnist.npz` as Keras hands it out.

    Returns:
      A `Dataset`.

    Raises:
      JaxNodesError: no such file or array, a damaged file, NaN, numbers that float32 or
        int32 can't hold, or not one target a sample.

    Example:

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "xor.npz"
    >>> np.savez(path, x=[[0, 0], [0, 1], [1, 0], [1, 1]], y=[0, 1, 1, 0])
    >>> load_npz(path)
    Dataset(x=float32 (4, 2), y=int32 (4,), target='y', 2 classes: 0, 1)
    """
    path = Path(path)
    where = f"load_npz {path.name}"
    arrays = _read_npz(path, (x, y), where)
    features = samples(arrays[x], f"{where}: {x}")
    labels, class_names = _targets(arrays[y], f"{where}: {y}")
    check(
        len(features) == len(labels) > 0,
        f"expected one target for each of at least one sample, got {x} {arrays[x].shape} "
        f"and {y} {arrays[y].shape}",
        where,
    )
    return Dataset(features, labels, (), class_names, y)


def array_names(path: Path) -> set[str]:
    """The names of the arrays in an .npz file."""
    with _opened(path, f"load_npz {path.name}") as file:
        return set(file)


def _read_npz(path: Path, names: tuple[str, ...], where: str) -> dict[str, np.ndarray]:
    with _opened(path, where) as file:
        missing = [name for name in names if name not in file]
        check(
            not missing,
            f"expected arrays named {' and '.join(names)}, got {', '.join(file) or 'none'}; "
            "say which ones by x= and y=",
            where,
        )
        return {name: np.asarray(file[name]) for name in names}


@contextlib.contextmanager
def _opened(path: Path, where: str) -> Iterator[Any]:
    """An .npz file; what goes wrong while it is read becomes an error that users see."""
    # NumPy takes whatever is no zip for a pickle, and advises to load it unsafely.
    check(
        not path.is_file() or zipfile.is_zipfile(path),
        "expected an .npz file, got another or a damaged one; write it by numpy.savez",
        where,
    )
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            yield file
    except JaxNodesError:
        raise
    except OSError as error:
        raise _unreadable(error, path, where) from None
    except _DAMAGE as error:
        raise JaxNodesError(
            "expected whole arrays of numbers or text, got a damaged file or pickled objects, "
            f"which may run any code ({type(error).__name__}); write it by numpy.savez",
            where,
        ) from None


def load_idx(path: str | Path) -> np.ndarray:
    """The array of one IDX file, gzipped or not, in its own dtype (native byte order).

    Format: two zero bytes, one for the dtype, one for the number of axes; each axis's
    length as a big-endian uint32; the numbers, big-endian, last axis fastest
    (http://yann.lecun.com/exdb/mnist/).

    Raises:
      JaxNodesError: no such file, another format, missing or extra bytes.

    Example:

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "labels.idx1-ubyte"
    >>> path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 2, 1]))
    11
    >>> load_idx(path)
    array([7, 2, 1], dtype=uint8)
    """
    path = Path(path)
    where = f"load_idx {path.name}"
    try:
        with path.open("rb") as file:
            gzipped = file.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if gzipped else path.open("rb") as file:
            head = file.read(4)
            dtype = _idx_dtype(head, where)
            lengths = file.read(4 * head[3])
            check(len(lengths) == 4 * head[3], "expected a longer file; it ends early", where)
            shape = tuple(int(n) for n in np.frombuffer(lengths, ">u4"))
            expected = math.prod(shape) * dtype.itemsize
            # One byte more than there should be: a few bytes never expand to gigabytes.
            data = file.read(expected + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        problem = f"expected a whole gzip file, got a damaged one ({error}); fetch it again"
        raise JaxNodesError(problem, where) from None
    except (OSError, OverflowError, MemoryError) as error:
        raise _unreadable(error, path, where) from None
    came = f"{len(data)}" if len(data) <= expected else "more"
    check(
        len(data) == expected,
        f"expected {expected} bytes of data for the shape {shape}, got {came}; fetch it again",
        where,
    )
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="))


def _idx_dtype(head: bytes, where: str) -> np.dtype:
    check(
        len(head) == 4 and head[:2] == b"\0\0" and head[2] in IDX_DTYPES and head[3] >= 1,
        f"expected an IDX file (0, 0, a dtype of {', '.join(map(str, IDX_DTYPES))}, and a number "
        f"of axes), got one that starts with {', '.join(map(str, head)) or 'nothing'}",
        where,
    )
    return np.dtype(IDX_DTYPES[head[2]])


def _unreadable(error: Exception, path: Path, where: str) -> JaxNodesError:
    reason = getattr(error, "strerror", None) or type(error).__name__
    return JaxNodesError(f"expected a file that can be read, got {path} ({reason})", where)


def samples(x: np.ndarray, where: str) -> np.ndarray:
    """An array's samples as float32: bytes of three axes or more are images, from 0 to 255."""
    check(x.ndim >= 2, f"expected samples by features (N, ...), got {x.shape}", where)
    check(len(x) > 0, f"expected at least one sample, got {x.shape}", where)
    if x.dtype == np.uint8 and x.ndim >= 3:
        return pixels(x[..., None] if x.ndim == 3 else x)
    return to_float32(x, where)


def pixels(images: np.ndarray) -> np.ndarray:
    """Bytes as float32 in [0, 1]."""
    return images.astype(np.float32) / np.float32(255)


def _targets(y: Any, where: str) -> tuple[np.ndarray, tuple[str, ...]]:
    if y.dtype.kind == "U":
        check(y.ndim == 1, f"expected one class name a sample, got {y.shape}", where)
        names, labels = np.unique(y, return_inverse=True)
        return labels.astype(np.int32), tuple(names.tolist())
    if y.dtype.kind == "f":
        return to_targets(y, where), ()
    labels = to_labels(y, None, where)
    return labels, numbered_classes(labels)
