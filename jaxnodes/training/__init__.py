"""Training: one step, a compiled epoch, `fit`, and whole runs as pure functions."""

from jaxnodes.training.batches import to_device
from jaxnodes.training.inference import evaluate, predict
from jaxnodes.training.loop import EarlyStopping, EpochReport, fit
from jaxnodes.training.program import TrainResult, TrainState, make_step
from jaxnodes.training.runs import make_train

__all__ = [
    "EarlyStopping",
    "EpochReport",
    "TrainResult",
    "TrainState",
    "evaluate",
    "fit",
    "make_step",
    "make_train",
    "predict",
    "to_device",
]
