"""`jaxnodes train`: from the options to a saved run."""

import dataclasses
import datetime
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jaxnodes as jn
from jaxnodes import plots
from jaxnodes.analysis import Summary
from jaxnodes.cli import folders
from jaxnodes.cli.counting import count, counts_table
from jaxnodes.cli.environment import device_line, keep_compiled_programs, versions
from jaxnodes.cli.networks import network_of
from jaxnodes.cli.options import INTERRUPTED, DataOptions, Train
from jaxnodes.cli.recipes import epochs_of, optimizer_of, rate_of
from jaxnodes.cli.sources import data_config, load, with_data
from jaxnodes.cli.tasks import Task
from jaxnodes.cli.texts import TextTask
from jaxnodes.data.datasets import Splits
from jaxnodes.errors import check, check_count, check_number
from jaxnodes.training.loop import EpochReport
from jaxnodes.training.saving import save_network


@dataclasses.dataclass
class Run:
    """A training run: what it is of, and what it has learned so far."""

    options: Train
    parts: Splits[Any]
    task: Task | TextTask
    net: Any
    counted: Summary
    sizes: dict[str, int]
    epochs: int
    augment: Callable | None
    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    variables: Any = None
    kept: int = 0  # the epoch that the variables are from, counted from 0
    interrupted: bool = False
    seconds: float = 0.0

    def hook(self, report: EpochReport) -> None:
        """Holds on to each epoch, so that Ctrl-C can keep it."""
        names = ["loss", *self.task.metrics]
        names += [f"val_{name}" for name in names]
        row: dict[str, Any] = {"epoch": report.epoch + 1}
        row |= {name: report.measures[name] for name in names if name in report.measures}
        row |= {"learning_rate": report.learning_rate, "seconds": round(report.seconds, 3)}
        self.rows.append(row)
        self.variables, self.kept, self.seconds = report.variables, report.epoch, report.seconds
        if not (self.options.quiet or self.options.json):
            print(epoch_line(row, self.epochs, self.rows[0]["seconds"]), flush=True)


def run_training(options: Train) -> int:
    """Trains, tests and saves.

    Returns:
      The exit code.
    """
    keep_compiled_programs()
    options = with_data(options)
    run = prepare(options)
    stem = Path(options.data).stem or "data"
    folder = folders.reserve(options.out, f"{stem}-{options.model}", options.overwrite)
    try:
        announce(run)
        learn(run)
        save(run, folder)
    finally:
        folders.release(folder)
    try:
        metrics = conclude(run, folder)
    except KeyboardInterrupt:
        print(f"jaxnodes: stopped; the network is in {folder}", file=sys.stderr)
        return INTERRUPTED
    report(run, folder, metrics)
    return INTERRUPTED if run.interrupted else 0


def prepare(options: Train) -> Run:
    """Checks the options, loads the data and describes the network."""
    if options.epochs is not None:
        check_count(options.epochs, "epochs", "--epochs")
    check_count(options.batch_size, "the batch size", "--batch-size")
    if options.learning_rate is not None:
        check_number(options.learning_rate, "the rate", "--learning-rate", least=0)
    if options.early_stopping is not None:
        check_count(options.early_stopping, "the patience", "--early-stopping")
    parts, task = load(options)
    sizes = {name: task.size(part) for name, part in parts._asdict().items()}
    check(
        sizes["validation"] or options.early_stopping is None,
        "expected validation samples to stop early by, got none; raise --validation-fraction",
        "--early-stopping",
    )
    spec = task.spec(parts.train)
    net = network_of(options, spec.shape[1:], task.outputs)
    augment = task.augmentation(parts.train, options)
    epochs = epochs_of(options, math.prod(spec.shape) * sizes["train"])
    return Run(options, parts, task, net, count(net, spec), sizes, epochs, augment)


def announce(run: Run) -> None:
    """Prints what is about to be trained."""
    if run.options.json:
        return
    sizes = ", ".join(f"{n} {name}" for name, n in run.sizes.items())
    print(f"{device_line()}  seed {run.options.seed}  {run.options.data}: {sizes}", flush=True)
    if not run.options.quiet:
        print(f"\n{run.net!r}\n\n{counts_table(run.counted)}\n", flush=True)


def learn(run: Run) -> None:
    """Trains; after Ctrl-C the run holds what the last whole epoch had learned."""
    options, task, sizes = run.options, run.task, run.sizes
    stopping = None
    if sizes["validation"]:
        # Without a patience the epochs all run, and the best one is kept.
        stopping = jn.EarlyStopping("val_loss", options.early_stopping or run.epochs)
    steps = run.epochs * math.ceil(sizes["train"] / options.batch_size)
    try:
        result = jn.fit(
            task.learner(run.net),
            task.pair(run.parts.train),
            key=jax.random.key(options.seed),
            loss=task.loss,
            optimizer=optimizer_of(options, steps),
            epochs=run.epochs,
            batch_size=options.batch_size,
            validation=task.pair(run.parts.validation) if stopping else None,
            metrics=task.metrics,
            augment=run.augment,
            early_stopping=stopping,
            hook=run.hook,
        )
    except KeyboardInterrupt:
        if not run.rows:
            raise
        run.interrupted = True
    else:
        run.variables, run.kept = result.variables, int(result.best_epoch)


