"""What nodes look for: their weights as images."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxnodes.errors import check, check_count
from jaxnodes.plots.figures import color_scale, shown_of
from jaxnodes.plots.inputs import finite, numbers
from jaxnodes.plots.tiles import Tiles

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def filters(
    kernel: Any, *, columns: int = 8, most_filters: int = 32, most_channels: int = 16
) -> "Figure":
    """The filters of a convolution as images, all on one scale: blue above zero, red below.

    With one input channel they lie in rows, each under its number; with several, a
    column is a filter and a row is an input channel.

    Args:
      kernel: (height, width, channels, filters), as a `Conv` holds it in `"w"`. One of a
        1-D convolution is one of height 1, `kernel[None]`.
      columns: how many filters of one channel there are in a row.
      most_filters, most_channels: how many to show, the first ones. The title says if there
        are more.

    Raises:
      JaxNodesError: another number of axes, or weights that aren't finite.

    Example:

    >>> import numpy as np
    >>> figure = filters(np.ones((3, 3, 1, 4)))
    >>> len(figure.axes[0].get_images())
    4
    """
    where = "plots.filters"
    expected = "a kernel (height, width, channels, filters); of a 1-D convolution pass kernel[None]"
    found = numbers(kernel, expected, (4,), where)
    return _images(found, "filter", columns, most_filters, most_channels, where)


def incoming_weights(
    w: Any,
    image_shape: Sequence[int],
    *,
    columns: int = 8,
    most_nodes: int = 32,
    most_channels: int = 16,
) -> "Figure":
    """The weights that come into each node from an image, as an image, all on one scale.

    Blue is above zero, red below. With several channels a column is a node and a row
    is an input channel.

    Args:
      w: (D, nodes), as a `Dense` holds it in `"w"`.
      image_shape: (height, width) or (height, width, channels) of the inputs, D in all.
      columns: how many nodes of one channel there are in a row.
      most_nodes, most_channels: how many to show, the first ones. The title says if there
        are more.

    Raises:
      JaxNodesError: an image of another size than D, or weights that aren't finite.

    Example:

    >>> import numpy as np
    >>> figure = incoming_weights(np.arange(12.0).reshape(4, 3), (2, 2))
    >>> figure.axes[0].get_images()[0].get_array().tolist()
    [[0.0, 3.0], [6.0, 9.0]]
    """
    where = "plots.incoming_weights"
    found = numbers(w, "weights (D, nodes)", (2,), where)
    shape = tuple(image_shape)
    check(
        len(shape) in (2, 3) and math.prod(shape) == len(found),
        f"expected image_shape (height, width) or (height, width, channels) of the {len(found)} "
        f"inputs, got {shape}",
        where,
    )
    images = found.reshape(*shape, *([1] if len(shape) == 2 else []), found.shape[1])
    return _images(images, "node", columns, most_nodes, most_channels, where)


def _images(
    weights: np.ndarray, of: str, columns: int, most: int, most_channels: int, where: str
) -> "Figure":
    """Weights (height, width, channels, n) as images."""
    check_count(columns, "columns", where)
    check_count(most, f"most_{of}s", where)
    check_count(most_channels, "most_channels", where)
    finite(weights, "weights", where)
    height, width, channels, count = weights.shape
    shown = weights[:, :, :most_channels, :most]
    scale = color_scale(shown, signed=True)
    n, depth = shown.shape[3], shown.shape[2]
    if channels == 1:
        columns = min(columns, n)
        above = 0.3 if max(height, width) < 12 else 0.2
        tiles = Tiles(math.ceil(n / columns), columns, (height, width), above=above)
        for i in range(n):
            place = divmod(i, columns)
            image = tiles.draw(*place, shown[:, :, 0, i], **scale)
            tiles.write(*place, str(i))
        tiles.finish()
        tiles.ax.set_xlabel(f"{of}, by number ({height} x {width} pixels each)")
    else:
        tiles = Tiles(depth, n, (height, width))
        for channel in range(depth):
            for i in range(n):
                image = tiles.draw(channel, i, shown[:, :, channel, i], **scale)
        tiles.finish([str(i) for i in range(n)], [str(c) for c in range(depth)])
        tiles.ax.set(xlabel=f"{of} ({height} x {width} pixels)", ylabel="input channel")
    said = [
        shown_of(n, count, of),
        *([shown_of(depth, channels, "channel")] if channels > 1 else []),
    ]
    tiles.ax.set_title(", ".join(said), fontsize=11)
    tiles.figure.colorbar(image, ax=tiles.ax, label="weight", fraction=0.05, pad=0.03)
    return tiles.figure
