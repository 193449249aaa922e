"""What nodes are worth: the most important ones, all of them by site, and their removal."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxnodes.analysis.groups import RemovalCurve
from jaxnodes.errors import JaxNodesError, check, check_count
from jaxnodes.plots.figures import BLUE, GRAY, ORANGE, colors_of, panels, shown_of
from jaxnodes.plots.inputs import by_name, finite, node_names, numbers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOST = "metric lost without the node"


def importance(
    drops: Mapping[str, Any],
    top: int = 20,
    *,
    unit: str = LOST,
    errors: Mapping[str, Any] | None = None,
) -> "Figure":
    """The most important nodes of all sites: a bar for each, the most important first.

    A node is called by its site and its number there, `dense1/17`; in a stack of layers by
    the layer's number before, `repeat1/dense1/2/17`. The title says how many there are.

    Args:
      drops: arrays by name, (size,), or (n, size) in a stack of n layers: what
        `analysis.ablate` or `analysis.attribute` returned, or the values of
        `analysis.shapley`. Of a metric of several values choose one first.
      top: how many nodes to show. Of equal ones the first comes first.
      unit: what to write at the axis, with its unit.
      errors: of the drops, by the same names and of the same shapes, drawn as error bars:
        the standard errors of `analysis.shapley`.

    Raises:
      JaxNodesError: no sites, or numbers that aren't finite.

    Example:

    >>> figure = importance({"dense1": [0.1, 0.3], "dense2": [0.2, 0.0]}, top=3)
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['dense1/1', 'dense2/0', 'dense1/0']
    """
    where = "plots.importance"
    check_count(top, "top", where)
    found = _drops(drops, where)
    worth = np.concatenate([array.ravel() for array in found.values()])
    names = [n for site, array in found.items() for n in node_names(site, array.shape)]
    of_site = np.repeat(np.arange(len(found)), [array.size for array in found.values()])
    spread = None if errors is None else _spread(errors, found, where)
    best = np.argsort(-worth, kind="stable")[:top]
    present = np.unique(of_site[best])
    figure, (ax,) = panels(1, size=(5.6, 0.22 * len(best) + 1.1 + 0.2 * (len(present) > 1)))
    for site, color in zip(present, colors_of(len(present)), strict=True):
        at = np.flatnonzero(of_site[best] == site)
        ax.barh(at, worth[best[at]], color=color, height=0.75, label=list(found)[site])
    if spread is not None:
        places = np.arange(len(best))
        ax.errorbar(worth[best], places, xerr=spread[best], fmt="none", ecolor="black", lw=1)
    ax.axvline(0, color=GRAY, lw=0.8)
    ax.set_yticks(range(len(best)), [names[i] for i in best])
    ax.tick_params(axis="y", length=0)
    ax.set(xlabel=unit, ylabel="node", ylim=(len(best) - 0.4, -0.6))
    most = "" if len(best) == len(worth) else "most important: "
    ax.set_title(most + shown_of(len(best), len(worth), "node"), fontsize=11)
    if len(present) > 1:
        figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def importance_by_site(drops: Mapping[str, Any], *, unit: str = LOST, columns: int = 3) -> "Figure":
    """What all nodes of each site are worth, the most important first, a panel for each site.

    All panels share the vertical axis. Nodes whose removal does good are orange.

    Args:
      drops: as for `importance`.
      unit: what to write at the vertical axis, with its unit.
      columns: how many panels there are in a row.

    Raises:
      JaxNodesError: no sites, or numbers that aren't finite.

    Example:

    >>> figure = importance_by_site({"dense1": [0.1, 0.3, -0.1], "dense2": [0.0, 0.2]})
    >>> [float(bar.get_height()) for bar in figure.axes[0].patches]
    [0.3, 0.1, -0.1]
    """
    from matplotlib.ticker import MaxNLocator

    where = "plots.importance_by_site"
    check_count(columns, "columns", where)
    found = _drops(drops, where)
    figure, axes = panels(len(found), columns=columns, size=(3.2, 2.7))
    for (site, array), ax in zip(found.items(), axes, strict=True):
        worth = -np.sort(-array.ravel())
        rank = np.arange(1, len(worth) + 1)
        width = 0.8 if len(worth) <= 40 else 1.0
        ax.bar(rank, worth, width=width, color=np.where(worth < 0, ORANGE, BLUE))
        ax.axhline(0, color=GRAY, lw=0.8)
        none = int((worth == 0).sum())
        said = f"{shown_of(len(worth), len(worth), 'node')}, {none} without effect"
        ax.set_title(f"{site}\n{said}", fontsize=10)
        ax.set(xlabel="node, by rank", xlim=(0.4, len(worth) + 0.6))
        ax.set_ylabel(unit.replace(" (", "\n(", 1))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    limits = np.array([ax.get_ylim() for ax in axes])
    for ax in axes:
        ax.set_ylim(limits[:, 0].min(), limits[:, 1].max())
    return figure


def removal_curves(curves: Mapping[str, RemovalCurve], *, unit: str = "metric") -> "Figure":
    """The metric as nodes are removed one after another, a line for each order.

    Args:
      curves: by what to call them, results of `analysis.removal_curve`:
        `{"worst first": ..., "best first": ...}`.
      unit: what to write at the vertical axis, with its unit.

    Raises:
      JaxNodesError: no curves, or of a metric of several values.

    Example:

    >>> import numpy as np
    >>> from jaxnodes.analysis import RemovalCurve
    >>> nodes = (("dense1", 0), ("dense1", 1))
    >>> curve = RemovalCurve(np.array([0, 1, 2]), np.array([0.9, 0.8, 0.1]), nodes)
    >>> [line.get_label() for line in removal_curves({"worst first": curve}).axes[0].get_lines()]
    ['worst first', 'all nodes']
    """
    from matplotlib.ticker import MaxNLocator

    where = "plots.removal_curves"
    found = by_name(curves, "results of analysis.removal_curve", where)
    for name, curve in found.items():
        check(
            isinstance(curve, RemovalCurve),
            f"expected {name!r} to be what analysis.removal_curve returned, got "
            f"{type(curve).__name__}",
            where,
        )
        check(
            np.shape(curve.metric) == np.shape(curve.removed),
            f"expected {name!r} to be of a metric of one value, got {np.shape(curve.metric)}; "
            "curve._replace(metric=curve.metric[:, i]) is of one",
            where,
        )
    figure, (ax,) = panels(1, size=(5.2, 3.6))
    styles = ("-", "--", "-.", ":")
    for i, ((name, curve), color) in enumerate(
        zip(found.items(), colors_of(len(found)), strict=True)
    ):
        removed, metric = np.asarray(curve.removed), np.asarray(curve.metric, float)
        marker = "o" if len(removed) <= 50 else None
        style = styles[i % len(styles)]
        ax.plot(removed, metric, style, color=color, label=name, marker=marker, ms=3)
    whole = {float(np.asarray(curve.metric)[0]) for curve in found.values()}
    if len(whole) == 1:
        ax.axhline(whole.pop(), color=GRAY, lw=1, ls=":", label="all nodes")
    totals = sorted({len(curve.nodes) for curve in found.values()})
    of = f" (of {totals[0]})" if len(totals) == 1 else ""
    ax.set(xlabel=f"nodes removed{of}", ylabel=unit)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(frameon=False)
    return figure


def _drops(drops: Any, where: str) -> dict[str, np.ndarray]:
    """Arrays by name, all finite."""
    found = {}
    for name, array in by_name(drops, "what analysis.ablate returned, arrays", where).items():
        expected = f"{name!r} to be (size,), or (layers, size)"
        found[name] = finite(numbers(array, expected, (1, 2, 3), where), f"{name!r}", where)
    return found


def _spread(errors: Any, drops: dict[str, np.ndarray], where: str) -> np.ndarray:
    """The errors of all nodes, in the order of the drops."""
    parts = []
    given = by_name(errors, "errors, arrays", where)
    for name, array in drops.items():
        if name not in given:
            raise JaxNodesError(f"expected errors for {name!r}, got none", where)
        part = np.asarray(given[name], float)
        check(
            part.shape == array.shape and np.isfinite(part).all() and (part >= 0).all(),
            f"expected errors {array.shape} for {name!r}, finite and not negative, got others "
            f"{part.shape}",
            where,
        )
        parts.append(part.ravel())
    return np.concatenate(parts)