def save(run: Run, folder: Path) -> None:
    """Writes the network, so that nothing that comes after can lose it."""
    save_network(
        folder,
        run.net,
        run.variables,
        input_spec=run.task.spec(run.parts.train),
        extra={
            **run.task.to_config(),
            "data": data_config(run.options, run.parts.test),
            "training": training_config(run),
        },
    )
    folders.clear(folder)


def training_config(run: Run) -> dict[str, Any]:
    """How the network was trained, to do it again."""
    elsewhere = {field.name for field in dataclasses.fields(DataOptions)}
    elsewhere |= {"out", "overwrite", "json", "quiet"}
    options = dataclasses.asdict(run.options)
    kept = {name: value for name, value in options.items() if name not in elsewhere}
    kept |= {"epochs": run.epochs, "learning_rate": rate_of(run.options)}
    return {**kept, "versions": versions()}


def conclude(run: Run, folder: Path) -> dict[str, Any]:
    """Measures the network, on the test samples just once, and draws the figures."""
    task, parts, sizes = run.task, run.parts._asdict(), run.sizes
    # All of the samples at once: one shape, one program.
    inputs = [task.pair(part)[0] for part in parts.values()]
    everything = jax.tree.map(lambda *arrays: np.concatenate(arrays), *inputs)
    learner = task.learner(run.net)
    outputs = jax.device_get(jn.predict(learner, run.variables, everything))
    made, end = {}, 0
    for name, size in sizes.items():
        start, end = end, end + size
        made[name] = jax.tree.map(lambda array, s=slice(start, end): array[s], outputs)
    measures = {name: task.measure(made[name], part) for name, part in parts.items() if sizes[name]}
    metrics = {
        "test": measures["test"],
        "validation": measures.get("validation"),
        "train": measures["train"],
        "samples": sizes,
        "epochs": len(run.rows),
        "kept_epoch": run.kept + 1,
        "interrupted": run.interrupted,
        "seconds": round(run.seconds, 3),
        "nodes": run.counted.total_nodes,
        "parameters": run.counted.total_parameters,
    }
    if baseline := task.baseline(run.parts):
        metrics["baseline"] = baseline
    folders.write_json(folder / folders.METRICS, metrics)
    folders.write_lines(folder / folders.HISTORY, run.rows)
    measured = [name for name in run.rows[0] if name not in ("epoch", "learning_rate", "seconds")]
    history = {name: [row[name] for row in run.rows] for name in measured}
    figure = plots.curves(history, labels=task.labels, best_epoch=run.kept)
    plots.save(figure, folder / folders.CURVES)
    if task.class_names:
        matrix = jax.jit(jn.confusion_matrix)(made["test"], run.parts.test.y)
        plots.save(plots.confusion(matrix, task.class_names), folder / folders.CONFUSION)
    return metrics


def report(run: Run, folder: Path, metrics: dict[str, Any]) -> None:
    """Prints how it went and where it is."""
    if run.options.json:
        print(json.dumps(folders.finite({**metrics, "folder": str(folder)})))
        return
    if run.interrupted:
        print(f"\nstopped: kept what epoch {run.kept + 1} of {run.epochs} had learned")
    elif not run.options.quiet:
        print(f"\nkept epoch {run.kept + 1} of {len(run.rows)}, {run.seconds:.1f} s of training")
    print(f"test {measures_line(metrics['test'])} ({metrics['samples']['test']} samples)")
    for name, measures in metrics.get("baseline", {}).items():
        print(f"by counting ({name.replace('_', ' ')}) {measures_line(measures)}")
    print(f"saved in {folder}")


def epoch_line(row: dict[str, Any], epochs: int, first: float = 0.0) -> str:
    """One epoch's measures, with the rate and the time left.

    Args:
      row: of the history.
      epochs: how many there are to be.
      first: seconds of the first epoch, which compiles and so says little of the others.
    """
    epoch, seconds = row["epoch"], row["seconds"]
    measures = {
        name: value
        for name, value in row.items()
        if name not in ("epoch", "learning_rate", "seconds")
    }
    each = (seconds - first) / (epoch - 1) if epoch > 1 else seconds
    left = each * (epochs - epoch)
    rate = row["learning_rate"]
    parts = [f"epoch {epoch:>{len(str(epochs))}}/{epochs}", measures_line(measures)]
    parts += [] if rate is None else [f"rate {rate:.1e}"]
    return "  ".join([*parts, f"{datetime.timedelta(seconds=round(left))} left"])


def measures_line(measures: dict[str, float]) -> str:
    """Names and values."""
    return "  ".join(f"{name} {value:.4f}" for name, value in measures.items())
