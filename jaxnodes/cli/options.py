"""The options of each command, as the command line reads them. Imports nothing heavy."""

import dataclasses
from typing import Annotated, Literal

from tyro.conf import Positional, arg

Auto = Literal["auto", "on", "off"]

BAD_INPUT, INTERRUPTED = 2, 130  # exit codes

#: The models that learn from texts.
TEXT_MODELS = ("gpt", "bert")


@dataclasses.dataclass(frozen=True)
class DataOptions:
    """Where data come from, and how they are cut and scaled."""

    data: Annotated[
        str,
        arg(metavar="DATA", help_behavior_hint="(default: digits, of gpt and bert python)"),
    ] = ""
    """digits, iris, wine, breast_cancer, diabetes or digits28; or the path of a .csv or .npz file,
    or of a folder of MNIST's IDX or CIFAR's binary files. For gpt and bert: python, the source of
    Python's standard library, or the path of a text in UTF-8."""
    target: Annotated[
        str | None, arg(metavar="COLUMN", help_behavior_hint="(default: the last one)")
    ] = None
    """Column of a .csv file to predict."""
    task: Literal["auto", "classification", "regression"] = "auto"
    """What the target of a .csv file is; auto goes by its values."""
    delimiter: Annotated[
        str | None,
        arg(metavar="CHARACTER", help_behavior_hint="(default: a comma, or a tab in .tsv)"),
    ] = None
    """Character between the cells of a .csv file."""
    one_hot: bool = False
    """Turn columns of words in a .csv file into zeros and ones."""
    train_size: Annotated[
        int | None, arg(metavar="INT", help_behavior_hint="(default: one of each)")
    ] = None
    """digits28: how many training images to make of the training digits."""
    test_fraction: Annotated[
        float | None, arg(metavar="FLOAT", help_behavior_hint="(default: 0.2)")
    ] = None
    """Held out for the test at the end, every class in its share, of a text the last stretch; files
    that bring a test part leave it out."""
    validation_fraction: float = 0.1
    """Of the rest: held out to choose the epoch that is kept."""
    standardize: Auto = "auto"
    """Scale each feature to mean 0 and deviation 1 of the training part; auto does for tables."""
    seed: int = 0
    """Of the split, the weights, the shuffling, the dropout, the augmentation and the masks."""


@dataclasses.dataclass(frozen=True)
class ModelOptions(DataOptions):
    """The network."""

    model: Literal[
        "mlp", "cnn", "linear", "resnet", "efficientnet", "forecaster", "gpt", "bert"
    ] = "mlp"
    """A multilayer perceptron, a small convolutional network, a single layer, a residual network,
    an EfficientNet, a recurrent network over series (steps, features), or a transformer over the
    characters of a text, which says what comes next (gpt) or what is hidden (bert)."""
    variant: Annotated[
        str, arg(metavar="NAME", help_behavior_hint="(default: 20, b0, lstm, small)")
    ] = ""
    """Depth of resnet (20, 32, 18, 50, ...), scaling of efficientnet (b0 to b7), kind of forecaster
    (lstm, gru, rnn), or size of gpt and bert (tiny, small, medium, large)."""
    hidden: Annotated[
        tuple[int, ...],
        arg(metavar="INT ...", help_behavior_hint="(default: 256 128, of cnn 128, forecaster 64)"),
    ] = ()
    """Nodes of each hidden layer; those of cnn lie behind its convolutions, those of a forecaster
    are recurrent."""
    activation: Annotated[
        str, arg(metavar="NAME", help_behavior_hint="(default: relu, of efficientnet swish)")
    ] = ""
    """Of the hidden layers: relu, tanh, sigmoid, gelu, ..."""
    dropout: Annotated[
        float | None, arg(metavar="FLOAT", help_behavior_hint="(default: 0.1, of gpt and bert 0)")
    ] = None
    """Rate after each hidden layer."""


