"""Text as numbers, a character at a time, and a text that every Python has."""

import dataclasses
import itertools
import sys
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np

from jaxnodes.data.sequences import slices
from jaxnodes.errors import JaxNodesError, check, check_count


@dataclasses.dataclass(frozen=True)
class Characters:
    """A vocabulary: the different characters of a text, in the order of their code points.

    Args:
      symbols: a text; what is kept of it is each character once, which makes the same
        vocabulary again. Its id is its place.
      unknown: the character that stands for all others; by default others are an error.

    Example:

    >>> vocabulary = Characters("hello world")
    >>> vocabulary
    Characters(symbols=' dehlorw', unknown=None)
    >>> vocabulary.encode("hold")
    array([3, 5, 4, 1], dtype=int32)
    >>> vocabulary.decode([3, 2, 4, 4, 5])
    'hello'
    """

    symbols: str
    unknown: str | None = None

    def __post_init__(self):
        check(
            isinstance(self.symbols, str),
            f"expected a text, got {type(self.symbols).__name__}",
            "Characters",
        )
        check(
            self.unknown is None or (isinstance(self.unknown, str) and len(self.unknown) == 1),
            f"expected unknown to be one character, got {self.unknown!r}",
            "Characters",
        )
        symbols = "".join(sorted(set(self.symbols + (self.unknown or ""))))
        check(symbols, "expected at least one character, got an empty text", "Characters")
        object.__setattr__(self, "symbols", symbols)

    def __len__(self) -> int:
        return len(self.symbols)

    def encode(self, text: str) -> np.ndarray:
        """The ids (N,) int32 of a text of N characters.

        Raises:
          JaxNodesError: a character that isn't in the vocabulary, unless there is `unknown`.
        """
        check(isinstance(text, str), f"expected a text, got {type(text).__name__}", "encode")
        codes, known = _code_points(text), _code_points(self.symbols)
        ids = np.minimum(np.searchsorted(known, codes), len(known) - 1)
        strange = known[ids] != codes
        if self.unknown is not None:
            ids[strange] = self.symbols.index(self.unknown)
        elif strange.any():
            place = int(strange.argmax())
            raise JaxNodesError(
                f"expected characters among the {len(self)} of the vocabulary, got "
                f"{text[place]!r} at {place}; build it from all the text, or give it unknown=",
                "encode",
            )
        return ids.astype(np.int32)

    def decode(self, ids: Any) -> str:
        """The text of ids (N,).

        Raises:
          JaxNodesError: no whole numbers, not one axis, or an id outside the vocabulary.
        """
        ids = np.asarray(ids)
        if ids.size == 0 and ids.ndim == 1:
            return ""
        check(
            ids.dtype.kind in "iu" and ids.ndim == 1,
            f"expected whole numbers (N,), got {ids.dtype} {ids.shape}",
            "decode",
        )
        check(
            ids.min() >= 0 and ids.max() < len(self),
            f"expected ids from 0 to {len(self) - 1}, got {ids.min()} to {ids.max()}",
            "decode",
        )
        return "".join(self.symbols[i] for i in ids.tolist())


def next_character_windows(
    ids: Any, width: int, *, stride: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Stretches of a text, and for each of their characters the one that follows.

    Args:
      ids: (T,) whole numbers, as `Characters.encode` makes them.
      width: characters a stretch.
      stride: from one start to the next; by default `width`, so that each character is
        predicted once (but for a rest shorter than a stretch, which is left out).

    Returns:
      `(x, y)`, both (N, width) int32, with `y[:, t] == x[:, t + 1]`.

    Raises:
      JaxNodesError: no ids, or fewer than width + 1 of them.

    Example:

    >>> next_character_windows([5, 6, 7, 8, 9], 2)
    (array([[5, 6], [7, 8]], dtype=int32), array([[6, 7], [8, 9]], dtype=int32))
    """
    where = "next_character_windows"
    check_count(width, "width", where)
    stride = width if stride is None else stride
    check_count(stride, "stride", where)
    ids = np.asarray(ids)
    check(
        ids.dtype.kind in "iu" and ids.ndim == 1,
        f"expected ids (T,) as whole numbers, got {ids.dtype} {ids.shape}; encode the text first",
        where,
    )
    pieces = slices(ids, width + 1, stride, where)
    least, most = ids.min(), ids.max()
    check(
        least >= 0 and most < 2**31,
        f"expected ids from 0 to 2**31 - 1, got {least} to {most}",
        where,
    )
    return pieces[:, :-1].astype(np.int32), pieces[:, 1:].astype(np.int32)


def standard_library_text(limit: int | None = 1_000_000) -> str:
    """The source of Python's standard library as one text, to train character models on.

    The modules in the order of their names, then those in packages; no tests, and only
    files in plain ASCII, which keeps the vocabulary below 128. The text is the same for
    each installation of one version of Python.

    Args:
      limit: length to cut the text off at; `None` takes all there is.

    Raises:
      JaxNodesError: the limit isn't positive, or the library isn't there as source files.

    Example:

    >>> len(standard_library_text(limit=5000))
    5000
    """
    where = "standard_library_text"
    if limit is not None:
        check_count(limit, "limit", where)
    folder = Path(sysconfig.get_paths()["stdlib"])
    left_out = {"test", "tests", "idlelib", "lib2to3", "turtledemo"}
    names = sorted(sys.stdlib_module_names - left_out)
    modules = (folder / f"{name}.py" for name in names)
    packaged = (path for name in names for path in sorted((folder / name).rglob("*.py")))
    texts, length = [], 0
    for path in itertools.chain(modules, packaged):
        if not path.is_file() or left_out & set(path.relative_to(folder).parts):
            continue
        data = path.read_bytes()
        if data.isascii():
            texts.append(data.decode("ascii").replace("\r\n", "\n"))
            length += len(texts[-1])
        if limit is not None and length >= limit:
            break
    check(texts, f"expected Python's standard library as files in {folder}, got none", where)
    return "".join(texts)[:limit]


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
