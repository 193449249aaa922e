"""What a node answers to most."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxnodes.analysis.tile_statistics import NodeStatistics
from jaxnodes.errors import check, check_count
from jaxnodes.plots.figures import shown_of
from jaxnodes.plots.inputs import class_numbers, pixels
from jaxnodes.plots.tiles import Tiles

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def top_samples(
    stats: NodeStatistics,
    images: Any,
    labels: Any = None,
    class_names: Sequence[str] = (),
    *,
    nodes: Iterable[int | tuple[int, ...]] | None = None,
    most_nodes: int = 8,
    title: str = "",
) -> "Figure":
    """The images that nodes answer to most: a row for each node, the largest value first.

    Above each image is the node's value and, with labels, the sample's class.

    Args:
      stats: of one site, from what `analysis.statistics` returned.
      images: all samples that it saw, in their order: (N, H, W), (N, H, W, 1), (N, H, W, 3)
        with colors between 0 and 1, or rows (N, D) of square gray images.
      labels: integer classes (N,).
      class_names: one for each class; by default the numbers from 0 on.
      nodes: which nodes to show, by number, or by (layer, number) in a stack of layers.
      most_nodes: without `nodes`, how many to show, the first ones.
      title: what to write above, before how many nodes there are.

    Raises:
      JaxNodesError: other samples than the statistics saw, nodes that aren't there, or
        statistics that kept no samples (`top_k=0`).

    Example:

    >>> import jax.numpy as jnp, jaxnodes as jn
    >>> images = jnp.arange(12.0).reshape(3, 2, 2)
    >>> def f(w, x):
    ...     return jn.node(x.reshape(-1, 4) @ w, "h")
    >>> stats = jn.analysis.statistics(f, jnp.ones((4, 1)), images, top_k=2)
    >>> figure = top_samples(stats["h"], images)
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['38.0', '22.0']
    """
    where = "plots.top_samples"
    check_count(most_nodes, "most_nodes", where)
    check(
        isinstance(stats, NodeStatistics),
        f"expected the statistics of one site, got {type(stats).__name__}; "
        "analysis.statistics(...)['dense1'] is that of one",
        where,
    )
    found = pixels(images, where)
    check(
        len(found) == stats.samples,
        f"expected the {stats.samples} samples that the statistics saw, got {len(found)}",
        where,
    )
    kept = stats.top_samples.shape[-1]
    check(kept > 0, "expected statistics that kept samples, got top_k=0", where)
    classes, names = None, []
    if labels is not None:
        classes, names = class_numbers(labels, len(found), class_names, where)
    shape = stats.top_samples.shape[:-1]
    places = list(np.ndindex(*shape))
    chosen = places[:most_nodes] if nodes is None else _places(nodes, shape, where)
    tiles = Tiles(len(chosen), kept, found.shape[1:3], above=0.24, side=0.85)
    samples = np.concatenate([stats.top_samples[place] for place in chosen])
    gray = {} if found.ndim == 4 else {"cmap": "gray", "vmin": _low(found[samples])}
    if gray:
        gray["vmax"] = max(float(found[samples].max()), gray["vmin"] + 1e-12)
    for row, place in enumerate(chosen):
        for column, sample in enumerate(stats.top_samples[place]):
            tiles.draw(row, column, found[sample], **gray)
            said = f"{float(stats.top_values[place][column]):#.3g}"
            said += "" if classes is None else f" ({names[classes[sample]]})"
            tiles.write(row, column, said)
    tiles.finish([str(i + 1) for i in range(kept)], ["/".join(map(str, p)) for p in chosen])
    what = "value (class)" if names else "value"
    tiles.ax.set(xlabel=f"samples, the largest first; above: {what}", ylabel="node")
    said = shown_of(len(chosen), len(places), "node")
    tiles.ax.set_title(f"{title}: {said}" if title else said, fontsize=11)
    return tiles.figure


def _low(values: np.ndarray) -> float:
    """Black: zero, unless pixels go below."""
    return min(0.0, float(values.min()))


def _places(
    nodes: Iterable[int | tuple[int, ...]], shape: tuple[int, ...], where: str
) -> list[tuple[int, ...]]:
    """Nodes as tuples of indices."""
    places = []
    for node in nodes:
        place = tuple(node) if isinstance(node, (tuple, list)) else (node,)
        fine = len(place) == len(shape) and all(
            isinstance(i, (int, np.integer)) and 0 <= i < n
            for i, n in zip(place, shape, strict=True)
        )
        check(fine, f"expected nodes of a site of shape {shape}, got {node!r}", where)
        places.append(tuple(int(i) for i in place))
    check(places, "expected at least one node, got none", where)
    return places
