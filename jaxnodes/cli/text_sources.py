"""The texts that a command's options name, and the parts they are cut into."""

import dataclasses
from pathlib import Path

import numpy as np

from jaxnodes.cli.options import DataOptions
from jaxnodes.data.datasets import BUNDLED, Splits
from jaxnodes.data.sequences import split_series
from jaxnodes.data.texts import standard_library_text
from jaxnodes.errors import JaxNodesError, check
from jaxnodes.training.files import read_file

#: What the source of Python's standard library is called, and how much of it is read.
PYTHON, LIMIT = "python", 1_000_000

_OTHERS = (*BUNDLED, "digits28")
_TABLES = (".csv", ".tsv", ".npz")
_FITTING = ("data", "test_fraction", "validation_fraction", "seed")


def text_parts(options: DataOptions) -> Splits[str]:
    """A text in parts to train, tune and test on: consecutive stretches, the test last.

    Raises:
      JaxNodesError: options for other data, no text, or fractions that leave a part empty.
    """
    for field in dataclasses.fields(DataOptions):
        value = getattr(options, field.name)
        check(
            field.name in _FITTING or value == field.default,
            f"expected options that a text has, got {field.name} {value}; leave it out",
            f"--{field.name.replace('_', '-')}",
        )
    text = read_text(options.data)
    test = 0.2 if options.test_fraction is None else options.test_fraction
    validation = options.validation_fraction * (1 - test)
    places = np.zeros(len(text), bool)
    sizes = [len(part) for part in split_series(places, test=test, validation=validation)]
    ends = np.cumsum(sizes).tolist()
    return Splits(*(text[end - size : end] for size, end in zip(sizes, ends, strict=True)))


def read_text(source: str) -> str:
    """A text by its name or from a file in UTF-8, with newlines as line ends.

    Raises:
      JaxNodesError: other data, no file, no text, or an empty one.
    """
    if source == PYTHON:
        return standard_library_text(limit=LIMIT)
    path = Path(source)
    check(
        source not in _OTHERS and path.suffix not in _TABLES and path.is_file(),
        f"expected a text for gpt or bert: {PYTHON}, or the path of a file in UTF-8, got "
        f"{source!r}{'' if path.exists() or source in _OTHERS else ' (no such file)'}",
        "--data",
    )
    try:
        text = read_file(path, "--data").decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise JaxNodesError(
            f"expected a text in UTF-8, got {path}, where byte {error.start} is none", "--data"
        ) from None
    check(text, f"expected a text, got the empty file {path}", "--data")
    return text.replace("\r\n", "\n").replace("\r", "\n")
