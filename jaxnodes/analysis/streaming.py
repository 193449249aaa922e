"""`statistics`: what every node does, over any number of samples, in one pass.

A tile of samples becomes a `_Tile` on the device, by two passes over what is there
already; tiles are put together on the host in float64, as in Chan, Golub and LeVeque
(1979). So neither memory nor rounding grows with the number of samples.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnodes.analysis.samples import (
    Arrays,
    Model,
    Nodes,
    compiled,
    count_samples,
    prepare,
    real,
    tracked,
)
from jaxnodes.errors import check, check_count, check_number

Limits = tuple[float, float]


class NodeStatistics(NamedTuple):
    """What the nodes of one site do: NumPy arrays, of shape (size,), or (n, size) for a
    stack of n layers, before any axis of their own. Values at all positions of a sample
    (space, time steps) count alike.

    Attributes:
      mean, variance: of the value; the variance is that of the population.
      minimum, maximum: of the value.
      magnitude: mean of |value|.
      active: share of values above zero.
      histogram: (..., bins), how many values are in each bin. A bin holds its left edge,
        the last one its right edge too.
      below, above: how many values are outside of the bins; NaN is nowhere.
      edges: (bins + 1,), one for all nodes of the site.
      class_means: (..., classes), mean over the samples of each class; NaN for a class
        without samples.
      selectivity: `(m - r) / (|m| + |r|)`, m the largest class mean and r the mean of
        the others: from 0 to 1 (Morcos et al. 2018, arXiv:1803.06959, there for values
        that aren't negative, where |m| is m). NaN with fewer than two classes.
      top_values, top_samples: (..., k), the largest values and the samples they are of,
        by number in the order they came; a sample counts once, by its largest value.
      near_limit: share of values at the limits of the activation; NaN if none are given.
      dead: the value is zero for every sample.
      dormant: `magnitude` is at most `dormant_at` times the mean over the layer's nodes
        (Sokar et al. 2023, arXiv:2302.12902).
      saturated: nine values in ten are near a limit.
      samples: how many there were.
    """

    mean: np.ndarray
    variance: np.ndarray
    minimum: np.ndarray
    maximum: np.ndarray
    magnitude: np.ndarray
    active: np.ndarray
    histogram: np.ndarray
    below: np.ndarray
    above: np.ndarray
    edges: np.ndarray
    class_means: np.ndarray
    selectivity: np.ndarray
    top_values: np.ndarray
    top_samples: np.ndarray
    near_limit: np.ndarray
    dead: np.ndarray
    dormant: np.ndarray
    saturated: np.ndarray
    samples: int


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
    check_count(top_k, "top_k", where, least=0)
    check_number(dormant_at, "dormant_at", where, least=0)
    batches, classes = _batches(x, y, classes, where)
    stream: _Stream | None = None
    for batch, labels in batches:
        if stream is None:
            options = {"nodes": nodes, "auto": auto, "batch_size": batch_size}
            model, arrays = prepare(f, variables, batch, each=True, where=where, **options)
            stream = _Stream(model, arrays, classes, bins, span, top_k, limits, where)
        stream.add(batch, labels, progress)
    check(stream is not None, "expected at least one batch, got none", where)
    assert stream is not None
    return stream.result(dormant_at)


class _Options(NamedTuple):
    """What a tile's statistics depend on besides arrays; hashable."""

    bins: int
    classes: int
    top_k: int
    limits: tuple[Limits | None, ...]


class _Tile(NamedTuple):
    """Of one site and one tile of samples, arrays that end in the nodes' shape."""

    mean: Any
    squares: Any
    minimum: Any
    maximum: Any
    magnitude: Any
    active: Any
    near_limit: Any
    counts: Any
    class_sums: Any
    top_values: Any
    top_rows: Any


def _measure(model: Model, options: _Options, arrays: Arrays, tile, fill, labels, edges):
    """A `_Tile` for each site. `fill` (tile,) says which samples count."""
    _, records = model.run(arrays, tile, record=model.names)
    return {
        nodes.site.name: _of_site(
            nodes, options, limits, records[nodes.site.name], fill, labels, edges[nodes.site.name]
        )
        for nodes, limits in zip(model.nodes, options.limits, strict=True)
    }


def _of_site(nodes: Nodes, options: _Options, limits, value, fill, labels, edges) -> _Tile:
    h = nodes.arranged(value).astype(real(value.dtype))
    fill = jnp.broadcast_to(fill.reshape(-1, *[1] * (h.ndim - 1)), h.shape)

    def count(which):
        return jnp.sum(which & fill, axis=(0, 1))

    n = count(True).astype(h.dtype)
    mean = jnp.sum(h, axis=(0, 1), where=fill) / n
    off = h - mean
    # What the mean lost to rounding is taken off again.
    squares = jnp.sum(off**2, axis=(0, 1), where=fill)
    squares -= jnp.sum(off, axis=(0, 1), where=fill) ** 2 / n
    largest = jnp.max(h, axis=1, where=fill, initial=-jnp.inf)  # (samples, *shape)
    of_samples = jnp.where(fill[:, 0], jnp.mean(h, axis=1), 0)
    hot = (labels[:, None] == jnp.arange(options.classes)).astype(h.dtype)
    top_values, top_rows = jax.lax.top_k(
        jnp.moveaxis(largest, 0, -1), min(options.top_k, len(largest))
    )
    return _Tile(
        mean=mean,
        squares=squares,
        minimum=jnp.min(h, axis=(0, 1), where=fill, initial=jnp.inf),
        maximum=jnp.max(h, axis=(0, 1), where=fill, initial=-jnp.inf),
        magnitude=jnp.sum(jnp.abs(h), axis=(0, 1), where=fill) / n,
        active=count(h > 0),
        near_limit=count(_near(h, limits)) if limits else jnp.zeros(nodes.shape, int),
        counts=_counts(h, count, edges.astype(h.dtype)),
        class_sums=jnp.einsum("sc,s...->...c", hot, of_samples, precision="highest"),
        top_values=top_values,
        top_rows=top_rows,
    )


def _near(h: jax.Array, limits: Limits) -> jax.Array:
    low, high = limits
    margin = (high - low) / 20
    return (h <= low + margin) | (h >= high - margin)


def _counts(h: jax.Array, count: Callable, edges: jax.Array) -> jax.Array:
    """(bins + 2, *shape): below the bins, in each, above."""
    at_least = jax.lax.map(lambda edge: count(h >= edge), edges[:-1])
    above = count(h > edges[-1])
    numbers = count(~jnp.isnan(h))
    levels = jnp.concatenate([numbers[None], at_least, above[None], jnp.zeros_like(above)[None]])
    return levels[:-1] - levels[1:]


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
        by_name = {
            what: {name: _limits(given, name, what, where) for name in model.names}
            for what, given in (("span", span), ("limits", limits))
        }
        self.model, self.arrays, self.where = model, arrays, where
        self.options = _Options(bins, classes, top_k, tuple(by_name["limits"].values()))
        self.shapes = [(leaf.shape[1:], leaf.dtype) for leaf in arrays.leaves]
        self.samples, self.seen = 0, np.zeros(classes, np.int64)
        self.edges = {
            name: None if ends is None else np.linspace(*ends, bins + 1)
            for name, ends in by_name["span"].items()
        }
        self.sums: dict[str, _Sums] = {}

    def add(self, x: Any, labels: np.ndarray | None, progress: bool) -> None:
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(x)]
        n, tile = count_samples(leaves, self.where), self.model.tile
        shapes = [
            (leaf.shape[1:], jax.dtypes.canonicalize_dtype(leaf.dtype)) for leaf in leaves
        ]
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
        measure = compiled(_measure, self.model, self.options)
        blank = np.zeros(self.options.bins + 1)
        edges = {name: blank if e is None else e for name, e in self.edges.items()}
        found = measure(self.arrays._replace(leaves=()), tile, fill, labels, edges)
        if any(e is None for e in self.edges.values()):
            for name, of_tile in found.items():
                if self.edges[name] is None:
                    self.edges[name] = _range(of_tile, self.options.bins)
            found = measure(self.arrays._replace(leaves=()), tile, fill, labels, self.edges)
        count = int(fill.sum())
        for nodes in self.model.nodes:
            of_tile = jax.tree.map(np.asarray, found[nodes.site.name])
            positions = int(np.prod(nodes.site.shape)) // (self.model.tile * _count(nodes.shape))
            self.sums.setdefault(nodes.site.name, _Sums()).add(
                of_tile, count, count * positions, self.samples, self.options.top_k
            )
        self.samples += count
        if self.options.classes:
            self.seen += np.bincount(labels[fill], minlength=self.options.classes)

    def result(self, dormant_at: float) -> dict[str, NodeStatistics]:
        return {
            name: sums.result(self.edges[name], self.seen, self.samples, dormant_at, limits)
            for (name, sums), limits in zip(self.sums.items(), self.options.limits, strict=True)
        }


