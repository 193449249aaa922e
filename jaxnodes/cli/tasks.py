"""What there is to learn of a data set: the classes or quantities, and how all is scaled.

A `Task` is all of a run that isn't in its network: it goes into `config.json`, and
makes of new samples the network's inputs, and of its outputs what people read.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

import jaxnodes as jn
from jaxnodes.cli.augmentation import distorting
from jaxnodes.cli.options import Train
from jaxnodes.data.datasets import Dataset, Splits, holds_classes, numbered_classes
from jaxnodes.data.scaling import Scaler, fit_scaler, scale, unscale
from jaxnodes.errors import check
from jaxnodes.models.convolutional import image_shape


@dataclasses.dataclass(frozen=True)
class Task:
    """Classification, if there are `class_names`; else regression of `outputs` quantities."""

    outputs: int
    class_names: tuple[str, ...]
    feature_names: tuple[str, ...]
    target: str
    scaler: Scaler | None
    target_scaler: Scaler | None

    @property
    def kind(self) -> str:
        return "classification" if self.class_names else "regression"

    @property
    def loss(self) -> Callable:
        return jn.cross_entropy if self.class_names else jn.mse

    @property
    def metrics(self) -> dict[str, Callable]:
        """What to measure each epoch, on what the network makes."""
        if self.class_names:
            return {"accuracy": jn.accuracy}
        assert self.target_scaler is not None
        return {"mae": _unscaled_mae(tuple(self.target_scaler.std.tolist()))}

    @property
    def labels(self) -> dict[str, str]:
        """The measures with their units, as axes show them."""
        if self.class_names:
            return {"loss": "cross-entropy (nats)"}
        return {
            "loss": "mean squared error (in variances)",
            "mae": f"mean absolute error ({self.target})",
        }

    def learner(self, net: Any) -> Any:
        """What is trained, and measured: the network itself."""
        return net

    def size(self, part: Dataset) -> int:
        """How many samples there are."""
        return len(part.y)

    def spec(self, part: Dataset) -> Any:
        """A batch of one sample, as the network takes it."""
        return jax.ShapeDtypeStruct((1, *part.x.shape[1:]), np.float32)

    def inputs(self, x: np.ndarray) -> np.ndarray:
        """Samples as the network takes them."""
        return x if self.scaler is None else scale(self.scaler, x)

    def pair(self, part: Dataset) -> tuple[np.ndarray, np.ndarray]:
        """A part of the data as the network learns it."""
        y = part.y if self.target_scaler is None else scale(self.target_scaler, part.y)
        return self.inputs(part.x), y

    def sample(self, part: Dataset) -> tuple[np.ndarray, np.ndarray]:
        """What takes long is measured on: all of the part."""
        return self.pair(part)

    def answer(self, part: Dataset, sample: int) -> Any:
        """What is to be said of a sample: its class, or the quantities."""
        y = part.y[sample]
        return self.class_names[int(y)] if self.class_names else np.asarray(y).tolist()

    def augmentation(self, part: Dataset, options: Train) -> Callable | None:
        """How training images are distorted, if they are to be.

        Raises:
          JaxNodesError: no images, where it was asked for.
        """
        pixels, shape = is_pixels(part), part.x.shape[1:]
        check(
            options.augment != "on" or pixels,
            f"expected images to distort, got samples of shape {shape}; leave it out",
            "--augment",
        )
        wanted = options.augment == "on" or (
            options.augment == "auto" and options.model != "linear"
        )
        return distorting(image_shape(shape, "--augment")) if wanted and pixels else None

    def readable(self, outputs: Any) -> np.ndarray:
        """What the network makes as probabilities (N, C), or in the targets' own units (N, K)."""
        outputs = np.asarray(outputs)
        if self.class_names:
            powers = np.exp(outputs - outputs.max(axis=-1, keepdims=True))
            return powers / powers.sum(axis=-1, keepdims=True)
        assert self.target_scaler is not None
        return unscale(self.target_scaler, outputs)

    def measure(self, outputs: Any, part: Dataset) -> dict[str, float]:
        """The loss, and accuracy, or mean absolute error and R2 in the targets' own units."""
        values = {"loss": (self.loss, outputs, self.pair(part)[1])}
        if self.class_names:
            values["accuracy"] = (jn.accuracy, outputs, part.y)
        else:
            predictions = self.readable(outputs)
            values["mae"] = (jn.mae, predictions, part.y)
            # Targets that are all the same have no variance to explain.
            if (part.y.min(axis=0) < part.y.max(axis=0)).all():
                values["r2"] = (jn.r2_score, predictions, part.y)
        functions = {name: function for name, (function, *_) in values.items()}
        measure = jax.jit(lambda pairs: {n: functions[n](*pair) for n, pair in pairs.items()})
        measures = measure({name: pair for name, (_, *pair) in values.items()})
        return {name: float(measures[name]) for name in values}

    def baseline(self, parts: Splits[Dataset]) -> dict[str, dict[str, float]]:
        """Nothing to compare with."""
        del parts
        return {}

    def to_config(self) -> dict[str, Any]:
        """The task as JSON values."""

        def listed(scaler):
            return scaler and {name: a.tolist() for name, a in scaler._asdict().items()}

        return {
            "task": self.kind,
            "outputs": self.outputs,
            "target": self.target,
            "class_names": list(self.class_names),
            "feature_names": list(self.feature_names),
            "preprocessing": {
                "scaler": listed(self.scaler),
                "target_scaler": listed(self.target_scaler),
            },
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Task":
        """The task that `to_config` wrote."""
        check(
            {"outputs", "class_names", "preprocessing"} <= set(config),
            "expected a run that jaxnodes train saved, got a network without its task",
            "config.json",
        )

        def scaler(listed):
            return listed and Scaler(*(np.array(listed[f], np.float32) for f in Scaler._fields))

        return cls(
            config["outputs"],
            tuple(config["class_names"]),
            tuple(config["feature_names"]),
            config["target"],
            scaler(config["preprocessing"]["scaler"]),
            scaler(config["preprocessing"]["target_scaler"]),
        )


def task_of(parts: Splits[Dataset], standardize: str) -> Task:
    """The task of data in parts, scaled by what the training part alone says.

    Args:
      parts: the data.
      standardize: `"on"`, `"off"`, or `"auto"`: tables are, images (and rows of pixels
        from 0 to 1) are not.
    """
    train = parts.train
    classes = holds_classes(train)
    names = train.class_names or (numbered_classes(train.y) if classes else ())
    table = train.x.ndim == 2 and not is_pixels(train)
    scaled = standardize == "on" or (standardize == "auto" and table)
    return Task(
        outputs=len(names) if classes else train.y.shape[-1],
        class_names=tuple(names),
        feature_names=tuple(train.feature_names),
        target=train.target,
        scaler=fit_scaler(train.x, train.feature_names) if scaled else None,
        target_scaler=None if classes else fit_scaler(train.y),
    )


def is_pixels(part: Dataset) -> bool:
    """Whether the samples are images, or square ones as rows whose features are called pixels."""
    named = [name.startswith("pixel") for name in part.feature_names]
    side = round(len(named) ** 0.5)
    return part.x.ndim == 4 or (bool(named) and all(named) and side**2 == len(named))


def renamed(part: Dataset, task: Task) -> Dataset:
    """Other data with the task's labels for their classes, which must be among the task's."""
    kind = "classification" if holds_classes(part) else "regression"
    check(
        kind == task.kind,
        f"expected targets for {task.kind}, which the network learned, got {kind}",
        "data",
    )
    if not task.class_names or part.class_names == task.class_names:
        return part
    unknown = [name for name in part.class_names if name not in task.class_names]
    check(
        not unknown,
        f"expected classes among {', '.join(task.class_names)}, got {', '.join(unknown[:5])}",
        "data",
    )
    places = np.array([task.class_names.index(name) for name in part.class_names], np.int32)
    return part._replace(y=places[part.y], class_names=task.class_names)


@functools.lru_cache
def _unscaled_mae(std: tuple[float, ...]) -> Callable:
    """The mean absolute error in the targets' own units; one function, so that it compiles once."""
    scale = np.array(std, np.float32)

    def mae(predictions, targets):
        return jn.mae(predictions * scale, targets * scale)

    return mae
