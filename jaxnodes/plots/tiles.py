"""Small images side by side in one axis: kernels, weights of nodes, samples."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxnodes.plots.figures import panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

#: Free space between two images, as a share of one.
GAP = 0.12


class Tiles:
    """A figure of rows and columns of small images, each one unit high and as wide as it is.

    Args:
      rows, columns: how many there are.
      shape: (height, width) of each, in pixels, which are square unless that makes one side
        more than three times the other.
      above: space above each image, for a line of text, in the images' heights.
      side: of an image, in inches, the longer one; by default by its pixels.
    """

    def __init__(
        self,
        rows: int,
        columns: int,
        shape: tuple[int, int],
        *,
        above: float = 0.0,
        side: float | None = None,
    ):
        height, width = shape
        self.rows, self.columns = rows, columns
        self.wide = float(np.clip(width / height, 1 / 3, 3))
        self.step = (self.wide + GAP * max(self.wide, 1), 1 + GAP * max(self.wide, 1) + above)
        if side is None:
            side = float(np.clip(0.04 * max(shape), 0.42, 1.1))
        unit = max(side / max(self.wide, 1), 0.22)
        size = (columns * self.step[0] * unit, rows * self.step[1] * unit)
        self.figure: Figure
        self.ax: Axes
        self.figure, (self.ax,) = panels(
            1, size=(max(size[0], 1.7) + 1.5, size[1] + 0.75), layout="compressed"
        )
        self.above = above
        self.ax.spines[:].set_visible(False)
        self.ax.tick_params(length=0)

    def draw(self, row: int, column: int, image: np.ndarray, **scale: Any) -> "AxesImage":
        """Draws one image, the first row on top."""
        left, top = self.corner(row, column)
        extent = (left, left + self.wide, top + 1, top)
        return self.ax.imshow(image, extent=extent, interpolation="nearest", **scale)

    def corner(self, row: int, column: int) -> tuple[float, float]:
        """Left and upper edge of an image; downwards is positive."""
        return column * self.step[0], row * self.step[1] + self.above

    def write(self, row: int, column: int, text: str, **style: Any) -> None:
        """Writes a line above an image."""
        left, top = self.corner(row, column)
        style = {"ha": "center", "va": "bottom", "fontsize": 8, **style}
        self.ax.text(left + self.wide / 2, top - 0.03, text, **style)

    def finish(self, names: Sequence[str] = (), row_names: Sequence[str] = ()) -> None:
        """Sets the limits, and writes names of columns below and of rows at the left."""
        ends = self.corner(self.rows - 1, self.columns - 1)
        self.ax.set(
            xlim=(-GAP / 2, ends[0] + self.wide + GAP / 2),
            ylim=(ends[1] + 1 + GAP / 2, -GAP / 2),
            aspect="equal",
        )
        at = [self.corner(0, c)[0] + self.wide / 2 for c in range(len(names))]
        self.ax.set_xticks(at, names)
        at = [self.corner(r, 0)[1] + 0.5 for r in range(len(row_names))]
        self.ax.set_yticks(at, row_names)
