"""The data that a command's options name, and those of a saved run."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from jaxnodes.cli.networks import width_of
from jaxnodes.cli.options import TEXT_MODELS, DataOptions, ModelOptions
from jaxnodes.cli.tasks import Task, renamed, task_of
from jaxnodes.cli.text_sources import PYTHON, read_text, text_parts
from jaxnodes.cli.texts import KINDS, UNKNOWN, TextTask
from jaxnodes.data.array_files import array_names, load_idx, samples
from jaxnodes.data.csv_files import load_features
from jaxnodes.data.datasets import BUNDLED, Dataset, Splits
from jaxnodes.data.sources import load_data
from jaxnodes.data.texts import Characters
from jaxnodes.errors import JaxNodesError, check

TABLES = (".csv", ".tsv", ".txt")
Named = TypeVar("Named", bound=ModelOptions)


def with_data(options: Named) -> Named:
    """The options with what the model learns from by default, where they name no data."""
    default = PYTHON if options.model in TEXT_MODELS else "digits"
    return dataclasses.replace(options, data=options.data or default)


def load(options: ModelOptions) -> tuple[Splits[Any], Task | TextTask]:
    """The data in parts to train, tune and test on, and what there is to learn of them.

    Raises:
      JaxNodesError: data or options that don't fit the model or each other.
    """
    text = options.model in TEXT_MODELS
    width = width_of(options) if text else 0
    parts = _parts(options, text)
    if not text:
        return parts, task_of(parts, options.standardize)
    # The characters of the training part alone: the others are to be unknown.
    vocabulary = Characters(parts.train, unknown=UNKNOWN)
    return parts, TextTask(options.model, vocabulary, width, options.seed)


def read_task(config: dict[str, Any]) -> Task | TextTask:
    """The task of a saved run."""
    return (TextTask if _is_text(config) else Task).from_config(config)


def _is_text(config: dict[str, Any]) -> bool:
    return config.get("task") in KINDS.values()


def _parts(options: DataOptions, text: bool) -> Splits[Any]:
    test, seed = options.test_fraction, options.seed
    check(0 <= seed < 2**32, f"expected a whole number from 0 to 2**32 - 1, got {seed}", "--seed")
    check(test is None or test > 0, f"expected a fraction above 0, got {test}", "--test-fraction")
    return text_parts(options) if text else _table_parts(options)


def _table_parts(options: DataOptions) -> Splits[Dataset]:
    check(
        options.data != PYTHON,
        f"expected tables or images, got {PYTHON}, which is a text; --model gpt or bert reads it",
        "--data",
    )
    own = _has_own_test(options.data)
    rest = 1.0 if own else 1 - (0.2 if options.test_fraction is None else options.test_fraction)
    try:
        return load_data(
            options.data,
            test=options.test_fraction,
            validation=options.validation_fraction * rest,
            seed=options.seed,
            **_loader_options(options),
        )
    except JaxNodesError as error:
        if Path(options.data).suffix != ".txt" or not Path(options.data).is_file():
            raise
        raise JaxNodesError(f"{error}; if it is a text, --model gpt or bert reads it") from None


def data_config(options: DataOptions, test: Dataset | str) -> dict[str, Any]:
    """Where a run's data come from, and a fingerprint of what it is tested on."""
    fields = {field.name: getattr(options, field.name) for field in dataclasses.fields(DataOptions)}
    if not _is_named(options.data):
        fields["data"] = str(Path(options.data).resolve())
    return {**fields, "test_sha256": _fingerprint(test)}


def own_parts(config: dict[str, Any]) -> Splits[Any]:
    """A run's data, in the parts that it was trained, tuned and tested on.

    Raises:
      JaxNodesError: the data aren't there any more, or aren't those of back then.
    """
    fields = dict(config["data"])
    expected = fields.pop("test_sha256")
    parts = _parts(DataOptions(**fields), _is_text(config))
    check(
        _fingerprint(parts.test) == expected,
        f"expected {fields['data']} as it was when the network was trained, got other samples; "
        "evaluate takes other data by --data",
        "run",
    )
    return parts


