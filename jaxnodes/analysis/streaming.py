"""`statistics`: what every node does, over any number of samples, in one pass."""

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnodes.analysis.labeled_batches import labeled_batches
from jaxnodes.analysis.model import Arrays, Model, real
from jaxnodes.analysis.samples import compiled, count_samples, prepare, tracked
from jaxnodes.analysis.tile_statistics import Limits, NodeStatistics, Sums, Tile, of_site
from jaxnodes.errors import JaxNodesError, check, check_count, check_number


def statistics(
    f: Callable,
    variables: Any,
    x: Any,
    y: Any = None,
    *,
    classes: int | None = None,
    nodes: Collection[str] | None = None,
    bins: int = 32,
    span: Limits | Mapping[str, Limits] | None = None,
    top_k: int = 5,
    limits: Limits | Mapping[str, Limits] | None = None,
    dormant_at: float = 0.025,
    batch_size: int = 256,
    auto: bool = False,
    progress: bool = False,
) -> dict[str, NodeStatistics]:
    """What every node does over the data, in one pass that holds one tile at a time.

    Args:
      f: a function of inference `f(variables, x)` that names nodes.
      variables: its first argument.
      x: arrays (N, ...), or a pytree of such; or any iterable of them, such as a
        generator or a data loader (a list is a pytree, not an iterable).
      y: integer classes (N,), for the class means. An iterable gives pairs `(x, y)`
        instead, if `classes` is given.
      classes: how many there are; by default one more than the largest in `y`.
      nodes: names of those to measure; `None` is all.
      bins: of the histograms.
      span: lowest and highest edge of the bins, for all sites or by name. By default
        the range of the first tile of samples; what lies outside is counted beside.
      top_k: how many samples to keep for each node (fewer if there are fewer).
      limits: the lowest and highest value that the activation can take, for all sites
        or by name: (0, 1) for a sigmoid, (-1, 1) for tanh. A value within a twentieth of
        the range from a limit is near it.
      dormant_at: tau, for `dormant`.
      batch_size: how many samples go through at once, at most.
      auto: whether to find nodes in a function that names none; see `record`.
      progress: whether to show how far it has come.

    Returns:
      `{name: NodeStatistics}`.

    Raises:
      JaxNodesError: no nodes, or wrong names; nodes of a value without an axis for the
        samples; labels that are no classes; batches that don't look alike.

    Example:

    >>> import jax.numpy as jnp, jaxnodes as jn
    >>> net = jn.Dense(2, "relu")
    >>> variables = {"w": jnp.array([[1.0, -1.0]]), "b": jnp.zeros(2)}, {}
    >>> found = jn.analysis.statistics(net.predict, variables, jnp.array([[1.0], [2.0], [3.0]]))
    >>> found["node"].mean, found["node"].dead
    (array([2., 0.]), array([False,  True]))
    """
    where = "statistics"
    check_count(bins, "bins", where)
    check_count(batch_size, "batch_size", where)
    check_count(top_k, "top_k", where, least=0)
    check_number(dormant_at, "dormant_at", where, least=0)
    batches, classes = labeled_batches(x, y, classes, where)
    stream = None
    for batch, labels in batches:
        if stream is None:
            first = jax.tree.map(lambda leaf: leaf[:batch_size], batch)
            options = {"nodes": nodes, "auto": auto, "batch_size": batch_size}
            model, arrays = prepare(f, variables, first, each=True, where=where, **options)
            stream = _Stream(model, arrays, classes, bins, span, top_k, limits, where)
        stream.add(batch, labels, progress)
    if stream is None:
        raise JaxNodesError("expected at least one batch, got none", where)
    return stream.result(dormant_at)


class _Options(NamedTuple):
    """What a tile's statistics depend on besides arrays; hashable."""

    bins: int
    classes: int
    top_k: int
    limits: tuple[Limits | None, ...]


def _measure(model: Model, options: _Options, arrays: Arrays, tile, fill, labels, edges):
    """A `Tile` for each site. `fill` (tile,) says which samples count."""
    _, records = model.run(arrays, tile, record=model.names)
    return {
        nodes.site.name: of_site(
            nodes,
            records[nodes.site.name],
            fill,
            labels,
            edges[nodes.site.name],
            classes=options.classes,
            top_k=options.top_k,
            limits=limits,
        )
        for nodes, limits in zip(model.nodes, options.limits, strict=True)
    }