@dataclasses.dataclass(frozen=True)
class Train(ModelOptions):
    """Train a network, test it, and save the run.

    The run folder holds config.json and variables.safetensors, from which the network is
    rebuilt; metrics.json; history.jsonl; and the figures curves.png and, of classes,
    confusion.png.
    """

    optimizer: Literal["sgd", "momentum", "nesterov", "rmsprop", "adam", "adamw"] = "adam"
    """How steps are made of gradients."""
    learning_rate: Annotated[
        float | None,
        arg(
            aliases=["--rate", "--lr"],
            metavar="FLOAT",
            help_behavior_hint="(default: 0.003, of linear 0.03, of a larger gpt less)",
        ),
    ] = None
    """The learning rate that the first step takes."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Whether the rate falls to zero along a cosine or stays."""
    batch_size: int = 32
    """Samples a step."""
    epochs: Annotated[
        int | None, arg(metavar="INT", help_behavior_hint="(default: 100, of deep ones fewer)")
    ] = None
    """How often all training samples are met; by default the longer a text, the fewer."""
    early_stopping: Annotated[
        int | None, arg(metavar="INT", help_behavior_hint="(default: run all epochs)")
    ] = None
    """Stop after so many epochs in a row without a lower validation loss."""
    augment: Auto = "auto"
    """Shift, zoom and slant training images at random; auto does, but for linear models."""
    out: Annotated[
        str | None, arg(metavar="FOLDER", help_behavior_hint="(default: a fresh one in runs/)")
    ] = None
    """The run folder."""
    overwrite: bool = False
    """Write into a folder that isn't empty."""
    json: bool = False
    """Print one JSON object, nothing else."""
    quiet: bool = False
    """Leave out the network and the epochs."""

    def __call__(self) -> int:
        from jaxnodes.cli.training import run_training

        return run_training(self)


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Measure a trained network.

    By default on its own test samples, which it never saw while it learned.
    """

    run: Annotated[Positional[str], arg(metavar="RUN")]
    """The run folder."""
    data: Annotated[str | None, arg(metavar="DATA", help_behavior_hint="(default: its own)")] = None
    """Other data to measure it on, as for train; all of their samples, or their test part."""
    json: bool = False
    """Print one JSON object, nothing else."""

    def __call__(self) -> int:
        from jaxnodes.cli.inference import run_evaluation

        return run_evaluation(self)


@dataclasses.dataclass(frozen=True)
class Predict:
    """Predict with a trained network, a line for each sample."""

    run: Annotated[Positional[str], arg(metavar="RUN")]
    """The run folder."""
    data: Annotated[Positional[str], arg(metavar="DATA")]
    """Samples, as for train; targets need not be there. A .npz file holds them as x."""
    out: Annotated[str | None, arg(metavar="FILE", help_behavior_hint="(default: none)")] = None
    """A .csv or .npz file to write; by default the lines are printed."""
    proba: bool = False
    """Add the probability of every class."""
    json: bool = False
    """Print one JSON object, nothing else."""

    def __call__(self) -> int:
        from jaxnodes.cli.inference import run_prediction

        return run_prediction(self)


@dataclasses.dataclass(frozen=True)
class Generate:
    """Continue a text, a character at a time, with a gpt that was trained on one."""

    run: Annotated[Positional[str], arg(metavar="RUN")]
    """The run folder."""
    prompt: Annotated[
        str, arg(metavar="TEXT", help_behavior_hint="(default: the end of a line)")
    ] = "\n"
    """What the text begins with."""
    length: int = 200
    """How many characters to add."""
    temperature: float = 0.8
    """What the logits are divided by: below 1 for likelier texts, 0 for the likeliest character
    each time."""
    top_k: Annotated[int | None, arg(metavar="INT", help_behavior_hint="(default: all)")] = None
    """Draw from so many likeliest characters alone."""
    top_p: Annotated[float | None, arg(metavar="FLOAT", help_behavior_hint="(default: all)")] = None
    """Draw from the fewest characters alone whose probabilities add up to this."""
    seed: int = 0
    """Of the draws."""
    json: bool = False
    """Print one JSON object, nothing else."""

    def __call__(self) -> int:
        from jaxnodes.cli.generation import run_generation

        return run_generation(self)


@dataclasses.dataclass(frozen=True)
class Summary(ModelOptions):
    """Count the nodes and parameters of each layer, of a run or of a network by its options."""

    run: Annotated[Positional[str | None], arg(metavar="[RUN]", help_behavior_hint="")] = None
    """A run folder; without one, the network that train would make of these options."""
    json: bool = False
    """Print one JSON object, nothing else."""

    def __call__(self) -> int:
        from jaxnodes.cli.counting import run_summary

        return run_summary(self)


@dataclasses.dataclass(frozen=True)
class Inspect:
    """Measure every node of a trained network on its test samples, of a text on some of them.

    What each is worth is exact: the accuracy (or error) of the whole network less that
    without the node. Writes nodes.json and figures into the run folder.
    """

    run: Annotated[Positional[str], arg(metavar="RUN")]
    """The run folder."""
    node: Annotated[
        str | None, arg(metavar="LAYER/NUMBER", help_behavior_hint="(default: all nodes)")
    ] = None
    """One node alone, such as dense1/17: what it does, and the samples it answers to most."""
    value: Literal["zero", "mean", "bias"] = "zero"
    """What takes the place of a removed node."""
    top: int = 5
    """How many of the most and least important nodes to list, and of samples for a node."""
    json: bool = False
    """Print one JSON object, nothing else."""

    def __call__(self) -> int:
        from jaxnodes.cli.inspection import run_inspection

        return run_inspection(self)


@dataclasses.dataclass(frozen=True)
class Prune:
    """Remove the least important nodes of a trained network, and save what is left.

    What they are worth is measured on the training samples; the accuracy before and after
    is that of the test samples. The new run folder holds a smaller network.
    """

    run: Annotated[Positional[str], arg(metavar="RUN")]
    """The run folder."""
    keep: float = 0.5
    """The fraction of the nodes to keep."""
    by: Literal[
        "exact", "activation", "weight", "gradient", "taylor", "taylor2", "integrated_gradients"
    ] = "exact"
    """What a node is worth: exactly, by the loss without it, or by a cheaper measure."""
    scope: Literal["layer", "global"] = "layer"
    """Whether each layer keeps that fraction, or all of them together."""
    value: Literal["zero", "mean"] = "zero"
    """What takes the place of a removed node; it is folded into the next bias."""
    rounds: int = 8
    """How often to measure and to remove some: what a node is worth depends on the others."""
    out: Annotated[
        str | None, arg(metavar="FOLDER", help_behavior_hint="(default: a fresh one in runs/)")
    ] = None
    """The new run folder."""
    overwrite: bool = False
    """Write into a folder that isn't empty."""
    json: bool = False
    """Print one JSON object, nothing else."""

    def __call__(self) -> int:
        from jaxnodes.cli.pruned import run_pruning

        return run_pruning(self)


@dataclasses.dataclass(frozen=True)
class Doctor:
    """Show devices, versions and memory, and try a compiled matrix product."""

    json: bool = False
    """Print one JSON object, nothing else."""

    def __call__(self) -> int:
        from jaxnodes.cli.environment import run_doctor

        return run_doctor(self)
