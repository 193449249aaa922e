"""`jaxnodes train`: from the options to a saved run."""

import dataclasses
import datetime
import functools
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
from jaxnodes.cli.augmentation import distorting
from jaxnodes.cli.counting import count, counts_table, network_of
from jaxnodes.cli.environment import device_line, keep_compiled_programs, versions
from jaxnodes.cli.options import DataOptions, Train
from jaxnodes.cli.sources import data_config, load_parts
from jaxnodes.cli.tasks import Task, is_pixels, task_of
from jaxnodes.data.datasets import Dataset, Splits
from jaxnodes.errors import check, check_count, check_number
from jaxnodes.models.convolutional import image_shape
from jaxnodes.training.loop import EpochReport
from jaxnodes.training.saving import save_network

INTERRUPTED = 130


@dataclasses.dataclass
class Run:
    """A training run: what it is of, and what it has learned so far."""

    options: Train
    parts: Splits[Dataset]
    task: Task
    net: Any
    counted: Summary
    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    variables: Any = None
    kept: int = 0  # the epoch that the variables are from, counted from 0
    interrupted: bool = False
    seconds: float = 0.0

    @property
    def epochs(self) -> int:
        return epochs_of(self.options)

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
    check_count(epochs_of(options), "epochs", "--epochs")
    check_count(options.batch_size, "the batch size", "--batch-size")
    check_number(rate_of(options), "the rate", "--learning-rate", least=0)
    if options.early_stopping is not None:
        check_count(options.early_stopping, "the patience", "--early-stopping")
    parts = load_parts(options)
    check(
        len(parts.validation.y) or options.early_stopping is None,
        "expected validation samples to stop early by, got none; raise --validation-fraction",
        "--early-stopping",
    )
    task = task_of(parts, options.standardize)
    shape = parts.train.x.shape[1:]
    net = network_of(options, shape, task.outputs)
    check(
        options.augment != "on" or is_pixels(parts.train),
        f"expected images to distort, got samples of shape {shape}; leave it out",
        "--augment",
    )
    return Run(options, parts, task, net, count(net, shape))


def announce(run: Run) -> None:
    """Prints what is about to be trained."""
    if run.options.json:
        return
    sizes = ", ".join(
        f"{len(part.y)} {name}" for name, part in zip(run.parts._fields, run.parts, strict=True)
    )
    print(f"{device_line()}  seed {run.options.seed}  {run.options.data}: {sizes}", flush=True)
    if not run.options.quiet:
        print(f"\n{run.net!r}\n\n{counts_table(run.counted)}\n", flush=True)


def learn(run: Run) -> None:
    """Trains; after Ctrl-C the run holds what the last whole epoch had learned."""
    options, task = run.options, run.task
    wanted = options.augment == "on" or (options.augment == "auto" and options.model != "linear")
    augmented = wanted and is_pixels(run.parts.train)
    stopping = None
    if len(run.parts.validation.y):
        # Without a patience the epochs all run, and the best one is kept.
        stopping = jn.EarlyStopping("val_loss", options.early_stopping or run.epochs)
    try:
        result = jn.fit(
            run.net,
            task.pair(run.parts.train),
            key=jax.random.key(options.seed),
            loss=task.loss,
            optimizer=optimizer_of(options, len(run.parts.train.y)),
            epochs=run.epochs,
            batch_size=options.batch_size,
            validation=task.pair(run.parts.validation) if stopping else None,
            metrics=task.metrics,
            augment=distorting(image_shape(run.parts.train.x.shape[1:])) if augmented else None,
            early_stopping=stopping,
            hook=run.hook,
        )
    except KeyboardInterrupt:
        if not run.rows:
            raise
        run.interrupted = True
    else:
        run.variables, run.kept = result.variables, int(result.best_epoch)


def epochs_of(options: Train) -> int:
    """The epochs asked for, or as many as the kind of network needs."""
    if options.epochs is None:
        return {"cnn": 30, "resnet": 10, "efficientnet": 10}.get(options.model, 100)
    return options.epochs


def rate_of(options: Train) -> float:
    """The learning rate asked for, or what the kind of network needs."""
    if options.learning_rate is None:
        return 0.03 if options.model == "linear" else 0.003
    return options.learning_rate


def optimizer_of(options: Train, samples: int) -> Any:
    """The optimizer and its schedule."""
    make: Callable = getattr(jn, options.optimizer)
    if options.schedule == "constant":
        return make(rate_of(options))
    steps = epochs_of(options) * math.ceil(samples / options.batch_size)
    return make(_cosine(rate_of(options), steps))


@functools.lru_cache
def _cosine(rate: float, steps: int) -> Callable:
    """A schedule; the same one for the same arguments, so that what is compiled serves again."""
    import optax

    return optax.cosine_decay_schedule(rate, steps)


def save(run: Run, folder: Path) -> None:
    """Writes the network, so that nothing that comes after can lose it."""
    sample = run.parts.train.x.shape[1:]
    save_network(
        folder,
        run.net,
        run.variables,
        input_spec=jax.ShapeDtypeStruct((1, *sample), np.float32),
        extra={
            **run.task.to_config(),
            "data": data_config(run.options, run.parts.test),
            "training": training_config(run),
        },
    )
    for name in (folders.METRICS, folders.HISTORY, folders.CURVES, folders.CONFUSION):
        (folder / name).unlink(missing_ok=True)  # of a run that was here before


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
    task, parts = run.task, run.parts._asdict()
    # All of the samples at once: one shape, one program.
    everything = task.inputs(np.concatenate([part.x for part in parts.values()]))
    outputs = np.asarray(jn.predict(run.net, run.variables, everything))
    ends = np.cumsum([len(part.y) for part in parts.values()])
    made = dict(zip(parts, np.split(outputs, ends[:-1]), strict=True))
    measures = {name: task.measure(made[name], part) for name, part in parts.items() if len(part.y)}
    metrics = {
        "test": measures["test"],
        "validation": measures.get("validation"),
        "train": measures["train"],
        "samples": {name: len(part.y) for name, part in parts.items()},
        "epochs": len(run.rows),
        "kept_epoch": run.kept + 1,
        "interrupted": run.interrupted,
        "seconds": round(run.seconds, 3),
        "nodes": run.counted.total_nodes,
        "parameters": run.counted.total_parameters,
    }
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
