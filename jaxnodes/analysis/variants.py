"""A function without each of its nodes: all variants of its outputs, a tile of samples at a time.

What comes before a node is computed once for all variants (`measure_whole`); what follows from
its change is computed on the difference (`deltas`), for as many nodes at a time as stay in
cache (`measure_without`). On CPU each core has nodes of its own: XLA splits an operation between
cores, but those of a chunk are too small to gain by it. The outputs of all samples are kept,
since a metric may need them all at once.
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
from jax.interpreters.partial_eval import dce_jaxpr

from jaxnodes.analysis.changes import Changed, Full, Thin, put, take
from jaxnodes.analysis.deltas import Base, can_enter, propagate, run_base
from jaxnodes.analysis.model import Arrays, Model, Nodes
from jaxnodes.analysis.zeroed import bias_value
from jaxnodes.errors import check
from jaxnodes.interpreter.control_flow import bodies
from jaxnodes.interpreter.interventions import parse
from jaxnodes.interpreter.program import Place, Program

_CHUNK_BYTES = 2**20  # what a chunk of variants should take, so that it stays near the cores
_BLOCK_BYTES = 2**24  # and the outputs of a block: small enough that memory is used again


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

    def calls(self) -> list[np.ndarray]:
        """The nodes of each call by number; the last ones are filled up with the last."""
        starts = range(0, self.count, self.at_once)
        last = np.int32(self.count - 1)
        return [np.minimum(np.arange(k, k + self.at_once, dtype=np.int32), last) for k in starts]


class Plan(NamedTuple):
    """How to go through all nodes.

    Attributes:
      parts: a site each.
      stored: whether the function's values are kept for all samples, which is faster, or
        computed again for each block of variants, which takes less memory.
    """

    parts: tuple[Part, ...]
    stored: bool


def plan(model: Model, memory: int, calls: int = 1) -> Plan:
    """A plan that takes so many bytes, about, with so many calls side by side."""
    jaxpr, tiles = model.program.jaxpr, len(model.rows)
    outputs = sum(map(_bytes, jaxpr.outvars)) * tiles
    stored = _all_bytes(jaxpr) * tiles <= memory // 2
    memory //= calls
    most = max(1, memory // (4 * outputs + 1))
    parts = []
    for nodes in model.nodes:
        count = math.prod(nodes.shape)
        after = jaxpr.eqns[_place(model.program, nodes).path[0] :]
        wide = max(_bytes(var) for eqn in after for var in eqn.outvars)
        largest = min(count, most, max(1, _BLOCK_BYTES // outputs) if stored else most)
        blocks = _up(-(-count // largest), calls)  # as many for each of those side by side
        block = -(-count // blocks)
        chunk = max(1, min(block, _CHUNK_BYTES // wide, memory // (4 * wide)))
        block = _up(block, chunk)
        together = stored and calls == 1
        parts.append(Part(nodes, _up(count, block) if together else block, block, chunk))
    return Plan(tuple(parts), stored)


def _up(number: int, step: int) -> int:
    """The next multiple of a step."""
    return -(-number // step) * step


class Kept(NamedTuple):
    """What variants need of the function as it stands, for each tile.

    Attributes:
      values: those that depend on data, by their place in `Base.of_data`.
      replaced: what takes the nodes' place, for each part; `None` if it is the same for
        all tiles.
    """

    values: dict[int, jax.Array]
    replaced: Sequence[Any] | None


class Question(NamedTuple):
    """What is measured: all that doesn't change between calls.

    Attributes:
      model: the function.
      plan: how to go through its nodes.
      metric: of outputs and `y`.
      kind: what takes a node's place: `"bias"`, `"resample"` or `"given"`.
    """

    model: Model
    plan: Plan
    metric: Any
    kind: str

    @property
    def starts(self) -> np.ndarray:
        """The tiles' first samples. The last tile goes over some samples again, rather than
        over what isn't there."""
        n, tile = self.model.n, self.model.tile
        return np.minimum(np.arange(0, n, tile, dtype=np.int32), np.int32(n - tile))

    def outputs(self, *axes: int) -> list[jax.Array]:
        """Room for the outputs of all samples."""
        avals: list[Any] = [var.aval for var in self.model.program.jaxpr.outvars]
        return [jnp.zeros((*axes, self.model.n, *aval.shape[1:]), aval.dtype) for aval in avals]

    def measured(self, outputs: Sequence[jax.Array], y: Any) -> jax.Array:
        return self.metric(self.model.out_tree.unflatten(outputs), y)


