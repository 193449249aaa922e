"""What nodes do, sample by sample: heat maps of their values."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxnodes.errors import check, check_count
from jaxnodes.interpreter.sites import Site
from jaxnodes.plots.figures import color_scale, name_ticks, panels, shown_of
from jaxnodes.plots.inputs import by_name, class_numbers, numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def activations(
    nodes: Mapping[str, Any],
    labels: Any = None,
    class_names: Sequence[str] = (),
    *,
    sites: Iterable[Site] = (),
    columns: int = 2,
    most_nodes: int = 64,
    most_samples: int = 400,
) -> "Figure":
    """Activation patterns: for each site a heat map, a row for each node, a column for each sample.

    With labels the samples are grouped by class, in the order given within each. Zero is
    white; each panel has its own scale. A panel's title says how many nodes and samples
    there are if not all of them are shown, over which axes a mean was taken, and how many
    values aren't finite (gray).

    Args:
      nodes: what `jn.record` returned, arrays by name: (N, size), or (N, ..., size), of
        which the mean over the axes between is drawn: (N, H, W, C) of a convolution, (N, T, H)
        of a layer over time.
      labels: integer classes (N,).
      class_names: one for each class; by default the numbers from 0 on.
      sites: what `jn.node_sites` returned, if samples and nodes aren't the first and the
        last axis: of nodes in a scan, (*steps, N, ..., size), and of the heads of attention,
        (N, T, heads, features). The mean is over steps too; a stack of layers is drawn one by one
        if its slices are passed as sites of their own.
      columns: how many panels there are in a row.
      most_nodes: how many nodes of a site to show: the first ones.
      most_samples: how many samples to show, evenly spaced.

    Raises:
      JaxNodesError: no sites, shapes that aren't as above, other numbers of samples in some,
        labels that are no classes.

    Example:

    >>> figure = activations({"dense1": [[0.0, 2.0], [1.0, 0.0], [0.0, 4.0]]}, labels=[1, 0, 1])
    >>> figure.axes[0].get_images()[0].get_array().tolist()  # class 0 first
    [[1.0, 0.0, 0.0], [0.0, 2.0, 4.0]]
    """
    where = "plots.activations"
    check_count(columns, "columns", where)
    check_count(most_nodes, "most_nodes", where)
    check_count(most_samples, "most_samples", where)
    known = {site.name: site for site in sites}
    values = {
        name: _nodes_by_samples(name, array, known.get(name), where)
        for name, array in by_name(nodes, "what jn.record returned, arrays", where).items()
    }
    counts = {name: found.shape[1] for name, (found, _) in values.items()}
    check(
        len(set(counts.values())) == 1,
        f"expected as many samples at every site, got {counts}; of nodes in a scan the steps come "
        "first: pass sites=jn.node_sites(...)",
        where,
    )
    samples = next(iter(counts.values()))
    order = np.arange(samples)
    classes, names = None, []
    if labels is not None:
        classes, names = class_numbers(labels, samples, class_names, where)
        order = np.argsort(classes, kind="stable")
    else:
        check(not class_names, "expected labels for these class names, got none", where)
    order = order[evenly(samples, most_samples)]
    figure, axes = panels(len(values), columns=columns, size=(4.6, 3.3))
    for (name, (found, said)), ax in zip(values.items(), axes, strict=True):
        shown = found[:most_nodes, order]
        style = {"aspect": "auto", "interpolation": "nearest", **color_scale(shown)}
        width = samples if classes is None else len(order)
        image = ax.imshow(shown, extent=(-0.5, width - 0.5, len(shown) - 0.5, -0.5), **style)
        figure.colorbar(image, ax=ax, label="activation", pad=0.02)
        notes = [said] if said else []
        if shown.shape != found.shape:
            nodes_shown = shown_of(len(shown), len(found), "node")
            notes.append(f"{nodes_shown}, {shown_of(len(order), samples, 'sample')}")
        if wrong := int((~np.isfinite(shown)).sum()):
            notes.append(f"{wrong} values not finite (gray)")
        ax.set_title("\n".join([name, *notes]), fontsize=10)
        ax.set_ylabel("node")
        ax.spines[["top", "right"]].set_visible(True)
        name_ticks(ax, "y", range(len(shown)), range(len(shown)), most=16)
        if classes is None:
            ax.set_xlabel("sample")
        else:
            _group(ax, classes[order], names)
    return figure


def evenly(count: int, most: int) -> np.ndarray:
    """Numbers from 0 to count - 1, evenly spaced, at most so many.

    >>> evenly(3, 5), evenly(9, 3)
    (array([0, 1, 2]), array([0, 4, 8]))
    """
    return np.linspace(0, count - 1, min(count, most)).round().astype(int)


def _nodes_by_samples(
    name: str, array: Any, site: Site | None, where: str
) -> tuple[np.ndarray, str]:
    """Values (nodes, samples), and over what their mean was taken."""
    array = numbers(array, f"{name!r} to be (samples, ..., nodes)", range(1, 20), where)
    if site is None:
        check(
            array.ndim >= 2,
            f"expected {name!r} to be (samples, ..., nodes), got {array.shape}; a single sample "
            "needs an axis in front",
            where,
        )
        of_sample, of_node = 0, array.ndim - 1
    else:
        check(
            array.shape == site.shape,
            f"expected {name!r} to be {site.shape}, as its site says, got {array.shape}",
            where,
        )
        of_sample, of_node = len(site.steps), site.axis
        if of_node is None:
            array, of_node = array[..., None], array.ndim
        check(
            of_sample < of_node,
            f"expected samples before nodes at {name!r}, got {array.shape} with nodes along axis "
            f"{of_node}; a single sample needs an axis in front",
            where,
        )
    between = tuple(i for i in range(array.ndim) if i not in (of_sample, of_node))
    means = array.mean(axis=between).T
    averaged = " x ".join(str(array.shape[i]) for i in between)
    return means, f"mean over {averaged} values" if between else ""


def _group(ax: "Axes", classes: np.ndarray, names: Sequence[str]) -> None:
    """Lines between the classes of sorted samples, and their names below."""
    present, starts = np.unique(classes, return_index=True)
    ends = np.append(starts[1:], len(classes))
    for color, width in (("white", 1.2), ("black", 0.5)):  # to be seen on any color
        ax.vlines(starts[1:] - 0.5, -0.5, ax.get_ylim()[0], color=color, lw=width)
    name_ticks(ax, "x", [names[c] for c in present], (starts + ends - 1) / 2)
    ax.tick_params(axis="x", length=0)
    ax.set_xticks(starts[1:] - 0.5, minor=True)
    ax.tick_params(axis="x", which="minor", length=6)
    ax.set_xlabel("sample, by class")
