"""Networks of mobile inverted bottlenecks: EfficientNet."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from jaxnodes.errors import check_count, check_number
from jaxnodes.layers.base import Layer
from jaxnodes.layers.batch_normalization import BatchNorm
from jaxnodes.layers.combinators import Residual, Sequential
from jaxnodes.layers.excitation import SqueezeExcite
from jaxnodes.layers.neurons import Dense
from jaxnodes.layers.pooling import GlobalAvgPool
from jaxnodes.layers.regularization import Dropout
from jaxnodes.models.image_layers import Style, images_first
from jaxnodes.registry import choose


class EfficientNetScaling(NamedTuple):
    """How much larger than B0 an EfficientNet is.

    Attributes:
      width: times its channels, rounded to multiples of 8.
      depth: times the blocks of each stage, rounded up.
      resolution: pixels on a side of the images that it is meant for; any will do.
      dropout: the rate before the last layer.
    """

    width: float
    depth: float
    resolution: int
    dropout: float


#: The networks of the paper, from the code of its authors.
EFFICIENTNETS: dict[str, EfficientNetScaling] = {
    "b0": EfficientNetScaling(1.0, 1.0, 224, 0.2),
    "b1": EfficientNetScaling(1.0, 1.1, 240, 0.2),
    "b2": EfficientNetScaling(1.1, 1.2, 260, 0.3),
    "b3": EfficientNetScaling(1.2, 1.4, 300, 0.3),
    "b4": EfficientNetScaling(1.4, 1.8, 380, 0.4),
    "b5": EfficientNetScaling(1.6, 2.2, 456, 0.4),
    "b6": EfficientNetScaling(1.8, 2.6, 528, 0.5),
    "b7": EfficientNetScaling(2.0, 3.1, 600, 0.5),
}

#: Of each stage of B0: blocks, kernel size, stride of the first, expansion, channels.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)

_NORM = BatchNorm(momentum=0.01, epsilon=1e-3)


def efficientnet(
    input_shape: Sequence[int],
    outputs: int,
    variant: str | EfficientNetScaling = "b0",
    *,
    stem_stride: int = 2,
    dropout: float | None = None,
    stochastic_depth: float = 0.2,
    activation: Callable | str = "swish",
    norm: Layer = _NORM,
    dtype: Any = None,
) -> Sequential:
    """An EfficientNet (Tan and Le 2019, arXiv:1905.11946), as its authors' code has it.

    Seven stages of `mbconv` blocks between a 3 x 3 and a 1 x 1 convolution, scaled in width,
    depth and resolution at once. In training a block with a shortcut is left out now and
    then (stochastic depth, Huang et al. 2016, arXiv:1603.09382), the more often the later.

    Args:
      input_shape: of a sample, without the batch axis: (H, W, C), or (H * H,) for square
        gray images as rows. `EFFICIENTNETS[variant].resolution` is what the paper trains
        with; the network takes images of any size.
      outputs: nodes of the last layer, whose weighted sums are the output.
      variant: `"b0"` to `"b7"`, or a `EfficientNetScaling`.
      stem_stride: of the first convolution; 1 for small images, which halves 28 x 28 pixels
        to 2 x 2 rather than to one.
      dropout: the rate before the last layer; `None` is the variant's.
      stochastic_depth: the rate at which a last block would be left out; block i of n is at
        `i / n` times this. A `Dropout` of whole samples does it, called `stochastic_depth`.
      activation: of all layers but the last, by function or by name.
      norm: the layer behind each convolution. The authors' has running statistics that take
        some five hundred steps to mean anything; for shorter training runs give
        `jn.BatchNorm(epsilon=1e-3)`, or inference is at chance.
      dtype: the dtype that convolutions and norms compute in (say `jnp.bfloat16`).

    Returns:
      A `Sequential`, (B, *input_shape) to (B, outputs). Nodes are called `stem/conv1`,
      `stage2/block1/expand/silu1`, `stage2/block1/squeeze_excite/excite`, `head/conv1`.

    Raises:
      JaxNodesError: samples that are no images, an unknown variant, or a rate outside [0, 1).

    Example:

    >>> import jax, jax.numpy as jnp
    >>> net, x = efficientnet((28, 28, 1), 10, stem_stride=1), jnp.ones((1, 28, 28, 1))
    >>> params, _ = jax.eval_shape(net.init, jax.random.key(0), x)
    >>> sum(p.size for p in jax.tree.leaves(params))
    4019782
    """
    check_count(outputs, "outputs", "efficientnet")
    scaling = (
        variant
        if isinstance(variant, EfficientNetScaling)
        else choose(variant, EFFICIENTNETS, "a variant", "efficientnet")
    )
    for name in ("width", "depth"):
        check_number(getattr(scaling, name), name, "efficientnet", least=0.01)
    check_number(stochastic_depth, "stochastic_depth", "efficientnet", least=0, most=1)
    style = Style.of(activation, norm, dtype, "efficientnet")
    channels = round_filters(32, scaling.width)
    stem = style.conv(channels, 3, stride=stem_stride)
    repeats = [math.ceil(scaling.depth * count) for count, *_ in _STAGES]
    stages, made = {}, 0
    for i, (_, kernel_size, stride, expansion, features) in enumerate(_STAGES):
        features = round_filters(features, scaling.width)
        stage = {}
        for k in range(repeats[i]):
            stage[f"block{k + 1}"] = mbconv(
                channels,
                features,
                kernel_size,
                stride=1 if k else stride,
                expansion=expansion,
                stochastic_depth=stochastic_depth * made / sum(repeats),
                style=style,
            )
            channels, made = features, made + 1
        stages[f"stage{i + 1}"] = Sequential(**stage)
    dropout = scaling.dropout if dropout is None else dropout
    return Sequential(
        *images_first(input_shape, "efficientnet"),
        stem=Sequential(*stem),
        **stages,
        head=Sequential(*style.conv(round_filters(1280, scaling.width), 1)),
        global_avg_pool1=GlobalAvgPool(),
        **({"dropout1": Dropout(dropout)} if dropout else {}),
        dense1=Dense(outputs),
    )


def mbconv(
    channels: int,
    features: int,
    kernel_size: int,
    *,
    stride: int = 1,
    expansion: int = 6,
    stochastic_depth: float = 0.0,
    style: Style,
) -> Residual | Sequential:
    """A mobile inverted bottleneck (Sandler et al. 2018, arXiv:1801.04381) with squeeze-excite.

    A 1 x 1 convolution to `expansion` times the channels (none if that is 1), a depthwise one,
    squeeze-and-excite with a quarter of the block's inputs, and a 1 x 1 convolution to the
    block's outputs without an activation; around it all a shortcut, where the shape stays.

    Args:
      channels: of the input.
      features: of the output.
      kernel_size: of the depthwise convolution.
      stride: of the depthwise convolution, with `"SAME"` padding, as TensorFlow has it.
      expansion: channels in between, for each of the input's.
      stochastic_depth: the rate at which a sample goes the shortcut alone in training.
      style: activation, norm and dtype.
    """
    inner = channels * expansion
    layers = {}
    if expansion > 1:
        layers["expand"] = Sequential(*style.conv(inner, 1))
    layers["depthwise"] = Sequential(*style.conv(inner, kernel_size, stride=stride, groups=inner))
    squeezed = max(1, channels // 4)
    layers["squeeze_excite"] = SqueezeExcite(squeezed, style.activation, dtype=style.dtype)
    layers["project"] = Sequential(*style.conv(features, 1, active=False))
    if stride > 1 or channels != features:
        return Sequential(**layers)
    if stochastic_depth:
        layers["stochastic_depth"] = Dropout(stochastic_depth, shared_axes=(1, 2, 3))
    return Residual(Sequential(**layers))


def round_filters(filters: int, width: float) -> int:
    """`width * filters`, to the nearest multiple of 8 that is not a tenth less than that."""
    scaled = filters * width
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * scaled else rounded + 8
