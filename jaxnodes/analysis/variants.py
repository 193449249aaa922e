"""A function without each of its nodes: all variants of its outputs, a tile of samples at a time.

What comes before a node is computed once for all variants; what follows from its change
is computed on the difference (`deltas`), for as many nodes at a time as stay in cache.
The outputs of all samples are kept, since a metric may need them all at once.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Jaxpr

from jaxnodes.analysis.changes import Changed, Full, Thin, put, take
from jaxnodes.analysis.deltas import can_enter, propagate, run_base
from jaxnodes.analysis.model import Arrays, Model, Nodes
from jaxnodes.analysis.zeroed import bias_value
from jaxnodes.errors import JaxNodesError
from jaxnodes.interpreter.control_flow import bodies
from jaxnodes.interpreter.interventions import parse
from jaxnodes.interpreter.program import Place, Program

_CHUNK_BYTES = 2**20  # what a chunk of variants should take, so that it stays near the cores
_BLOCK_BYTES = 2**24  # and the outputs of a block: small enough that memory is used again
_SITES = 4  # in a program: the way to them is computed once, but large programs compile slowly


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Rows:
    """An array with an entry for each sample along `axis`."""

    array: jax.Array
    axis: int = dataclasses.field(metadata={"static": True})


class Part(NamedTuple):
    """The nodes of a site, and how many of them to go through.

    Attributes:
      nodes: of the site.
      at_once: how many to measure in one call, a multiple of `block`.
      block: how many of these to keep all outputs of, a multiple of `chunk`.
      chunk: how many of these to compute at once.
    """

    nodes: Nodes
    at_once: int
    block: int
    chunk: int

    @property
    def count(self) -> int:
        return math.prod(self.nodes.shape)

    def variants(self, start: int) -> np.ndarray:
        """The nodes from `start` on by number; the last ones are filled up with the last."""
        places = np.arange(start, start + self.at_once, dtype=np.int32)
        return np.minimum(places, np.int32(self.count - 1))


class Plan(NamedTuple):
    """How to go through all nodes.

    Attributes:
      groups: of sites that one program measures.
      stored: whether the function's values are kept for all samples, which is faster, or
        computed again for each block of variants, which takes less memory.
    """

    groups: list[tuple[Part, ...]]
    stored: bool


def plan(model: Model, memory: int) -> Plan:
    """A plan that takes so many bytes, about."""
    jaxpr, tiles = model.program.jaxpr, len(model.rows)
    outputs = sum(map(_bytes, jaxpr.outvars)) * tiles
    stored = _all_bytes(jaxpr) * tiles <= memory // 2
    most = max(1, memory // (4 * outputs + 1))
    groups: list[tuple[Part, ...]] = []
    for nodes in model.nodes:
        count = math.prod(nodes.shape)
        after = jaxpr.eqns[_place(model.program, nodes).path[0] :]
        wide = max(_bytes(var) for eqn in after for var in eqn.outvars)
        block = min(count, most, max(1, _BLOCK_BYTES // outputs) if stored else most)
        chunk = max(1, min(block, _CHUNK_BYTES // wide, memory // (4 * wide)))
        block = _up(block, chunk)
        part = Part(nodes, _up(count, block) if stored else block, block, chunk)
        last = groups[-1] if groups else ()
        if (
            last
            and len(last) < _SITES
            and part.at_once >= count
            and last[-1].at_once >= last[-1].count
        ):
            groups[-1] = (*last, part)
        else:
            groups.append((part,))
    return Plan(groups, stored)


def _up(number: int, step: int) -> int:
    """The next multiple of a step."""
    return -(-number // step) * step


def measure(
    model: Model,
    parts: tuple[Part, ...],
    metric: Any,
    kind: str,
    stored: bool,
    arrays: Arrays,
    y: Any,
    variants: Sequence[jax.Array],
    replacements: Sequence[Any],
    order: jax.Array | None,
) -> tuple[jax.Array, list[jax.Array]]:
    """The metric of the whole function, and for each part without each of its nodes.

    Args:
      model, parts, metric, kind, stored: what doesn't change between calls. `kind` is
        `"bias"`, `"resample"` or `"given"`.
      arrays: of the function and its data.
      y: what the metric compares with.
      variants: for each part, numbers of nodes (at_once,).
      replacements: for each part, what takes a node's place if it is given; `None` is zero.
      order: for each sample another one, to resample.

    Returns:
      The metric, and for each part (at_once, *metric's shape).
    """
    jaxpr, n, tile = model.program.jaxpr, model.n, model.tile
    begins = [_beginning(model.program, part.nodes, kind) for part in parts]
    # The last tile goes over some samples again, rather than over what isn't there.
    starts = np.minimum(np.arange(0, n, tile, dtype=np.int32), np.int32(n - tile))
    tile_at = _tiles(model, parts, kind, arrays, replacements, order, starts, stored)
    avals: list[Any] = [var.aval for var in jaxpr.outvars]
    empty = [jnp.zeros((n, *aval.shape[1:]), aval.dtype) for aval in avals]
    numbers = np.arange(len(starts), dtype=np.int32)

    def measured(outs):
        return metric(model.out_tree.unflatten(outs), y)

    def whole(outs, at):
        i, start = at
        base, _ = tile_at(i)
        now = [base.read(atom) for atom in jaxpr.outvars]
        return [_write(*pair, (start,)) for pair in zip(outs, now, strict=True)], None

    def without(k, part, variants):
        path, begin = begins[k]

        def of_block(variants):
            def of_tile(outs, at):
                i, start = at
                base, replaced = tile_at(i)
                source = functools.partial(begin, part.nodes, replacement=replaced[k])
                return _of_chunks(jaxpr, part, base, path, source, variants, outs, start), None

            outs = [jnp.zeros((part.block, *out.shape), out.dtype) for out in empty]
            outs, _ = jax.lax.scan(of_tile, outs, (numbers, starts))
            return jax.vmap(measured)(outs)

        found = jax.lax.map(of_block, variants.reshape(-1, part.block))
        return found.reshape(-1, *found.shape[2:])

    outs, _ = jax.lax.scan(whole, empty, (numbers, starts))
    of_parts = enumerate(zip(parts, variants, strict=True))
    return measured(outs), [without(k, *pair) for k, pair in of_parts]


def _tiles(model, parts, kind, arrays, replacements, order, starts, stored):
    """A function of a tile's number: all values of its samples, and what replaces the nodes'."""
    constant = len(arrays.consts) + len(arrays.fixed)
    data = [i >= constant for i in range(constant + len(arrays.leaves))]

    def compute(start):
        mine = [jax.lax.dynamic_slice_in_dim(leaf, start, model.tile) for leaf in arrays.leaves]
        base = run_base(model.program.jaxpr, [*arrays.consts, *arrays.fixed, *mine], data)
        others = None
        if order is not None:
            rows = jax.lax.dynamic_slice_in_dim(order, start, model.tile)
            others = [jnp.take(leaf, rows, axis=0, mode="clip") for leaf in arrays.leaves]
        given = [_of_tile(value, start, model.tile) for value in replacements]
        return base, _replaced(model, parts, kind, arrays, base, data, others, given)

    if not stored:
        return lambda i: compute(jnp.asarray(starts)[i])
    # Whether the replacements are of a tile's own samples.
    made = kind in ("resample", "bias") or any(isinstance(v, Rows) for v in replacements)

    def all_of(start):
        base, replaced = compute(start)
        return base.of_data(), replaced if made else None

    # What doesn't depend on data is the same for each tile, and computed apart.
    shared, given = compute(starts[0])
    kept = jax.lax.map(all_of, starts)

    def tile_at(i):
        values, replaced = jax.tree.map(
            lambda k: jax.lax.dynamic_index_in_dim(k, i, 0, False), kept
        )
        return shared.with_data(iter(values)), replaced if made else given

    return tile_at


def _of_tile(value: Any, start: Any, tile: int) -> Any:
    """What is given for these samples."""
    if not isinstance(value, Rows):
        return value
    return jax.lax.dynamic_slice_in_dim(value.array, start, tile, value.axis)


def _of_chunks(jaxpr, part, base, path, source, variants, outs, start):
    """Writes a block's outputs for one tile into those for all samples, chunk by chunk."""
    now = [base.read(atom) for atom in jaxpr.outvars]

    def of_chunk(outs, step):
        first, which = step
        changed = propagate(jaxpr, base, {}, {path: source(which)})
        new = [_whole(*pair, part.chunk) for pair in zip(changed, now, strict=True)]
        return [_write(*pair, (first, start)) for pair in zip(outs, new, strict=True)], None

    firsts = np.arange(0, part.block, part.chunk, dtype=np.int32)
    outs, _ = jax.lax.scan(of_chunk, outs, (firsts, variants.reshape(-1, part.chunk)))
    return outs


def _write(whole: jax.Array, part: jax.Array, at: tuple[Any, ...]) -> jax.Array:
    zeros = (np.int32(0),) * (whole.ndim - len(at))
    return jax.lax.dynamic_update_slice(whole, part, (*at, *zeros))


def _replaced(model, parts, kind, arrays, base, data, others, replacements) -> Sequence[Any]:
    """What takes the nodes' place in this tile, for each part."""
    program, names = model.program, [part.nodes.site.name for part in parts]
    if kind == "resample":
        _, records = program.evaluate(arrays.consts, [*arrays.fixed, *others], record=tuple(names))
        return [records[name] for name in names]
    if kind == "bias":
        return [bias_value(program, _place(program, p.nodes), base, data) for p in parts]
    return replacements


def _whole(made: Changed | None, base: jax.Array, variants: int) -> jax.Array:
    if made is None:
        return jnp.broadcast_to(base, (variants, *base.shape))
    return put(base, made) if isinstance(made, Thin) else made.values


def _place(program: Program, nodes: Nodes) -> Place:
    places = (p for of_eqn in program.places.values() for p in of_eqn)
    return next(place for place in places if place.site == nodes.site.name)


def _beginning(program: Program, nodes: Nodes, kind: str):
    """The equation at which the change begins, the node's own or the loop around it, and what
    makes it: a function of (nodes, variants, replacement)."""
    place, jaxpr = _place(program, nodes), program.jaxpr
    for end in range(1, len(place.path), 2):
        eqn = jaxpr.eqns[place.path[end - 1]]
        if not can_enter(eqn):
            if kind == "bias":
                raise JaxNodesError(
                    f"expected a node outside of loops, got {nodes.site.name!r}: what comes of a "
                    "step's weighted sums goes on into the next; use value='zero' or 'mean'",
                    "ablate",
                )
            return place.path[:end], functools.partial(_patched, program, place.path[:end])
        jaxpr = bodies(eqn)[place.path[end]].jaxpr
    return place.path, functools.partial(_thin, place)


def _thin(place: Place, nodes: Nodes, variants: jax.Array, replacement: Any):
    """The change of one node's place along the axis of the nodes."""

    def source(eqn, operands, outputs):
        h = outputs[place.output]
        made: list[Changed | None] = [None] * len(outputs)
        new = jnp.zeros_like(h) if replacement is None else jnp.broadcast_to(replacement, h.shape)
        if place.axis is None:
            made[place.output] = Full(jnp.broadcast_to(new, (len(variants), *h.shape)))
        else:
            indices = variants[:, None]
            made[place.output] = Thin(place.axis, indices, take(new, indices, place.axis))
        return made

    return source


def _patched(program: Program, path, nodes: Nodes, variants: jax.Array, replacement: Any):
    """The change of all that a loop makes, with one node gated inside it."""
    site = nodes.site
    spread = [n if layer else 1 for n, layer in zip(site.steps, nodes.layers, strict=True)]

    def source(eqn, operands, outputs):
        def one(variant):
            gate = jnp.ones(math.prod(spread) * site.size, site.dtype).at[variant].set(0)
            gate = jnp.broadcast_to(gate.reshape(*spread, site.size), (*site.steps, site.size))
            given = gate if replacement is None else (gate, replacement)
            # This site alone: the bare name would reach its repetitions too.
            patches = parse({site.name: given}, {site.name: site})
            return program.patched(path, eqn, operands, patches)

        return [Full(values) for values in jax.vmap(one)(variants)]

    return source


def _all_bytes(jaxpr: Jaxpr) -> int:
    """What all values of a program take, those in its calls included."""
    inside = (b.jaxpr for eqn in jaxpr.eqns if can_enter(eqn) for b in bodies(eqn))
    return sum(_bytes(v) for eqn in jaxpr.eqns for v in eqn.outvars) + sum(map(_all_bytes, inside))


def _bytes(var: Any) -> int:
    return var.aval.size * var.aval.dtype.itemsize if hasattr(var, "aval") else 0
