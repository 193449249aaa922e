"""Where attention looks."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxnodes.errors import check, check_count
from jaxnodes.plots.figures import color_scale, name_ticks, panels, shown_of
from jaxnodes.plots.inputs import finite, numbers

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def attention_maps(
    weights: Any,
    tokens: Sequence[str] | None = None,
    *,
    memory_tokens: Sequence[str] | None = None,
    columns: int = 4,
    most_heads: int = 16,
) -> "Figure":
    """How much each step attends to each step, a panel for each head, all on one scale.

    Args:
      weights: (heads, T, S), of one sample, as `jn.attention_weights` returns them. A row is
        a step that looks, a column one that is looked at.
      tokens: what to call the T steps; by default by number. The S as well, if they are
        the same ones.
      memory_tokens: what to call the S steps, where attention is to a memory.
      columns: how many panels there are in a row.
      most_heads: how many heads to show, the first ones. The title says if there are more.

    Raises:
      JaxNodesError: rows that don't sum to one (or to zero, where a step may look nowhere),
        or another number of tokens.

    Example:

    >>> figure = attention_maps([[[1.0, 0.0], [0.25, 0.75]]], tokens=["not", "bad"])
    >>> [label.get_text() for label in figure.axes[0].get_xticklabels()]
    ['not', 'bad']
    """
    where = "plots.attention_maps"
    check_count(columns, "columns", where)
    check_count(most_heads, "most_heads", where)
    expected = "weights (heads, T, S) of one sample; of a batch choose one, weights[i]"
    found = finite(numbers(weights, expected, (3,), where), "weights", where)
    sums = found.sum(axis=-1)
    odd = ~(np.isclose(sums, 1, atol=1e-2) | (sums == 0))
    check(
        found.min() >= 0 and not odd.any(),
        "expected rows of weights that sum to one, or are zero, got others; pass what "
        "jn.attention_weights returns",
        where,
    )
    heads, rows, cols = found.shape
    if memory_tokens is None and rows == cols:
        memory_tokens = tokens
    names = [
        _names(tokens, rows, "tokens", where),
        _names(memory_tokens, cols, "memory_tokens", where),
    ]
    shown = found[:most_heads]
    side = [float(np.clip(0.22 * size, 1.9, 4.2)) for size in (rows, cols)]
    figure, axes = panels(
        len(shown), columns=columns, size=(side[1] + 1.0, side[0] + 0.85), layout="compressed"
    )
    scale = color_scale(shown)
    for head, ax in enumerate(axes):
        image = ax.imshow(shown[head], interpolation="nearest", **scale)
        ax.set_title(f"head {head}", fontsize=10)
        ax.set(xlabel="step attended to", ylabel="step")
        name_ticks(ax, "y", names[0], range(rows), most=25 if tokens else 12)
        name_ticks(ax, "x", names[1], range(cols), most=25 if memory_tokens else 12)
        ax.spines[["top", "right"]].set_visible(True)
    figure.colorbar(image, ax=axes, label="attention weight", fraction=0.05, pad=0.02)
    if len(shown) < heads:
        figure.suptitle(shown_of(len(shown), heads, "head"), fontsize=11)
    return figure


def _names(tokens: Sequence[str] | None, count: int, what: str, where: str) -> list[str]:
    """A name for each step."""
    if tokens is None:
        return [str(i) for i in range(count)]
    names = [str(token) for token in tokens]
    check(len(names) == count, f"expected {count} {what}, got {len(names)}", where)
    return names
