"""How training went: curves, and what was taken for what."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxnodes.errors import check
from jaxnodes.plots.figures import BLUE, GRAY, ORANGE, panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: What the measures of a history are in; others go by their names.
UNITS = {
    "loss": "loss",
    "accuracy": "accuracy (share of samples)",
    "binary_accuracy": "accuracy (share of samples)",
    "r2": "R² (share of variance)",
    "mae": "mean absolute error",
}


def curves(
    history: Mapping[str, Any],
    *,
    labels: Mapping[str, str] | None = None,
    best_epoch: int | None = None,
) -> "Figure":
    """Training curves: each measure by epoch, on training and on validation samples.

    Args:
      history: `TrainResult.history`: arrays (epochs,), those of validation as `val_...`.
      labels: what to write at the axis of a measure, with its unit; by default its name.
      best_epoch: an epoch, counted from 0, to mark as the one that was kept.

    Raises:
      JaxNodesError: no measures, or measures of different lengths.

    Example:

    >>> figure = curves({"loss": [1.0, 0.5], "val_loss": [1.1, 0.7]})
    >>> [ax.get_ylabel() for ax in figure.axes]
    ['loss']
    """
    from matplotlib.ticker import MaxNLocator

    measured = {name: np.asarray(values, float) for name, values in history.items()}
    shapes = {values.shape for values in measured.values()}
    check(
        len(shapes) == 1 and len(shape := shapes.pop()) == 1 and shape[0] > 0,
        f"expected a history of arrays of one length (epochs,), got "
        f"{ {name: values.shape for name, values in measured.items()} }",
        "plots.curves",
    )
    names = list(dict.fromkeys(name.removeprefix("val_") for name in measured))
    figure, axes = panels(len(names), columns=3, size=(4.2, 3.2))
    for name, ax in zip(names, axes, strict=True):
        for key, label, color, style in (
            (name, "training", BLUE, "-"),
            (f"val_{name}", "validation", ORANGE, "--"),
        ):
            if key in measured:
                values = measured[key]
                epochs = np.arange(1, len(values) + 1)
                marker = "o" if len(values) <= 20 else None
                ax.plot(epochs, values, style, color=color, label=label, marker=marker, ms=3.5)
        if best_epoch is not None:
            ax.axvline(best_epoch + 1, color=GRAY, lw=1, ls=":", label="kept")
        label = {**UNITS, **(labels or {})}.get(name, name)
        ax.set(xlabel="epoch", ylabel=textwrap.fill(label, 34))
        ax.set_xlim(0.5, shape[0] + 0.5)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        ax.legend(frameon=False)
    return figure


def confusion(matrix: Any, class_names: Sequence[str] = ()) -> "Figure":
    """What was taken for what: counts, a row for each true class, a column for each predicted.

    Args:
      matrix: (C, C), as `jn.confusion_matrix` returns it. A cell's shade is its share of
        the row.
      class_names: C of them; by default the numbers from 0 on.

    Raises:
      JaxNodesError: a matrix that isn't square, numbers below zero or not finite, or another
        number of names.

    Example:

    >>> confusion([[50, 2], [1, 47]], ["benign", "malignant"]).axes[0].get_ylabel()
    'true class'
    """
    counts = np.asarray(matrix, float)
    check(
        counts.ndim == 2 and counts.shape[0] == counts.shape[1] > 0,
        f"expected a square matrix (C, C), got {counts.shape}",
        "plots.confusion",
    )
    check(
        np.isfinite(counts).all() and (counts >= 0).all(),
        "expected counts, finite and not negative, got others",
        "plots.confusion",
    )
    classes = len(counts)
    names = [str(name) for name in class_names] or [str(c) for c in range(classes)]
    check(len(names) == classes, f"expected {classes} names, got {len(names)}", "plots.confusion")
    sums = counts.sum(axis=1, keepdims=True)
    shares = counts / np.where(sums > 0, sums, 1)
    every = math.ceil(classes / 40)  # of many classes only some can have their names shown
    shown = range(0, classes, every)
    longest = max(map(len, names))
    side = min(max(2.4, 0.5 * classes), 12)
    size = (side + 0.08 * longest + 2.2, side + 0.05 * longest + 0.9)
    figure, (ax,) = panels(1, size=size, layout="compressed")
    image = ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    slant = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if longest > 3 else {}
    ax.set_xticks(shown, names[::every], **(slant if classes > 2 or longest > 12 else {}))
    ax.set_yticks(shown, names[::every])
    ax.tick_params(which="both", length=0 if every == 1 else 2)
    ax.set(xlabel="predicted class", ylabel="true class")
    if total := counts.sum():
        right = np.trace(counts)
        ax.set_title(f"{right:.8g} of {total:.8g} right ({right / total:.1%})", fontsize=11)
    if classes <= 25:
        for (row, column), count in np.ndenumerate(counts):
            color = "white" if shares[row, column] > 0.5 else ("black" if count else "#B0B0B0")
            ax.text(column, row, f"{count:.8g}", ha="center", va="center", color=color, fontsize=9)
        ax.hlines(np.arange(1, classes) - 0.5, -0.5, classes - 0.5, color="white", lw=1)
        ax.vlines(np.arange(1, classes) - 0.5, -0.5, classes - 0.5, color="white", lw=1)
    figure.colorbar(image, ax=ax, label="share of the true class", fraction=0.05, pad=0.03)
    return figure
