"""`jaxnodes evaluate` and `jaxnodes predict`: what a saved run makes of data."""

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jaxnodes as jn
from jaxnodes.cli.environment import device_line, keep_compiled_programs
from jaxnodes.cli.folders import finite
from jaxnodes.cli.options import Evaluate, Predict
from jaxnodes.cli.sources import load_samples, other_data, own_test, read_task
from jaxnodes.cli.tasks import Task
from jaxnodes.cli.texts import TextTask
from jaxnodes.cli.training import measures_line
from jaxnodes.errors import JaxNodesError, check
from jaxnodes.training.files import write_atomically
from jaxnodes.training.saving import load_network


def run_evaluation(options: Evaluate) -> int:
    """Prints the loss and the metrics of a run on its test samples, or on other data."""
    keep_compiled_programs()
    net, variables, config = load_network(options.run)
    task = read_task(config)
    part = own_test(config) if options.data is None else other_data(options.data, task, config)
    outputs = jax.device_get(jn.predict(task.learner(net), variables, task.pair(part)[0]))
    measures, samples = task.measure(outputs, part), task.size(part)
    if options.json:
        report: dict[str, Any] = {"run": options.run, "data": options.data or "its own test part"}
        print(json.dumps(finite({**report, "samples": samples, **measures})))
    else:
        print(f"{device_line()}  {options.run}")
        print(f"{options.data or 'test'} {measures_line(measures)} ({samples} samples)")
    return 0


def run_prediction(options: Predict) -> int:
    """Prints or writes a prediction for each sample."""
    keep_compiled_programs()
    suffix = Path(options.out or ".csv").suffix or options.out
    check(
        options.out is None or suffix in (".csv", ".npz"),
        f"expected a .csv or .npz file, got {options.out}",
        "--out",
    )
    net, variables, config = load_network(options.run)
    task = read_task(config)
    if isinstance(task, TextTask):
        mend = "jaxnodes generate continues a text" if task.model == "gpt" else "evaluate takes one"
        raise JaxNodesError(
            f"expected a run of tables or images, got one of texts ({task.model}); {mend}",
            "predict",
        )
    check(
        task.class_names or not options.proba,
        "expected a network that tells classes apart, got one for regression; leave it out",
        "--proba",
    )
    x = load_samples(options.data, task, config)
    outputs = np.asarray(jn.predict(net, variables, task.inputs(x)))
    table = columns_of(outputs, task, options.proba)
    if options.out is None and options.json:
        print(json.dumps(finite({name: column.tolist() for name, column in table.items()})))
    elif options.out is None:
        sys.stdout.write(as_csv(table))
    else:
        data = as_csv(table).encode() if suffix == ".csv" else as_npz(outputs, task)
        write_atomically(options.out, data)
        report = {"out": options.out, "samples": len(x)}
        print(json.dumps(report) if options.json else f"{len(x)} predictions in {options.out}")
    return 0


def columns_of(outputs: np.ndarray, task: Task, proba: bool) -> dict[str, np.ndarray]:
    """The columns of the table: what is predicted, and how sure the network is."""
    values = task.readable(outputs)
    table = {"sample": np.arange(len(values))}
    if not task.class_names:
        names = ["prediction"]
        if task.outputs > 1:
            names = [f"prediction {k + 1}" for k in range(task.outputs)]
        return {**table, **dict(zip(names, values.T, strict=True))}
    # By the outputs: two that differ may round to the same probability.
    table["prediction"] = np.array(task.class_names)[outputs.argmax(axis=1)]
    table["probability"] = values.max(axis=1)
    if proba:
        table |= {f"p({name})": values[:, c] for c, name in enumerate(task.class_names)}
    return table


def as_csv(table: dict[str, np.ndarray]) -> str:
    """The table as CSV, floats with the nine digits that give a float32 back."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table)
    for row in zip(*table.values(), strict=True):
        writer.writerow([f"{v:.9g}" if isinstance(v, np.floating) else str(v) for v in row])
    return text.getvalue()


def as_npz(outputs: np.ndarray, task: Task) -> bytes:
    """The predictions as arrays: labels, probabilities and the classes' names, or quantities."""
    values = task.readable(outputs)
    arrays: dict[str, Any] = {"prediction": values}
    if task.class_names:
        arrays = {
            "label": outputs.argmax(axis=1).astype(np.int32),
            "probabilities": values,
            "class_names": np.array(task.class_names),
        }
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()