def own_test(config: dict[str, Any]) -> Any:
    """The samples that a run is tested on, and was never trained on."""
    return own_parts(config).test


def other_data(source: str, task: Task | TextTask, config: dict[str, Any]) -> Any:
    """All of other data, or their test part where they bring one, with the task's labels."""
    own = config["data"]
    if source == own["data"] or (
        not _is_named(source) and str(Path(source).resolve()) == own["data"]
    ):
        return own_test(config)
    if isinstance(task, TextTask):
        return read_text(source)
    options: dict[str, Any] = {}
    if Path(source).suffix in TABLES and not _is_named(source):
        options = _loader_options(DataOptions(**{**_fields_of(own), "data": source}))
        options |= {"feature_names": task.feature_names, "class_names": task.class_names}
        options |= {"target": task.target, "task": task.kind}
        options.pop("categorical", None)
    if _has_own_test(source):
        return renamed(load_data(source, **options).test, task)
    return renamed(load_data(source, test=0.0, stratify=False, **options).train, task)


def load_samples(source: str, task: Task, config: dict[str, Any]) -> np.ndarray:
    """Samples to predict, in their order in the file; targets need not be there.

    Of data that are made or come in parts (digits28, folders) those of the test part.
    """
    path = Path(source)
    if source in BUNDLED:
        return BUNDLED[source]().x
    if source == "digits28" == config["data"]["data"]:
        return own_test(config).x
    if _is_named(source) or path.is_dir():
        return load_data(source).test.x
    if path.suffix in TABLES:
        check(
            task.feature_names,
            "expected a .npz file of samples, as the network was trained without named features; "
            f"got {source}",
            "predict",
        )
        options = _loader_options(DataOptions(**{**_fields_of(config["data"]), "data": source}))
        kept = {name: options[name] for name in ("delimiter",) if name in options}
        return load_features(path, task.feature_names, **kept)
    if path.suffix == ".npz":
        names = array_names(path)
        wanted = next((name for name in ("x", "x_test") if name in names), None)
        check(
            wanted,
            f"expected an array x of samples, got {', '.join(sorted(names)) or 'none'}",
            path.name,
        )
        with np.load(path, allow_pickle=False) as file:
            return samples(file[wanted], path.name)
    if "ubyte" in path.name:
        return samples(load_idx(path), path.name)
    raise JaxNodesError(
        f"expected samples: one of {', '.join((*BUNDLED, 'digits28'))}, a .csv or .npz file, an "
        f"IDX file, or a folder of IDX or CIFAR files, got {source!r}",
        "predict",
    )


def _is_named(source: str) -> bool:
    return source in (*BUNDLED, "digits28", PYTHON)


def _has_own_test(source: str) -> bool:
    if _is_named(source):
        return False
    path = Path(source)
    if path.suffix == ".npz" and path.is_file():
        return {"x_train", "y_train", "x_test", "y_test"} <= array_names(path)
    return path.is_dir()


def _loader_options(options: DataOptions) -> dict[str, Any]:
    """The options that were given, as the one that loads knows them."""
    delimiter = "\t" if options.delimiter == "\\t" else options.delimiter
    if delimiter is None and Path(options.data).suffix == ".tsv":
        delimiter = "\t"
    target: Any = options.target
    if target is not None and target.lstrip("-").isdecimal():
        target = int(target)
    given = {
        "target": target,
        "task": None if options.task == "auto" else options.task,
        "delimiter": delimiter,
        "categorical": "onehot" if options.one_hot else None,
        "train_size": options.train_size,
    }
    return {name: value for name, value in given.items() if value is not None}


def _fields_of(own: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in own.items() if name != "test_sha256"}


def _fingerprint(part: Dataset | str) -> str:
    if isinstance(part, str):
        return hashlib.sha256(part.encode()).hexdigest()
    digest = hashlib.sha256()
    for array in (part.x, part.y):
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
