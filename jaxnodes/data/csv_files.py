"""Data sets from CSV files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxnodes.data.conversion import check_choice, to_float32, to_targets
from jaxnodes.data.datasets import Dataset
from jaxnodes.data.tables import Table, all_whole, is_numeric, numbers, present, read_table
from jaxnodes.errors import check

MOST_CATEGORIES = 1000  # a column with more is rather a name or a number of its row


def load_csv(
    path: str | Path,
    *,
    target: str | int | None = None,
    delimiter: str = ",",
    header: bool | str = "auto",
    categorical: str = "error",
    task: str = "auto",
    feature_names: Sequence[str] = (),
    class_names: Sequence[str] = (),
) -> Dataset:
    """A data set from a table in a text file (UTF-8; quoted cells; blank lines skipped).

    Args:
      path: the file.
      target: name or position of the column to predict; by default the last one.
      delimiter: the character between cells.
      header: whether the first line holds the columns' names; `"auto"` says so if none of
        its cells is a number. Without names they are `column1`, `column2`, ...
      categorical: what becomes of a column of words among the features: `"error"`, or
        `"onehot"`, a column of zeros and ones for each word, called `color=red`.
      task: `"classification"`, `"regression"`, or `"auto"`: words are classes, numbers with
        decimals are not, and whole numbers are if each stands in two rows or more on average.
      feature_names, class_names: of a data set loaded before, to have the same columns and
        labels of this file; columns of other names are left aside.

    Returns:
      A `Dataset`: x (N, D) float32; y (N,) int32 in the order of the classes' names (or
      numbers), or (N, 1) float32.

    Raises:
      JaxNodesError: no such file, rows of different lengths, a missing value, a word among
        numbers, words among the features unless `categorical="onehot"`, a word or class
        unknown to `feature_names` or `class_names`, or a target that may be either.

    Example:

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "rent.csv"
    >>> path.write_text("area,color,rent\\n25,red,700.5\\n40,blue,950.0\\n")
    43
    >>> load_csv(path, categorical="onehot").feature_names
    ('area', 'color=blue', 'color=red')
    """
    check_choice(categorical, ("error", "onehot"), "categorical", "load_csv")
    check_choice(task, ("auto", "classification", "regression"), "task", "load_csv")
    table = read_table(Path(path), delimiter, header, "load_csv")
    column = _target_column(table, target)
    if feature_names:
        x = _named_features(table, feature_names)
    else:
        x, feature_names = _features(table, column, categorical)
    if class_names or _is_classification(table, column, task):
        y, class_names = _classes(table, column, class_names)
    else:
        y = to_targets(numbers(table, column), table.where)
    return Dataset(x, y, tuple(feature_names), tuple(class_names), table.names[column])


def load_features(
    path: str | Path,
    feature_names: Sequence[str],
    *,
    delimiter: str = ",",
    header: bool | str = "auto",
) -> np.ndarray:
    """The samples of a table whose target isn't known, to predict it.

    Args:
      path, delimiter, header: as in `load_csv`.
      feature_names: D of them, as in the data set that the network was trained on; columns
        of other names are left aside.

    Returns:
      (N, D) float32.

    Raises:
      JaxNodesError: as `load_csv`; a column that isn't there.
    """
    return _named_features(
        read_table(Path(path), delimiter, header, "load_features"), feature_names
    )


def _target_column(table: Table, target: str | int | None) -> int:
    count = len(table.names)
    check(
        count >= 2,
        f"expected at least one feature and a target, got the one column {table.names[0]!r}; "
        "is the delimiter right?",
        table.where,
    )
    if target is None:
        return count - 1
    if isinstance(target, int) and not isinstance(target, bool) and -count <= target < count:
        return target % count
    check(
        target in table.names,
        f"expected a target among {', '.join(table.names)}, got {target!r}",
        table.where,
    )
    return table.names.index(str(target))


def _features(table: Table, target: int, categorical: str) -> tuple[np.ndarray, list[str]]:
    blocks, names = [], []
    for column, name in enumerate(table.names):
        if column == target:
            continue
        if is_numeric(table, column):
            blocks.append(numbers(table, column)[:, None])
            names.append(name)
            continue
        check(
            categorical == "onehot",
            f"expected numbers in column {name!r}, got words such as "
            f"{table.columns[column][0]!r}; turn them into zeros and ones by categorical='onehot' "
            "(--one-hot), or leave the column out",
            table.where,
        )
        words = sorted(set(table.columns[column]))
        check(
            len(words) <= MOST_CATEGORIES,
            f"expected at most {MOST_CATEGORIES} different words in column {name!r}, got "
            f"{len(words)}; leave the column out if it only names the rows",
            table.where,
        )
        places = {word: place for place, word in enumerate(words)}
        blocks.append(np.eye(len(words))[[places[cell] for cell in table.columns[column]]])
        names.extend(f"{name}={word}" for word in words)
    check(len(set(names)) == len(names), f"expected different names, got {names}", table.where)
    return to_float32(np.concatenate(blocks, axis=1), table.where, names), names


def _named_features(table: Table, feature_names: Sequence[str]) -> np.ndarray:
    """The features of these names; `color=red` is a word in the column `color`."""
    blocks: list[np.ndarray] = []
    words: dict[int, set[str]] = {}
    for feature in feature_names:
        if feature in table.names:
            blocks.append(numbers(table, table.names.index(feature)))
            continue
        fitting = [name for name in table.names if feature.startswith(f"{name}=")]
        check(
            fitting,
            f"expected a column {feature.partition('=')[0]!r}, got {', '.join(table.names)}",
            table.where,
        )
        name = max(fitting, key=len)
        column, word = table.names.index(name), feature[len(name) + 1 :]
        words.setdefault(column, set()).add(word)
        blocks.append(np.array([cell == word for cell in table.columns[column]], float))
    for column, known in words.items():
        for row, cell in enumerate(table.columns[column]):
            if cell not in known:
                raise table.error(row, column, f"expected one of {sorted(known)}, got {cell!r}")
    return to_float32(np.stack(blocks, axis=1), table.where, feature_names)


def _is_classification(table: Table, column: int, task: str) -> bool:
    if task != "auto":
        return task == "classification"
    if not is_numeric(table, column):
        return True
    if not all_whole(table.columns[column]):
        return False
    distinct, rows = len(set(map(int, table.columns[column]))), len(table.lines)
    check(
        2 * distinct <= max(rows, 4),
        f"expected a target that is clearly classes or numbers, got {distinct} different whole "
        f"numbers in {rows} rows of column {table.names[column]!r}; "
        "say task='classification' or task='regression'",
        table.where,
    )
    return True


def _classes(table: Table, column: int, known: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    cells = present(table, column)
    if all_whole(cells):
        cells = tuple(str(int(cell)) for cell in cells)  # 01 is 1
        names = tuple(sorted(set(cells), key=int))
    else:
        names = tuple(sorted(set(cells)))
    names = tuple(known) or names
    check(
        len(names) >= 2,
        f"expected at least two classes in column {table.names[column]!r}, got only {names[0]!r}",
        table.where,
    )
    labels = {name: label for label, name in enumerate(names)}
    for row, cell in enumerate(cells):
        if cell not in labels:
            raise table.error(row, column, f"expected one of {', '.join(names)}, got {cell!r}")
    return np.array([labels[cell] for cell in cells], np.int32), names
