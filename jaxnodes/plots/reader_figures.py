"""One sample on its way through a small network, every node in view."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxnodes.errors import check
from jaxnodes.plots.figures import BLUE, GRAY, ORANGE, SKY, panels, shown_of
from jaxnodes.plots.inputs import by_name, finite, numbers, pixels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

#: Nodes of a layer, at most, and how many of them are in one column.
MOST, COLUMN = 64, 16
#: Between columns of a layer, and between layers, in units of one node's height.
STEP, SPACE = 1.0, 4.0

Place = tuple[float, float]


def digit_reader(
    nodes: Mapping[str, Any],
    image: Any,
    class_names: Sequence[str] = (),
    *,
    weights: Mapping[str, Any] | None = None,
    label: int | None = None,
    from_logits: bool = True,
) -> "Figure":
    """An image on its way through a small network: every node a circle, as bright as it is on.

    The image is at the left, then a column for each layer, from node 0 on top. In a circle
    is the node's value. It is black at zero and white at the layer's largest value; values
    below zero are blue, and each layer has its own scale, which is written below it. Beside
    the last layer are the classes, the likeliest in bold.

    Args:
      nodes: values of one sample by name, (size,) or (1, size), the first layer first: what
        `jn.record` returned. Layers have 64 nodes at most.
      image: (H, W), (H, W, 1), (H, W, 3), or (D,) of a square one; also with a batch axis
        of one in front.
      class_names: one for each node of the last layer; by default the numbers from 0 on.
      weights: (size before, size) by the name of the layer, drawn as lines: orange above
        zero, blue below, the stronger the larger what a node sends to the next, |w h|.
      label: the true class, written above.
      from_logits: whether the last layer's values are logits: their softmax (of one node, the
        sigmoid) is then written beside the classes, and is what their circles show.

    Raises:
      JaxNodesError: layers that are too large or of several samples, an image or weights of
        another shape, another number of class names.

    Source: the 784-16-16-10 network of Sanderson 2017, "But what is a neural network?",
    3blue1brown.com.

    Example:

    >>> import numpy as np
    >>> figure = digit_reader({"dense1": [0.0, 2.0], "dense2": [1.0, 1.0]}, np.eye(4))
    >>> [text.get_text() for text in figure.axes[0].texts][-2:]
    ['0  50.0%', '1  50.0%']
    """
    where = "plots.digit_reader"
    layers = _layers(nodes, where)
    shown = _one_image(image, where)
    last = list(layers)[-1]
    classes = [str(name) for name in class_names] or [str(c) for c in range(len(layers[last]))]
    check(
        len(classes) == len(layers[last]),
        f"expected {len(layers[last])} class names, one for each node of {last!r}, got "
        f"{len(classes)}",
        where,
    )
    check(
        label is None or (isinstance(label, (int, np.integer)) and 0 <= label < len(classes)),
        f"expected label to be a class from 0 to {len(classes) - 1}, got {label!r}",
        where,
    )
    edges = _edges(weights, layers, where)
    tallest = max(min(len(values), COLUMN) for values in layers.values())
    side = min(max(0.6 * tallest, 4.0), 9.0)
    wide = side * shown.shape[1] / shown.shape[0]
    left = wide + SPACE
    places: dict[str, list[Place]] = {}
    for name, values in layers.items():
        places[name] = _circles(len(values), left)
        left = places[name][-1][0] + SPACE
    right = left - SPACE + 1.2 + 0.26 * (max(map(len, classes)) + 8)
    half, below = max(tallest, side) / 2, 0.8 if edges else 0.0
    figure, (ax,) = panels(1, size=(0.33 * (right + 0.6), 0.33 * (2 * half + 4.6 + below)))
    ax.set(xlim=(-0.5, right), ylim=(half + 3.0 + below, -half - 0.2), aspect="equal")
    ax.set_axis_off()
    gray = {"cmap": "gray", "vmin": min(0.0, shown.min()), "vmax": shown.max() or 1.0}
    extent = (0.0, wide, side / 2, -side / 2)
    ax.imshow(shown, extent=extent, interpolation="nearest", aspect="equal", **gray)
    _say_below(ax, wide / 2, half, "input", f"{shown.shape[0]} x {shown.shape[1]} pixels")
    first = places[next(iter(layers))]
    for corner in (-1, 1):
        y = min(len(first), COLUMN) / 2 * corner
        ax.plot([wide, first[0][0] - 0.6], [corner * side / 2, y], color="#C8C8C8", lw=0.8)
    names = list(layers)
    for before, name in itertools.pairwise(names):
        if name in edges:
            _draw_edges(ax, places[before], places[name], edges[name] * layers[before][:, None])
    chances = _chances(layers[last]) if from_logits else layers[last]
    for name, values in layers.items():
        bright = chances if name == last else values
        most = 1.0 if name == last and from_logits else float(np.abs(bright).max()) or 1.0
        scale = _draw_layer(ax, places[name], values, bright / most, most)
        if name == last and from_logits:
            scale = "probability:\nblack 0%, white 100%"
        middle = (places[name][0][0] + places[name][-1][0]) / 2
        _say_below(ax, middle, half, name, shown_of(len(values), len(values), "node"), scale)
    if edges:
        said = "lines: what a node sends to the next, w h; orange above zero, blue below"
        style = {"ha": "center", "va": "top", "fontsize": 7.5, "color": "#404040"}
        ax.text((wide + right) / 2, half + 3.0, said, **style)
    best = int(np.argmax(chances)) if len(classes) > 1 else -1
    for c, (x, y) in enumerate(places[last]):
        said = f"{classes[c]}  {chances[c]:.1%}" if from_logits else classes[c]
        weight = "bold" if c == best else "normal"
        ax.text(x + 0.75, y, said, ha="left", va="center", fontsize=9, fontweight=weight)
    sure = f" ({chances[best]:.1%})" if from_logits else ""
    told = [] if best < 0 else [f"read as {classes[best]}{sure}"]
    told += [] if label is None else [f"true class {classes[label]}"]
    ax.set_title(", ".join(told), fontsize=11)
    return figure


def _layers(nodes: Any, where: str) -> dict[str, np.ndarray]:
    """Values (size,) by name."""
    layers = {}
    for name, array in by_name(nodes, "what jn.record returned, arrays", where).items():
        expected = f"{name!r} to be (size,) or (1, size), of one sample"
        values = numbers(array, expected, (1, 2), where)
        check(
            values.ndim == 1 or len(values) == 1, f"expected {expected}, got {values.shape}", where
        )
        values = finite(values.reshape(-1), f"values at {name!r}", where)
        check(
            len(values) <= MOST,
            f"expected layers of at most {MOST} nodes, got {name!r} of {len(values)}; leave it out",
            where,
        )
        layers[name] = values
    return layers


def _one_image(image: Any, where: str) -> np.ndarray:
    """(H, W) or (H, W, 3)."""
    array = image if hasattr(image, "shape") else np.asarray(image)
    if array.ndim > 1 and array.shape[0] == 1:
        array = array[0]
    images = pixels(array[None], where)
    return images[0]


def _edges(weights: Any, layers: dict[str, np.ndarray], where: str) -> dict[str, np.ndarray]:
    """The weights between layers that are drawn."""
    if weights is None:
        return {}
    names, edges = list(layers), {}
    for name, array in by_name(weights, "weights, arrays", where).items():
        check(
            name in names[1:],
            f"expected weights of the layers {', '.join(names[1:])}, got {name!r}",
            where,
        )
        shape = (len(layers[names[names.index(name) - 1]]), len(layers[name]))
        w = finite(numbers(array, f"weights {shape} of {name!r}", (2,), where), "weights", where)
        check(w.shape == shape, f"expected weights {shape} of {name!r}, got {w.shape}", where)
        edges[name] = w
    return edges


def _circles(count: int, left: float) -> list[Place]:
    """Where the nodes of a layer are: columns of equal height, one below the other."""
    columns = math.ceil(count / COLUMN)
    rows = math.ceil(count / columns)
    return [(left + STEP * (i // rows), i % rows - (rows - 1) / 2) for i in range(count)]


def _chances(logits: np.ndarray) -> np.ndarray:
    """Softmax; of a single logit, the sigmoid."""
    both = logits if len(logits) > 1 else np.array([logits[0], 0.0])
    powers = np.exp(both - both.max())
    return (powers / powers.sum())[: len(logits)]


def _brightness() -> "Colormap":
    """Black at zero, white above, blue below."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("brightness", [SKY, "black", "white"])


