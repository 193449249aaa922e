"""The networks that options describe, each with its own defaults."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jaxnodes as jn
from jaxnodes import models
from jaxnodes.cli.options import TEXT_MODELS, ModelOptions
from jaxnodes.errors import check
from jaxnodes.models.convolutional import image_shape

#: What each model takes of the options, with its own defaults.
_TAKES: dict[str, dict[str, Any]] = {
    "linear": {},
    "mlp": {"hidden": (256, 128), "activation": "relu", "dropout": 0.1},
    "cnn": {"hidden": (128,), "activation": "relu", "dropout": 0.1},
    "resnet": {"variant": "20", "activation": "relu"},
    "efficientnet": {"variant": "b0", "activation": "swish", "dropout": 0.1},
    "forecaster": {"variant": "lstm", "hidden": (64,), "dropout": 0.1},
    "gpt": {"variant": "small", "dropout": 0.0},
    "bert": {"variant": "small", "dropout": 0.0},
}


class Size(NamedTuple):
    """Of a transformer over characters: its blocks, and how far it sees.

    Attributes:
      layers, heads, features: as in `jn.models.gpt`.
      context: characters that gpt sees at once.
      rate: the learning rate that suits it.
    """

    layers: int
    heads: int
    features: int
    context: int
    rate: float


SIZES = {
    "tiny": Size(1, 2, 16, 16, 0.01),
    "small": Size(2, 4, 64, 64, 0.003),
    "medium": Size(4, 4, 128, 128, 0.001),
    "large": Size(6, 6, 384, 256, 0.0005),
}


def size_of(options: ModelOptions) -> Size:
    """The size of a gpt or a bert.

    Raises:
      JaxNodesError: a variant that isn't one.
    """
    name = options.variant or _TAKES[options.model]["variant"]
    check(name in SIZES, f"expected a size among {', '.join(SIZES)}, got {name}", "--variant")
    return SIZES[name]


def width_of(options: ModelOptions) -> int:
    """How many characters a gpt or a bert sees at once.

    A bert has to learn where its places are, and does so from one character in seven: it
    sees fewer, and so makes more steps of the same text.
    """
    context = size_of(options).context
    return min(context // 2, 32) if options.model == "bert" else context


def network_of(options: ModelOptions, input_shape: Sequence[int], outputs: int) -> Any:
    """The network that the options describe.

    Args:
      options: the model and what it takes.
      input_shape: of a sample; of texts `(width,)`.
      outputs: classes, quantities, or ids of a vocabulary.

    Raises:
      JaxNodesError: options that the model doesn't have, or whatever it finds.
    """
    takes, given = _TAKES[options.model], {}
    for name in ("hidden", "activation", "dropout", "variant"):
        value = getattr(options, name)
        changed = value not in (None, "", ())
        check(
            name in takes or not changed,
            f"expected options that {options.model} has ({', '.join(takes) or 'none'}), got "
            f"{name} {value}; leave it out",
            f"--{name}",
        )
        if name in takes:
            given[name] = value if changed else takes[name]
    if options.model in TEXT_MODELS:
        return _transformer(options, input_shape[0], outputs, given["dropout"])
    variant = given.pop("variant", "")
    if options.model == "resnet":
        check(variant.isdecimal(), f"expected a depth such as 20 or 50, got {variant}", "--variant")
        return models.resnet(input_shape, outputs, int(variant), **given)
    if options.model == "efficientnet":
        # Small images, and training runs too short for the authors' running statistics.
        small = {"stem_stride": 1} if min(image_shape(input_shape, "efficientnet")[:2]) < 64 else {}
        norm = jn.BatchNorm(epsilon=1e-3)
        return models.efficientnet(input_shape, outputs, variant, norm=norm, **small, **given)
    if options.model == "forecaster":
        return models.forecaster(input_shape, outputs, kind=variant, **given)
    return getattr(models, options.model)(input_shape, outputs, **given)


def _transformer(options: ModelOptions, width: int, outputs: int, dropout: float) -> Any:
    layers, heads, features, *_ = size_of(options)
    sizes: dict[str, Any] = {"layers": layers, "heads": heads, "features": features}
    sizes |= {"context": width, "dropout": dropout}
    if options.model == "gpt":
        return models.gpt(outputs, rotary=True, **sizes)
    encoder = models.bert(outputs, types=1, **sizes)
    # Wider than BERT's own 0.02 (by half at its 768 features): this learns for minutes, not days.
    return jn.MaskedTokens(dataclasses.replace(encoder, std=0.8 / math.sqrt(features)))