class Data(NamedTuple):
    """What is measured with.

    Attributes:
      arrays: of the function and its data.
      y: what the metric compares with.
      replacements: for each part, what takes a node's place if it is given; `None` is zero.
      order: for each sample another one, to resample.
    """

    arrays: Arrays
    y: Any
    replacements: Sequence[Any]
    order: jax.Array | None


def measure_whole(question: Question, data: Data) -> tuple[jax.Array, Kept | None]:
    """The metric of the function as it stands, and what its variants need if that is stored."""
    jaxpr, stored = question.model.program.jaxpr, question.plan.stored
    made = question.kind != "given" or any(isinstance(v, Rows) for v in data.replacements)

    def of_tile(outputs, start):
        base, replaced = _compute(question, data, start)
        now = [base.read(atom) for atom in jaxpr.outvars]
        outputs = [_write(*pair, (start,)) for pair in zip(outputs, now, strict=True)]
        if not stored:
            return outputs, None
        values, needed = base.of_data(), _needed(question, base, replaced)
        kept = {i: value for i, value in enumerate(values) if needed[i]}
        return outputs, Kept(kept, replaced if made else None)

    outputs, kept = jax.lax.scan(of_tile, question.outputs(), question.starts)
    return question.measured(outputs, data.y), kept


def measure_without(
    question: Question, k: int, data: Data, kept: Kept | None, variants: jax.Array
) -> jax.Array:
    """The metric without each of some nodes.

    Args:
      question, data: as `measure_whole` has them.
      k: which part the nodes are of.
      kept: what `measure_whole` returns.
      variants: the nodes' numbers (at_once,).

    Returns:
      (at_once, *metric's shape).
    """
    part, starts = question.plan.parts[k], question.starts
    tile_at = _tiles(question, data, kept)

    def of_block(variants):
        def of_tile(outputs, at):
            i, start = at
            base, replaced = tile_at(i)
            firsts = np.arange(0, part.block, part.chunk, dtype=np.int32)

            def of_chunk(outputs, step):
                first, which = step
                new = _changed(question, k, base, replaced[k], which)
                pairs = zip(outputs, new, strict=True)
                return [_write(*pair, (first, start)) for pair in pairs], None

            chunks = variants.reshape(-1, part.chunk)
            return jax.lax.scan(of_chunk, outputs, (firsts, chunks))[0], None

        numbers = np.arange(len(starts), dtype=np.int32)
        outputs, _ = jax.lax.scan(of_tile, question.outputs(part.block), (numbers, starts))
        return jax.vmap(lambda outputs: question.measured(outputs, data.y))(outputs)

    found = jax.lax.map(of_block, variants.reshape(-1, part.block))
    return found.reshape(-1, *found.shape[2:])


def _changed(question, k, base, replacement, variants) -> list[jax.Array]:
    """A tile's outputs without each of some nodes."""
    part, jaxpr = question.plan.parts[k], question.model.program.jaxpr
    path, begin = _beginning(question.model.program, part.nodes)
    changed = propagate(jaxpr, base, {}, {path: begin(part.nodes, variants, replacement)})
    now = [base.read(atom) for atom in jaxpr.outvars]
    return [_whole(*pair, len(variants)) for pair in zip(changed, now, strict=True)]


def _needed(question: Question, base: Base, replaced: Sequence[Any]) -> list[bool]:
    """Which values that depend on data the variants are computed of."""

    def of_all(values, replaced):
        tile = base.with_data(iter(values))
        return [
            _changed(question, k, tile, replaced[k], jnp.zeros(part.chunk, jnp.int32))
            for k, part in enumerate(question.plan.parts)
        ]

    values = base.of_data()
    jaxpr = jax.make_jaxpr(of_all)(values, replaced).jaxpr
    _, used = dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    return used[: len(values)]