def _draw_layer(
    ax: "Axes", places: Sequence[Place], values: np.ndarray, bright: np.ndarray, most: float
) -> str:
    """Circles and the values in them.

    Args:
      ax, places, values: where, and the values.
      bright: how bright each is, from -1 to 1.
      most: the value that 1 stands for.

    Returns:
      What the brightness means.
    """
    from matplotlib.patches import Circle

    shades = _brightness()(0.5 + bright / 2)
    for (x, y), value, shade in zip(places, values, shades, strict=True):
        ax.add_patch(Circle((x, y), 0.44, facecolor=shade, edgecolor=GRAY, lw=0.8, zorder=3))
        light = shade[:3] @ np.array([0.299, 0.587, 0.114]) > 0.5
        color = "black" if light else "white"
        style = {"ha": "center", "va": "center", "fontsize": 6.5, "zorder": 4}
        ax.text(x, y, _short(value), color=color, **style)
    low = f"\nblue {-most:.3g}" if (bright < 0).any() else ""
    return f"black 0, white {most:.3g}{low}"


def _short(value: float) -> str:
    """A number in five characters at most, mostly."""
    size = abs(value)
    if size == 0:
        return "0"
    if size >= 1000:
        return f"{value:.0e}".replace("e+0", "e")
    return f"{value:.{0 if size >= 99.95 else 1 if size >= 9.995 else 2}f}"


def _draw_edges(
    ax: "Axes", before: Sequence[Place], after: Sequence[Place], sent: np.ndarray
) -> None:
    """Lines between two layers, (nodes before, nodes after)."""
    from matplotlib.collections import LineCollection
    from matplotlib.colors import to_rgba

    strength = np.abs(sent) / (np.abs(sent).max() or 1.0)
    lines = [[start, end] for start in before for end in after]
    colors = [
        to_rgba(ORANGE if s > 0 else BLUE, float(a) ** 0.8)
        for s, a in zip(sent.ravel(), strength.ravel(), strict=True)
    ]
    widths = 0.3 + 1.2 * strength.ravel()
    ax.add_collection(LineCollection(lines, colors=colors, linewidths=widths, zorder=1))


def _say_below(ax: "Axes", x: float, half: float, name: str, *notes: str) -> None:
    """A name in bold and notes under it."""
    ax.text(x, half + 0.35, name, ha="center", va="top", fontsize=9, fontweight="bold")
    ax.text(x, half + 1.05, "\n".join(notes), ha="center", va="top", fontsize=7.5, color="#404040")
