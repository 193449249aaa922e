"""Figures. Each function draws one and returns it; `save` writes it to a file.

They are matplotlib `Figure`s made without pyplot, so that nothing is global, no
window opens, and no display is needed.

    figure = jn.plots.curves(result.history)
    jn.plots.save(figure, "curves.png")
"""

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxnodes.activations import activation as resolve_activation
from jaxnodes.activations import glu, log_softmax, softmax
from jaxnodes.errors import JaxNodesError, check

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Colors that differ for color-blind readers and in print (Okabe and Ito 2008).
BLUE, ORANGE, GREEN, PURPLE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9"
GRAY = "#767676"

#: What the measures of a history are in; others go by their names.
UNITS = {
    "loss": "loss",
    "accuracy": "accuracy (share of samples)",
    "binary_accuracy": "accuracy (share of samples)",
    "r2": "R² (share of variance)",
    "mae": "mean absolute error",
}

#: The activations of the guides, in their order.
COMMON_ACTIVATIONS = ("relu", "sigmoid", "tanh", "leaky_relu", "elu", "swish", "softmax")


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
        "curves",
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
        "confusion",
    )
    check(
        np.isfinite(counts).all() and (counts >= 0).all(),
        "expected counts, finite and not negative, got others",
        "confusion",
    )
    classes = len(counts)
    names = [str(name) for name in class_names] or [str(c) for c in range(classes)]
    check(len(names) == classes, f"expected {classes} names, got {len(names)}", "confusion")
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


def activation_functions(names: Iterable[str] = COMMON_ACTIVATIONS) -> "Figure":
    """Activation functions side by side, each with its slope, from -5 to 5.

    Args:
      names: of activations. Softmax is that of the pair (x, 0), the first of the two.

    Raises:
      JaxNodesError: a name that none is registered by.

    Example:

    >>> [ax.get_title() for ax in activation_functions(["relu", "softmax"]).axes]
    ['relu', 'softmax of (x, 0)']
    """
    names = tuple(names)
    check(names, "expected at least one name, got none", "activation_functions")
    x = np.linspace(-5, 5, 501, dtype=np.float32)
    figure, axes = panels(len(names), columns=4, size=(2.8, 2.4))
    for name, ax in zip(names, axes, strict=True):
        f = resolve_activation(name)
        over_an_axis = f in (softmax, log_softmax, glu)
        if over_an_axis:
            f = _first_of_two(f)
        slopes = jax.vmap(jax.grad(lambda x, f=f: f(x).astype(jnp.float32)))(x)
        reference_lines(ax)
        ax.plot(x, f(jnp.asarray(x)), color=BLUE, lw=2, label="value")
        ax.plot(x, slopes, color=ORANGE, lw=1.2, ls="--", label="slope")
        ax.set_title(f"{name} of (x, 0)" if over_an_axis else name, fontsize=11)
        ax.set(xlabel="x", xlim=(-5, 5))
    axes[0].legend(frameon=False, loc="upper left")
    return figure


def bias_effect(
    biases: Sequence[float] = (-2.0, -1.0, 0.0, 1.0, 2.0),
    *,
    weight: float = 2.0,
    activation: Any = "relu",
) -> "Figure":
    """What a bias does: it shifts where a node turns on. `activation(weight * x + b)` for some b.

    Args:
      biases: a line for each.
      weight: of the node's one input.
      activation: by function or by name.

    Example:

    >>> figure = bias_effect([-1.0, 1.0])
    >>> [line.get_label() for line in figure.axes[0].get_lines()[-2:]]
    ['b = -1', 'b = 1']
    """
    import matplotlib

    function = resolve_activation(activation)
    name = activation if isinstance(activation, str) else getattr(function, "__name__", "f")
    x = np.linspace(-3, 3, 301, dtype=np.float32)
    figure, (ax,) = panels(1, size=(5.4, 3.8))
    reference_lines(ax)
    shades = matplotlib.colormaps["viridis"](np.linspace(0, 0.85, len(biases)))
    for bias, color in zip(biases, shades, strict=True):
        y = function(jnp.float32(weight) * x + jnp.float32(bias))
        ax.plot(x, y, color=color, lw=2, label=f"b = {bias:g}")
    ax.set(xlabel="input x", ylabel=f"output {name}({weight:g}x + b)", xlim=(-3, 3))
    ax.legend(frameon=False)
    return figure


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
    """A figure of so many panels, in rows, each of this size in inches."""
    from matplotlib.figure import Figure

    columns = min(columns, count)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(columns * size[0], rows * size[1]), layout=layout)
    axes = [figure.add_subplot(rows, columns, i + 1) for i in range(count)]
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
    return figure, axes


def reference_lines(ax: "Axes") -> None:
    """Thin lines through the origin."""
    ax.axhline(0, color="#D0D0D0", lw=0.8)
    ax.axvline(0, color="#D0D0D0", lw=0.8)


def _first_of_two(function: Any) -> Any:
    """A function along an axis, of the pair (x, 0), and of its result the first entry."""
    return lambda x: function(jnp.stack([x, jnp.zeros_like(x)], axis=-1))[..., 0]