def _compute(question: Question, data: Data, start: Any) -> tuple[Base, Sequence[Any]]:
    """All values of a tile's samples, and what replaces the nodes'."""
    model, (arrays, _, replacements, order) = question.model, data
    constant = len(arrays.consts) + len(arrays.fixed)
    is_data = [i >= constant for i in range(constant + len(arrays.leaves))]
    mine = [jax.lax.dynamic_slice_in_dim(leaf, start, model.tile) for leaf in arrays.leaves]
    base = run_base(model.program.jaxpr, [*arrays.consts, *arrays.fixed, *mine], is_data)
    others = None
    if order is not None:
        rows = jax.lax.dynamic_slice_in_dim(order, start, model.tile)
        others = [jnp.take(leaf, rows, axis=0, mode="clip") for leaf in arrays.leaves]
    given = [_of_tile(value, start, model.tile) for value in replacements]
    return base, _replaced(question, arrays, base, is_data, others, given)


def _tiles(question: Question, data: Data, kept: Kept | None):
    """A function of a tile's number: what `_compute` gives for its samples."""
    if kept is None:
        return lambda i: _compute(question, data, jnp.asarray(question.starts)[i])
    # What doesn't depend on data is the same for each tile, and computed apart.
    shared, given = _compute(question, data, question.starts[0])

    def tile_at(i):
        values, replaced = jax.tree.map(
            lambda k: jax.lax.dynamic_index_in_dim(k, i, 0, False), kept
        )
        # The others are never used: they stay those of the first tile.
        mine = (values.get(j, other) for j, other in enumerate(shared.of_data()))
        return shared.with_data(mine), given if replaced is None else replaced

    return tile_at


def _of_tile(value: Any, start: Any, tile: int) -> Any:
    """What is given for these samples."""
    if not isinstance(value, Rows):
        return value
    return jax.lax.dynamic_slice_in_dim(value.array, start, tile, value.axis)


def _write(whole: jax.Array, part: jax.Array, at: tuple[Any, ...]) -> jax.Array:
    zeros = (np.int32(0),) * (whole.ndim - len(at))
    return jax.lax.dynamic_update_slice(whole, part, (*at, *zeros))


def _replaced(question, arrays, base, data, others, replacements) -> Sequence[Any]:
    """What takes the nodes' place in this tile, for each part."""
    program, parts = question.model.program, question.plan.parts
    if question.kind == "resample":
        names = [part.nodes.site.name for part in parts]
        _, records = program.evaluate(arrays.consts, [*arrays.fixed, *others], record=tuple(names))
        return [records[name] for name in names]
    if question.kind == "bias":
        places = [_place(program, part.nodes) for part in parts]
        for place in places:
            check(
                _loop_around(program, place) is None,
                f"expected a node outside of loops, got {place.site!r}: what comes of a step's "
                "weighted sums goes on into the next; use value='zero' or 'mean'",
                "ablate",
            )
        return [bias_value(program, place, base, data) for place in places]
    return replacements


def _whole(made: Changed | None, base: jax.Array, variants: int) -> jax.Array:
    if made is None:
        return jnp.broadcast_to(base, (variants, *base.shape))
    return put(base, made) if isinstance(made, Thin) else made.values


def _place(program: Program, nodes: Nodes) -> Place:
    places = (p for of_eqn in program.places.values() for p in of_eqn)
    return next(place for place in places if place.site == nodes.site.name)


def _beginning(program: Program, nodes: Nodes):
    """The equation at which the change begins, the node's own or the loop around it, and what
    makes it: a function of (nodes, variants, replacement)."""
    place = _place(program, nodes)
    loop = _loop_around(program, place)
    if loop is None:
        return place.path, functools.partial(_thin, place)
    return loop, functools.partial(_patched, program, loop)


def _loop_around(program: Program, place: Place) -> tuple[int, ...] | None:
    """The path of the loop that a place is in, if it is in one."""
    jaxpr = program.jaxpr
    for end in range(1, len(place.path), 2):
        eqn = jaxpr.eqns[place.path[end - 1]]
        if not can_enter(eqn):
            return place.path[:end]
        jaxpr = bodies(eqn)[place.path[end]].jaxpr
    return None


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
