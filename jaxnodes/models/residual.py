"""Residual networks: stages of blocks, each of them a body around which the input goes too."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from jaxnodes.errors import check, check_count
from jaxnodes.layers.base import Layer
from jaxnodes.layers.batch_normalization import BatchNorm
from jaxnodes.layers.combinators import Parallel, Sequential
from jaxnodes.layers.neurons import Dense
from jaxnodes.layers.pooling import GlobalAvgPool, MaxPool
from jaxnodes.models.image_layers import Style, images_first
from jaxnodes.registry import choose


class _Design(NamedTuple):
    """Blocks of each stage, whether they are bottlenecks, channels of the first stage, stem."""

    blocks: tuple[int, ...]
    bottleneck: bool = False
    width: int = 64
    stem: str = "imagenet"


#: By depth, as the paper has them: table 1, and section 4.2.
_DESIGNS: dict[int, _Design] = {
    18: _Design((2, 2, 2, 2)),
    34: _Design((3, 4, 6, 3)),
    50: _Design((3, 4, 6, 3), bottleneck=True),
    101: _Design((3, 4, 23, 3), bottleneck=True),
    152: _Design((3, 8, 36, 3), bottleneck=True),
    **{6 * n + 2: _Design((n, n, n), width=16, stem="cifar") for n in (3, 5, 7, 9, 18)},
}

_NORM = BatchNorm()


def resnet(
    input_shape: Sequence[int],
    outputs: int,
    depth: int = 18,
    *,
    blocks: Sequence[int] | None = None,
    bottleneck: bool | None = None,
    width: int | None = None,
    stem: str | None = None,
    activation: Callable | str = "relu",
    norm: Layer = _NORM,
    dtype: Any = None,
) -> Sequential:
    """A residual network (He et al. 2015, arXiv:1512.03385).

    Stages of blocks; each stage after the first halves the image and doubles the channels.
    A block is `relu(body(x) + shortcut(x))`: the body two 3 x 3 convolutions, or in a
    bottleneck 1 x 1, 3 x 3 and 1 x 1 to four times the channels; the shortcut the identity,
    or where the shape changes a 1 x 1 convolution (the paper's option B, for the small
    images of section 4.2 too, where the paper pads with zeros). Every convolution is
    followed by a batch norm.

    It departs from the paper in that a bottleneck's stride is on its 3 x 3 convolution, as
    in torchvision (its v1.5), whose parameters and padding it has: 1 on all sides of a
    3 x 3 kernel. That is not `"SAME"` where the stride is 2.

    Args:
      input_shape: of a sample, without the batch axis: (H, W, C), or (H * H,) for square
        gray images as rows. The network takes images of other sizes too.
      outputs: nodes of the last layer, whose weighted sums are the output.
      depth: 18 and 34 have plain blocks, 50, 101 and 152 bottlenecks; 20, 32, 44, 56 and 110
        are those of section 4.2, three stages of 16, 32 and 64 channels.
      blocks: of each stage, `(2, 2, 2, 2)`; in place of `depth`.
      bottleneck: whether blocks are bottlenecks; `None` as `depth` has it.
      width: channels of the first stage; `None` is 64, or 16 as `depth` has it.
      stem: `"imagenet"` is a 7 x 7 convolution and a 3 x 3 max pooling, of stride 2 both;
        `"cifar"`, for small images, a 3 x 3 convolution of stride 1; `None` as `depth` has it.
      activation: of all layers but the last, by function or by name.
      norm: the layer behind each convolution. For PyTorch's running variance in training
        give `jn.BatchNorm(unbiased=True)`.
      dtype: the dtype that convolutions and norms compute in (say `jnp.bfloat16`).

    Returns:
      A `Sequential`, (B, *input_shape) to (B, outputs). Nodes are called
      `stem/conv1`, `stage1/block1/body/conv1`, `stage2/block1/shortcut/conv1`, and the
      output of stage 1's first block `stage1/relu1`.

    Raises:
      JaxNodesError: samples that are no images, or a depth that isn't listed.

    Example:

    >>> import jax, jax.numpy as jnp
    >>> net, x = resnet((224, 224, 3), 1000, 50), jax.ShapeDtypeStruct((1, 224, 224, 3), "float32")
    >>> params, _ = jax.eval_shape(net.init, jax.random.key(0), x)
    >>> sum(p.size for p in jax.tree.leaves(params))
    25557032
    >>> resnet((8, 8, 1), 10, blocks=(1,), stem="cifar").layers[1]
    ('stage1', Sequential(
      block1=Parallel(
        body=Sequential(
          conv1=Conv(64, (3, 3), padding=1, w_init=he_normal_fan_out, use_bias=False),
          batch_norm1=BatchNorm(),
          relu1=relu,
          conv2=Conv(64, (3, 3), padding=1, w_init=he_normal_fan_out, use_bias=False),
          batch_norm2=BatchNorm(),
        ),
        shortcut=Sequential(),
        merge='sum',
      ),
      relu1=relu,
    ))
    """
    check_count(outputs, "outputs", "resnet")
    if blocks is None:
        designs = {str(depth): design for depth, design in _DESIGNS.items()}
        design = choose(str(depth), designs, "a depth", "resnet")
    else:
        check(
            depth == 18, f"expected depth or blocks, got both: {depth!r} and {blocks!r}", "resnet"
        )
        check(
            isinstance(blocks, Sequence) and len(blocks),
            f"expected the blocks of each stage (say (2, 2, 2, 2)), got {blocks!r}",
            "resnet",
        )
        design = _Design(tuple(blocks))
    given = {"bottleneck": bottleneck, "width": width, "stem": stem}
    design = design._replace(**{name: v for name, v in given.items() if v is not None})
    for count in design.blocks:
        check_count(count, "each of blocks", "resnet")
    check_count(design.width, "width", "resnet")
    stems = {"imagenet": _imagenet_stem, "cifar": _cifar_stem}
    first = choose(design.stem, stems, "a stem", "resnet")

    style = Style.of(activation, norm, dtype, "resnet")
    stages, channels = {}, design.width
    for i, count in enumerate(design.blocks):
        stage = {}
        for k in range(count):
            stride = 2 if i and not k else 1
            block, channels = _block(
                style, channels, design.width * 2**i, stride, design.bottleneck
            )
            stage[f"block{k + 1}"] = block
            stage[style.activation_name(k + 1)] = style.activation
        stages[f"stage{i + 1}"] = Sequential(**stage)
    return Sequential(
        *images_first(input_shape, "resnet"),
        stem=Sequential(*first(style, design.width)),
        **stages,
        global_avg_pool1=GlobalAvgPool(),
        dense1=Dense(outputs),
    )


def _imagenet_stem(style: Style, width: int) -> list:
    return [*style.conv(width, 7, stride=2, padding=3), MaxPool(3, stride=2, padding=1)]


def _cifar_stem(style: Style, width: int) -> list:
    return style.conv(width, 3, padding=1)


def _block(
    style: Style, channels: int, width: int, stride: int, bottleneck: bool
) -> tuple[Parallel, int]:
    """A block for inputs of so many channels, without its last activation, and its channels."""
    if bottleneck:
        features = 4 * width
        body = [
            *style.conv(width, 1),
            *style.conv(width, 3, stride=stride, padding=1),
            *style.conv(features, 1, active=False),
        ]
    else:
        features = width
        body = [
            *style.conv(width, 3, stride=stride, padding=1),
            *style.conv(width, 3, padding=1, active=False),
        ]
    same = stride == 1 and channels == features
    projection = [] if same else style.conv(features, 1, stride=stride, active=False)
    return (
        Parallel(body=Sequential(*body), shortcut=Sequential(*projection), merge="sum"),
        features,
    )
