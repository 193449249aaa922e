"""What the nodes of one site do: of a tile of samples, on the device; of all, on the host.

A tile is measured by two passes over what is there already, and tiles are put together
in float64, as in Chan, Golub and LeVeque (1979): neither memory nor rounding grows with
the number of samples.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnodes.analysis.model import Nodes, real

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


class Tile(NamedTuple):
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
    span: Any  # of all finite values


def of_site(
    nodes: Nodes, value, fill, labels, edges, *, classes: int, top_k: int, limits: Limits | None
) -> Tile:
    """What the nodes of a site do in a tile of samples.

    Args:
      nodes: which axis of the value is which.
      value: as recorded.
      fill: (tile,), which samples count; the others repeat some of these.
      labels: (tile,), their classes.
      edges: (bins + 1,).
      classes, top_k, limits: as for `statistics`.
    """
    h = nodes.arranged(value).astype(real(value.dtype))
    fill = jnp.broadcast_to(fill.reshape(-1, *[1] * (h.ndim - 1)), h.shape)

    def count(which):
        return jnp.sum(which & fill, axis=(0, 1))

    n, finite = count(True).astype(h.dtype), fill & jnp.isfinite(h)
    mean = jnp.sum(h, axis=(0, 1), where=fill) / n
    off = h - mean
    # What the mean lost to rounding is taken off again.
    squares = jnp.sum(off**2, axis=(0, 1), where=fill)
    squares -= jnp.sum(off, axis=(0, 1), where=fill) ** 2 / n
    largest = jnp.max(h, axis=1, where=fill, initial=-jnp.inf)  # (samples, *shape)
    of_samples = jnp.where(fill[:, 0], jnp.mean(h, axis=1), 0)
    hot = (labels[:, None] == jnp.arange(classes, dtype=labels.dtype)).astype(h.dtype)
    top_values, top_rows = jax.lax.top_k(jnp.moveaxis(largest, 0, -1), min(top_k, len(largest)))
    return Tile(
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
        span=(
            jnp.min(h, where=finite, initial=jnp.inf),
            jnp.max(h, where=finite, initial=-jnp.inf),
        ),
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


class Sums:
    """What has been added up for one site, in float64."""

    n = 0  # values of each node

    def add(self, t: Tile, samples: int, n: int, before: int, top_k: int) -> None:
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
