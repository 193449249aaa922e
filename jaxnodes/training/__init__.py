"""Training: one step, a compiled epoch, `fit`, and whole runs as pure functions."""

from jaxnodes.training.batches import to_device
from jaxnodes.training.groups import vmap_in_groups
from jaxnodes.training.inference import evaluate, predict
from jaxnodes.training.loop import EarlyStopping, EpochReport, fit
from jaxnodes.training.program import TrainResult, TrainState, make_step
from jaxnodes.training.runs import make_train
from jaxnodes.training.saving import load_network, save_network
from jaxnodes.training.variable_files import load_variables, save_variables

__all__ = [
    "EarlyStopping",
    "EpochReport",
    "TrainResult",
    "TrainState",
    "evaluate",
    "fit",
    "load_network",
    "load_variables",
    "make_step",
    "make_train",
    "predict",
    "save_network",
    "save_variables",
    "to_device",
    "vmap_in_groups",
]