class _Stream:
    """The statistics so far."""

    def __init__(self, model: Model, arrays: Arrays, classes, bins, span, top_k, limits, where):
        for nodes in model.nodes:
            check(
                not jnp.issubdtype(nodes.site.dtype, jnp.complexfloating),
                f"expected real nodes, got {nodes.site.name!r} of dtype {nodes.site.dtype}; "
                "name the others by nodes=",
                where,
            )
        by_name = {}
        for what, given in (("span", span), ("limits", limits)):
            if isinstance(given, Mapping):
                wrong = [name for name in given if name not in model.names]
                check(not wrong, f"expected {what} for {model.names}, got {wrong}", where)
            by_name[what] = {name: _limits(given, name, what, where) for name in model.names}
        self.model, self.arrays, self.where = model, arrays, where
        self.options = _Options(bins, classes, top_k, tuple(by_name["limits"].values()))
        self.shapes = [(leaf.shape[1:], leaf.dtype) for leaf in arrays.leaves]
        self.samples, self.seen = 0, np.zeros(classes, np.int64)
        self.edges = {
            name: None if ends is None else self._edges(name, *ends)
            for name, ends in by_name["span"].items()
        }
        self.sums = {name: Sums() for name in model.names}

    def add(self, x: Any, labels: np.ndarray | None, progress: bool) -> None:
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(x)]
        n, tile = count_samples(leaves, self.where), self.model.tile
        shapes = [(leaf.shape[1:], jax.dtypes.canonicalize_dtype(leaf.dtype)) for leaf in leaves]
        check(
            shapes == self.shapes,
            f"expected batches alike, of samples {self.shapes}, got {shapes}",
            self.where,
        )
        labels = np.zeros(n, np.int32) if labels is None else labels
        for start in tracked(range(0, n, tile), progress, "measuring"):
            places = np.arange(start, start + tile)
            rows, fill = np.minimum(places, n - 1), places < n
            here = np.where(fill, labels[rows], -1).astype(np.int32)
            self._add([leaf[rows] for leaf in leaves], fill, here)

    def _add(self, tile, fill, labels) -> None:
        found = self._measured(tile, fill, labels)
        if missing := [name for name, edges in self.edges.items() if edges is None]:
            for name in missing:
                self.edges[name] = self._edges(name, *_range(found[name]))
            found = self._measured(tile, fill, labels)
        count = int(fill.sum())
        for nodes in self.model.nodes:
            name = nodes.site.name
            of_tile = jax.tree.map(np.asarray, found[name])
            positions = math.prod(nodes.site.shape) // (self.model.tile * math.prod(nodes.shape))
            self.sums[name].add(of_tile, count, count * positions, self.samples, self.options.top_k)
        self.samples += count
        if self.options.classes:
            self.seen += np.bincount(labels[fill], minlength=self.options.classes)

    def _measured(self, tile, fill, labels) -> dict[str, Tile]:
        blank = np.zeros(self.options.bins + 1)
        edges = {name: blank if ends is None else ends for name, ends in self.edges.items()}
        measure = compiled(_measure, self.model, self.options)
        return measure(self.arrays._replace(leaves=()), tile, fill, labels, edges)

    def _edges(self, name: str, low: float, high: float) -> np.ndarray:
        """In the dtype in which values are compared with them."""
        dtype = jax.dtypes.canonicalize_dtype(real(self.model.program.sites[name].dtype))
        return np.linspace(low, high, self.options.bins + 1).astype(dtype)

    def result(self, dormant_at: float) -> dict[str, NodeStatistics]:
        return {
            name: sums.result(self.edges[name], self.seen, self.samples, dormant_at, limits)
            for (name, sums), limits in zip(self.sums.items(), self.options.limits, strict=True)
        }


def _range(of_tile: Tile) -> Limits:
    """From the lowest finite value to the highest, half a unit around a single one."""
    low, high = map(float, of_tile.span)
    if low < high:
        return low, high
    return (low - 0.5, low + 0.5) if low == high else (-0.5, 0.5)


def _limits(given: Any, name: str, what: str, where: str) -> Limits | None:
    ends = given.get(name) if isinstance(given, Mapping) else given
    if ends is None:
        return None
    low, high = (float(end) for end in ends)
    check(
        np.isfinite([low, high]).all() and low < high,
        f"expected {what} of {name!r} to be (low, high), two finite numbers, got {ends}",
        where,
    )
    return low, high
