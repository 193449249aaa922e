"""What every figure is made of: panels, colors, and `save`, which writes one to a file."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from jaxnodes.errors import JaxNodesError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Colors that differ for color-blind readers and in print (Okabe and Ito 2008).
BLUE, ORANGE, GREEN, PURPLE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9"
GRAY = "#767676"


def save(figure: "Figure", path: str | Path) -> None:
    """Writes a figure to a file, in the format that its suffix says (.png, .svg, .pdf).

    Raises:
      JaxNodesError: a format that matplotlib doesn't know, or a folder that isn't there.
    """
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise JaxNodesError(
            f"expected a .png, .svg or .pdf file that can be written, got {path} ({reason})",
            "plots.save",
        ) from None


def panels(
    count: int,
    *,
    columns: int = 1,
    size: tuple[float, float] = (5.0, 3.8),
    layout: Literal["constrained", "compressed"] = "constrained",
) -> "tuple[Figure, list[Axes]]":
    """A figure of so many panels, in rows of at most `columns`, each of this size in inches."""
    from matplotlib.figure import Figure

    rows = math.ceil(count / columns)
    columns = math.ceil(count / rows)  # no row much shorter than the others
    figure = Figure(figsize=(columns * size[0], rows * size[1]), layout=layout)
    axes = [figure.add_subplot(rows, columns, i + 1) for i in range(count)]
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
    return figure, axes


def reference_lines(ax: "Axes") -> None:
    """Thin lines through the origin."""
    ax.axhline(0, color="#D0D0D0", lw=0.8)
    ax.axvline(0, color="#D0D0D0", lw=0.8)


def colors_of(count: int) -> list[Any]:
    """A color for each of so many things: apart for a few, of many by their order."""
    import matplotlib

    few = [BLUE, ORANGE, GREEN, PURPLE, SKY, "#E69F00", "black"]
    if count <= len(few):
        return few[:count]
    return list(matplotlib.colormaps["viridis"](np.linspace(0, 0.92, count)))


def color_scale(values: np.ndarray, *, signed: bool | None = None) -> dict[str, Any]:
    """How to color numbers, as keywords of `imshow`: the more blue, the further above zero.

    If `signed`, numbers below zero are red, and the scale reaches equally far on both sides
    of zero, else it begins there; by default it is if there are any below. Zero is white.
    What isn't finite is gray.
    """
    import matplotlib

    fine = values[np.isfinite(values)]
    most = float(np.abs(fine).max(initial=0)) or 1.0
    signed = bool((fine < 0).any()) if signed is None else signed
    cmap = matplotlib.colormaps["RdBu" if signed else "Blues"].with_extremes(bad="#B0B0B0")
    return {"cmap": cmap, "vmin": -most if signed else 0.0, "vmax": most}


def shown_of(shown: int, total: int, what: str) -> str:
    """How many of a kind are drawn, in words.

    >>> shown_of(1, 1, "node"), shown_of(10, 10, "node"), shown_of(10, 256, "node")
    ('1 node', '10 nodes', '10 of 256 nodes')
    """
    of = "" if shown == total else f" of {total}"
    return f"{shown}{of} {what}{'s' if total > 1 else ''}"


def name_ticks(
    ax: "Axes", axis: Literal["x", "y"], names: Sequence[Any], at: Any, most: int = 25
) -> None:
    """Names along an axis, of many every second, third and so on, slanted where they are long."""
    every = math.ceil(len(names) / most)
    shown = [str(name) for name in names][::every]
    place = list(at)[::every]
    if axis == "y":
        ax.set_yticks(place, shown)
    elif (longest := max(map(len, shown))) > 10 or (longest > 3 and len(shown) > 3):
        ax.set_xticks(place, shown, rotation=45, ha="right", rotation_mode="anchor")
    else:
        ax.set_xticks(place, shown)
