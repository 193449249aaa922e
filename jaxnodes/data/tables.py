"""Tables in text files: cells that are what they say, or an error with line and column."""

import csv
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxnodes.data.conversion import check_choice
from jaxnodes.errors import JaxNodesError, check

MISSING = {"", "?", "na", "n/a", "nan", "null", "<na>"}


class Table(NamedTuple):
    """The cells of a file, column by column, without the spaces around them."""

    names: tuple[str, ...]
    columns: list[tuple[str, ...]]
    lines: list[int]  # of each row, in the file
    where: str

    def error(self, row: int, column: int, problem: str) -> JaxNodesError:
        place = f"line {self.lines[row]}, column {self.names[column]!r}"
        return JaxNodesError(f"{place}: {problem}", self.where)


def read_table(path: Path, delimiter: str, header: bool | str, where: str) -> Table:
    """The table in a file; the arguments are `load_csv`'s."""
    check_choice(header, (True, False, "auto"), "header", where)
    check(
        isinstance(delimiter, str) and len(delimiter) == 1,
        f"expected one character as delimiter, got {delimiter!r}",
        where,
    )
    where = f"{where} {path.name}"
    rows, lines, line = [], [], 1
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, delimiter=delimiter, skipinitialspace=True, strict=True)
            for row in reader:
                if len(row) > 1 or (row and row[0].strip()):
                    rows.append([cell.strip() for cell in row])
                    lines.append(line)
                line = reader.line_num + 1
    except OSError as error:
        problem = f"expected a file that can be read, got {path} ({error.strerror})"
        raise JaxNodesError(problem, where) from None
    except (UnicodeDecodeError, csv.Error) as error:
        problem = f"expected a CSV file in UTF-8, got one broken at line {line} ({error})"
        raise JaxNodesError(problem, where) from None
    check(rows, "expected a table, got an empty file", where)
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(rows[0]):
            raise JaxNodesError(
                f"line {line}: expected {len(rows[0])} cells as in line {lines[0]}, got "
                f"{len(row)}; mend the line, or say what other delimiter there is than "
                f"{delimiter!r}",
                where,
            )
    if header == "auto":
        header = all(_number(cell) is None for cell in rows[0])
    if header:
        names = _checked_names(rows[0], where)
        rows, lines = rows[1:], lines[1:]
        check(rows, "expected rows below the header, got none", where)
    else:
        names = tuple(f"column{i + 1}" for i in range(len(rows[0])))
    return Table(names, list(zip(*rows, strict=True)), lines, where)


def _checked_names(header: list[str], where: str) -> tuple[str, ...]:
    mend = "; rename it, or pass header=False if the first line is data"
    seen = set()
    for i, name in enumerate(header):
        check(
            name,
            f"expected a name for each column, got none for number {i + 1} (row numbers that "
            f"pandas wrote? save with index=False){mend}",
            where,
        )
        check(name not in seen, f"expected different names, got {name!r} twice{mend}", where)
        seen.add(name)
    return tuple(header)


def is_numeric(table: Table, column: int) -> bool:
    """Whether the cells are numbers. All or none: a typo must not make words of a column."""
    cells = present(table, column)
    is_number = [_number(cell) is not None for cell in cells]
    if any(is_number) and not all(is_number):
        row = is_number.index(False)
        hint = ", or pass header=True if it is the column's name" if row == 0 else ""
        problem = f"expected a number as in other lines, got {cells[row]!r}; mend the cell{hint}"
        raise table.error(row, column, problem)
    return all(is_number)


def numbers(table: Table, column: int) -> np.ndarray:
    """A column's numbers (N,), float64."""
    values = [_number(cell) for cell in present(table, column)]
    for row, value in enumerate(values):
        if value is None or not math.isfinite(value):
            cell = table.columns[column][row]
            raise table.error(row, column, f"expected a finite number, got {cell!r}")
    return np.array(values, np.float64)


def present(table: Table, column: int) -> tuple[str, ...]:
    """The column's cells, none of which says that its value is missing."""
    for row, cell in enumerate(table.columns[column]):
        if cell.lower() in MISSING:
            raise table.error(
                row, column, f"expected a value, got {cell!r}; fill it in or drop the line"
            )
    return table.columns[column]


def _number(cell: str) -> float | None:
    """The number a cell says, if any; `1_000` is none, though Python reads it."""
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


def all_whole(cells: Sequence[str]) -> bool:
    """Whether every cell is a whole number, written without a decimal point."""
    return all(re.fullmatch(r"[+-]?[0-9]{1,100}", cell) for cell in cells)
