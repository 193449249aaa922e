"""Importance by size alone: of activations, and of incoming weights."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxnodes.analysis.model import Arrays, ByName, Model, Nodes, real, take
from jaxnodes.errors import JaxNodesError

# Where a layer's arrays hold its incoming weights, and along which axis its nodes lie there.
_WEIGHTS = {"w": -1, "kernel": -1, "w_i": -1, "w_h": -1, "w_q": -2, "w_k": -2, "w_v": -2}


def average(model: Model, function: Callable, arrays: Arrays) -> ByName:
    """The mean of an elementwise function of nodes' values over samples, space and steps."""

    def of_tile(tile):
        rows, fill = tile
        _, records = model.run(arrays, take(arrays.leaves, rows), record=model.names)
        return {
            nodes.site.name: of_site(nodes, records[nodes.site.name], fill) for nodes in model.nodes
        }

    def of_site(nodes, value, fill):
        h = nodes.arranged(nodes.counted(function(value), fill)).astype(real(value.dtype))
        return jnp.sum(jnp.mean(h, axis=1), axis=0)

    sums = jax.lax.map(of_tile, (model.rows, model.fill))
    return {name: jnp.sum(of_tiles, axis=0) / model.n for name, of_tiles in sums.items()}


def weight(model: Model, variables: Any) -> ByName:
    """sum |w| over a node's incoming weights; of a recurrent node or a head, over all its gates
    or projections."""
    return {nodes.site.name: _weight(nodes, variables) for nodes in model.nodes}


def _weight(nodes: Nodes, variables: Any) -> jax.Array:
    name = nodes.site.name
    path = () if name == "node" else tuple(name.partition("#")[0].split("/"))
    every = [(at, weights) for at, params in _dicts(variables, ()) if (weights := _of(params))]
    held = [weights for at, weights in every if at == path]
    held = held or [weights for at, weights in every if _alike(at, path)]
    if len(held) != 1:
        raise JaxNodesError(
            f"expected weights at {name!r} in the variables ({' or '.join(_WEIGHTS)}), got "
            f"{len(held) or 'none'}; name by nodes= those that have some",
            "attribute",
        )
    sizes = [_size(nodes, key, w) for key, w in held[0].items()]
    return jax.tree.reduce(jnp.add, sizes)


def _alike(at: tuple[str, ...], path: tuple[str, ...]) -> bool:
    """Whether two paths are one but for the first part: a collection such as flax's
    "params", or the name of the model around all."""
    pairs = [(at[1:], path), (at, path[1:]), (at[1:], path[1:])]
    return any(a == b for a, b in pairs if a and b)


def _size(nodes: Nodes, key: str, w: jax.Array) -> jax.Array:
    layers, size = nodes.shape[:-1], nodes.site.size
    axis = w.ndim + _WEIGHTS[key]
    per_gate = key in ("w_i", "w_h")
    fits = w.ndim - len(layers) >= -_WEIGHTS[key] + 1 and w.shape[: len(layers)] == layers
    fits = fits and (w.shape[axis] % size == 0 if per_gate else w.shape[axis] == size)
    if not fits:
        raise JaxNodesError(
            f"expected weights {key!r} of {nodes.shape} nodes at {nodes.site.name!r}, got shape "
            f"{w.shape}; name the others by nodes=",
            "attribute",
        )
    gates = w.shape[axis] // size
    w = jnp.abs(jnp.moveaxis(w, axis, -1)).reshape(*layers, -1, gates, size)
    return jnp.sum(w, axis=(-3, -2))


def _of(params: Mapping) -> dict[str, jax.Array]:
    arrays = {key: params[key] for key in _WEIGHTS if hasattr(params.get(key), "shape")}
    return {key: jnp.asarray(w) for key, w in arrays.items() if math.prod(w.shape)}


def _dicts(tree: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Mapping]]:
    """Every dict in the variables, with its path."""
    if isinstance(tree, Mapping):
        yield path, tree
        for key, inner in tree.items():
            yield from _dicts(inner, (*path, str(key)))
    elif isinstance(tree, tuple | list):
        for inner in tree:
            yield from _dicts(inner, path)
