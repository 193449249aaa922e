"""Importance by the derivatives of the loss with respect to the nodes' values."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxnodes.analysis.gate_measures import unit_quadrature
from jaxnodes.analysis.model import Arrays, ByName, Model, real, take
from jaxnodes.errors import check, describe


def gradient(model: Model, loss: Callable, arrays: Arrays, y: Any) -> ByName:
    """sum over samples |sum over positions of dL/dh h|."""

    def of_tile(tile):
        rows, pull = tile
        records, slopes = model.tile_gradients(arrays, take(arrays.leaves, rows), pull)
        return _products(model, records, slopes, jnp.abs)

    return _total(of_tile, (model.rows, model.pull(loss, arrays, y)))


def conductance(
    model: Model, loss: Callable, steps: int, arrays: Arrays, y: Any, start: list[jax.Array]
) -> ByName:
    """-int dL/dh dh/da da along x0 + a (x - x0), with x0 = `start`."""
    way = [end - begin for begin, end in zip(start, arrays.leaves, strict=True)]

    def of_point(point):
        a, weight = point
        here = arrays._replace(
            leaves=[begin + a.astype(w.dtype) * w for begin, w in zip(start, way, strict=True)]
        )

        def of_tile(tile):
            rows, pull = tile
            x, dx = take(here.leaves, rows), take(way, rows)
            _, slopes = model.tile_gradients(here, x, pull)
            _, moves = jax.jvp(lambda *x: model.run(here, x, record=model.names)[1], x, dx)
            return _products(model, moves, slopes, lambda product: -product)

        found = _total(of_tile, (model.rows, model.pull(loss, here, y)))
        return jax.tree.map(lambda total: weight.astype(total.dtype) * total, found)

    at, weights = unit_quadrature(steps)
    return _total(of_point, (jnp.asarray(at), jnp.asarray(weights)))


def start_of(baseline: Any, x: Any, leaves: Sequence[jax.Array]) -> list[jax.Array]:
    """Where the path of conductance begins, an array for each leaf of the data."""
    where = "attribute"
    check(
        all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves),
        f"expected floating inputs for 'conductance', got {', '.join(map(describe, leaves))}; "
        "start the function behind the embedding",
        where,
    )
    if baseline is None:
        return [jnp.zeros_like(leaf) for leaf in leaves]
    check(
        jax.tree.structure(baseline) == jax.tree.structure(x),
        "expected a baseline that is a pytree like x, got another one",
        where,
    )
    begins = [jnp.asarray(begin) for begin in jax.tree.leaves(baseline)]
    for begin, leaf in zip(begins, leaves, strict=True):
        try:
            fits = jnp.broadcast_shapes(begin.shape, leaf.shape) == leaf.shape
        except ValueError:
            fits = False
        check(
            fits,
            f"expected a baseline that broadcasts to {leaf.shape}, got shape {begin.shape}",
            where,
        )
    return [
        jnp.broadcast_to(begin, leaf.shape).astype(leaf.dtype)
        for begin, leaf in zip(begins, leaves, strict=True)
    ]


def _products(model: Model, values: ByName, slopes: ByName, of_sample: Callable) -> ByName:
    """For every node, the sum over samples of a function of their sum of products."""
    found = {}
    for nodes in model.nodes:
        name, dtype = nodes.site.name, real(nodes.site.dtype)
        product = values[name].astype(dtype) * slopes[name].astype(dtype)
        found[name] = jnp.sum(of_sample(jnp.sum(nodes.arranged(product), axis=1)), axis=0)
    return found


def _total(measure: Callable, over: Any) -> ByName:
    """The sum of a measure over tiles, or points of a path, one at a time."""
    return jax.tree.map(lambda parts: jnp.sum(parts, axis=0), jax.lax.map(measure, over))