class _Sums:
    """What has been added up for one site, in float64."""

    n = 0  # values of each node

    def add(self, t: _Tile, samples: int, n: int, before: int, top_k: int) -> None:
        """Adds a tile of `samples` samples, with `n` values of each node."""
        mean, top = t.mean.astype(np.float64), t.top_rows.astype(np.int64) + before
        if not self.n:
            self.mean, self.squares = mean, t.squares.astype(np.float64)
            self.minimum, self.maximum = t.minimum, t.maximum
            self.magnitude = t.magnitude.astype(np.float64)
            self.active, self.near = t.active.astype(np.int64), t.near_limit.astype(np.int64)
            self.counts = t.counts.astype(np.int64)
            self.class_sums = t.class_sums.astype(np.float64)
            self.top_values, self.top_samples = t.top_values, top
        else:
            total, off = self.n + n, mean - self.mean
            self.mean = self.mean + off * (n / total)
            self.squares = self.squares + t.squares + off**2 * (self.n * n / total)
            self.minimum = np.minimum(self.minimum, t.minimum)
            self.maximum = np.maximum(self.maximum, t.maximum)
            self.magnitude = self.magnitude + (t.magnitude - self.magnitude) * (n / total)
            self.active, self.near = self.active + t.active, self.near + t.near_limit
            self.counts = self.counts + t.counts
            self.class_sums = self.class_sums + t.class_sums
            self._keep_top(t.top_values, top)
        self.n += n
        best = min(top_k, before + samples)
        self.top_values = self.top_values[..., :best]
        self.top_samples = self.top_samples[..., :best]

    def _keep_top(self, values, samples) -> None:
        values = np.concatenate([self.top_values, values], axis=-1)
        samples = np.concatenate([self.top_samples, samples], axis=-1)
        high = np.where(np.isnan(values), np.inf, values)  # NaN first, as on the device
        order = np.argsort(-high, axis=-1, kind="stable")
        self.top_values = np.take_along_axis(values, order, -1)
        self.top_samples = np.take_along_axis(samples, order, -1)

    def result(self, edges, seen, samples, dormant_at, limits) -> NodeStatistics:
        magnitude = self.magnitude
        near = self.near / self.n if limits else np.full(magnitude.shape, np.nan)
        with np.errstate(invalid="ignore", divide="ignore"):
            class_means = self.class_sums / seen
        counts = np.moveaxis(self.counts, 0, -1)
        return NodeStatistics(
            mean=self.mean,
            variance=np.maximum(self.squares, 0) / self.n,
            minimum=self.minimum,
            maximum=self.maximum,
            magnitude=magnitude,
            active=self.active / self.n,
            histogram=counts[..., 1:-1],
            below=counts[..., 0],
            above=counts[..., -1],
            edges=edges,
            class_means=class_means,
            selectivity=_selectivity(class_means[..., seen > 0]),
            top_values=self.top_values,
            top_samples=self.top_samples,
            near_limit=near,
            dead=magnitude == 0,
            dormant=magnitude <= dormant_at * magnitude.mean(axis=-1, keepdims=True),
            saturated=near >= 0.9,
            samples=samples,
        )


