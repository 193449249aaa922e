"""What nodes do over all samples: how their values spread, and how often they are on."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from jaxnodes.analysis.tile_statistics import NodeStatistics
from jaxnodes.errors import check, check_count
from jaxnodes.plots.figures import BLUE, GRAY, ORANGE, PURPLE, name_ticks, panels, shown_of
from jaxnodes.plots.inputs import by_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: What can be wrong with a node, the gravest first, and how it is marked.
MARKS = {"dead": ("x", "black"), "saturated": ("^", ORANGE), "dormant": ("v", PURPLE)}


def statistics(stats: Mapping[str, NodeStatistics], *, most_nodes: int = 64) -> "Figure":
    """What every node does: for each site the spread of its values, and how often it is on.

    On the left a column for each node: the shade is the share of its values in each bin
    of the histogram, the line its mean, the bar one standard deviation to each side. On the
    right the share of its values above zero; nodes that are dead, saturated or dormant
    are marked below, by the first of these that is so. The titles count them, and say how
    many nodes there are if not all are shown and how much lies outside of the bins. Which
    nodes are saturated is known only of sites whose `limits` were given.

    Args:
      stats: what `analysis.statistics` returned. The nodes of a stack of layers come one
        layer after another.
      most_nodes: how many nodes of a site to show, the first ones.

    Raises:
      JaxNodesError: anything else.

    Example:

    >>> import jax.numpy as jnp, jaxnodes as jn
    >>> net = jn.Dense(2, "relu")
    >>> variables = {"w": jnp.array([[1.0, -1.0]]), "b": jnp.zeros(2)}, {}
    >>> x = jnp.array([[1.0], [2.0], [-3.0]])
    >>> figure = statistics(jn.analysis.statistics(net.predict, variables, x))
    >>> [round(float(bar.get_height()), 2) for bar in figure.axes[1].patches]
    [0.67, 0.33]
    """
    where = "plots.statistics"
    check_count(most_nodes, "most_nodes", where)
    found = by_name(stats, "what analysis.statistics returned", where)
    for name, of_site in found.items():
        check(
            isinstance(of_site, NodeStatistics),
            f"expected {name!r} to be what analysis.statistics returned, got "
            f"{type(of_site).__name__}",
            where,
        )
    figure, axes = panels(2 * len(found), columns=2, size=(4.6, 2.7))
    for i, (name, of_site) in enumerate(found.items()):
        left, right = axes[2 * i : 2 * i + 2]
        _draw_spread(left, name, of_site, most_nodes)
        _draw_active(right, of_site, most_nodes)
    handles = {
        label: handle
        for ax in axes
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(), handles, loc="outside lower center", ncols=len(handles), frameon=False
    )
    return figure


def _draw_spread(ax: "Axes", name: str, stats: NodeStatistics, most: int) -> None:
    from matplotlib.colors import PowerNorm

    bins = stats.histogram.shape[-1]
    counts = stats.histogram.reshape(-1, bins).astype(float)
    outside = stats.below.ravel() + stats.above.ravel()
    values = counts.sum(axis=1) + outside
    shown = slice(None, most)
    shares = counts[shown] / np.maximum(values[shown, None], 1)
    n = len(shares)
    low, high = float(stats.edges[0]), float(stats.edges[-1])
    image = ax.imshow(
        shares.T,
        extent=(-0.5, n - 0.5, low, high),
        origin="lower",
        aspect="auto",
        interpolation="nearest",
        cmap="Blues",
        norm=PowerNorm(0.4, vmin=0, vmax=1),  # or zeros, of which there are many, hide the others
    )
    means, deviations = stats.mean.ravel()[shown], np.sqrt(stats.variance.ravel()[shown])
    style = {"fmt": "_", "color": "black", "ms": 5, "lw": 0.8, "mew": 1.4}
    ax.errorbar(range(n), means, yerr=deviations, label="mean ± standard deviation", **style)
    ax.set(xlim=(-0.5, n - 0.5), ylim=(low, high), xlabel="node", ylabel="value")
    name_ticks(ax, "x", range(n), range(n), most=16)
    ticks = [0, 0.01, 0.1, 0.5, 1]
    bar = ax.figure.colorbar(image, ax=ax, label="share in each bin", pad=0.02, ticks=ticks)
    bar.ax.set_yticklabels([f"{tick:g}" for tick in ticks])
    said = [f"{name}: {shown_of(n, len(counts), 'node')}"]
    if share := outside.sum() / max(values.sum(), 1):
        said.append(f"{100 * share:.2g}% of the values lie outside")
    ax.set_title("\n".join(said), fontsize=10)


def _draw_active(ax: "Axes", stats: NodeStatistics, most: int) -> None:
    active = stats.active.ravel()[:most]
    n = len(active)
    ax.bar(range(n), active, width=0.8, color=BLUE)
    marked = np.zeros(stats.active.size, bool)
    said = []
    for kind, (marker, color) in MARKS.items():
        which = getattr(stats, kind).ravel() & ~marked
        marked |= which
        if which.any():
            at = np.flatnonzero(which[:most])
            ax.plot(at, np.full(len(at), -0.06), marker, color=color, ms=5, label=kind)
            said.append(f"{int(which.sum())} {kind}")
    ax.axhline(0, color=GRAY, lw=0.8)
    ax.set(xlim=(-0.7, n - 0.3), ylim=(-0.12, 1.02), xlabel="node", ylabel="active (share > 0)")
    ax.set_yticks([0, 0.25, 0.5, 0.75, 1])
    name_ticks(ax, "x", range(n), range(n), most=16)
    judged = [kind for kind in MARKS if kind != "saturated" or np.isfinite(stats.near_limit).all()]
    ax.set_title(", ".join(said) or f"none {', '.join(judged[:-1])} or {judged[-1]}", fontsize=10)