def _selectivity(means: np.ndarray) -> np.ndarray:
    """Of class means (..., C)."""
    classes = means.shape[-1]
    if classes < 2:
        return np.full(means.shape[:-1], np.nan)
    most = means.max(axis=-1)
    rest = (means.sum(axis=-1) - most) / (classes - 1)
    size = np.abs(most) + np.abs(rest)
    return np.where(size == 0, 0, (most - rest) / np.where(size == 0, 1, size))


def _range(of_tile: _Tile, bins: int) -> np.ndarray:
    """Edges from the lowest finite value to the highest, half a unit around a single one."""
    ends = [np.asarray(end, np.float64) for end in (of_tile.minimum, of_tile.maximum)]
    finite = np.concatenate([end[np.isfinite(end)] for end in ends])
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    return np.linspace(low, high, bins + 1) if low < high else np.linspace(low - 0.5, low + 0.5, bins + 1)


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


def _count(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape))


def _batches(x, y, classes, where) -> tuple[Iterator[tuple[Any, np.ndarray | None]], int]:
    """Batches `(x, labels)`, and how many classes; 0 without labels."""
    if classes is not None:
        check_count(classes, "classes", where)
    leaves = jax.tree.leaves(x)
    whole = bool(leaves) and all(hasattr(leaf, "shape") for leaf in leaves)
    if whole:
        check(
            y is not None or classes is None,
            f"expected y, the classes of the samples, with classes={classes}",
            where,
        )
        if y is None:
            return iter([(x, None)]), 0
        n = count_samples(leaves, where)
        labels = _labels(y, n, classes, where)
        return iter([(x, labels)]), classes or int(labels.max()) + 1
    check(
        isinstance(x, Iterable) and not isinstance(x, list | tuple | dict | str),
        f"expected arrays (N, ...), a pytree of such or an iterable of batches, "
        f"got {type(x).__name__}; a list of batches goes in as iter(batches)",
        where,
    )
    check(
        y is None,
        "expected no y beside an iterable; give classes= and let it yield pairs (x, y)",
        where,
    )
    if classes is None:
        return ((batch, None) for batch in x), 0
    return _pairs(x, classes, where), classes


def _pairs(x: Iterable, classes: int, where: str) -> Iterator[tuple[Any, np.ndarray]]:
    for pair in x:
        check(
            isinstance(pair, tuple | list) and len(pair) == 2,
            f"expected pairs (x, y), since classes={classes}, got {type(pair).__name__}",
            where,
        )
        batch, y = pair
        n = count_samples([np.asarray(leaf) for leaf in jax.tree.leaves(batch)], where)
        yield batch, _labels(y, n, classes, where)


def _labels(y: Any, n: int, classes: int | None, where: str) -> np.ndarray:
    labels = np.asarray(y)
    check(
        labels.shape == (n,) and labels.dtype.kind in "iu",
        f"expected integer classes y of shape {(n,)}, got {labels.dtype} {labels.shape}",
        where,
    )
    top = np.inf if classes is None else classes
    check(
        labels.min() >= 0 and labels.max() < top,
        f"expected classes from 0 to {top - 1 if classes else 'the largest'}, got "
        f"{labels.min()} to {labels.max()}",
        where,
    )
    return labels
