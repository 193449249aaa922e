"""A function without each of its nodes: all variants of its outputs, a tile of samples at a time.

What comes before a node is computed once for all variants (`measure_whole`); what follows from
its change is computed on the difference (`deltas`), for as many nodes at a time as stay in
cache (`measure_without`). On CPU each core has nodes of its own: XLA splits an operation between
cores, but those of a chunk are too small to gain by it. The outputs of all samples are kept,
since a metric may need them all at once.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.interpreters.partial_eval import dce_jaxpr

from jaxnodes.analysis.changes import Changed, Thin, put
from jaxnodes.analysis.deltas import Base, propagate, run_base
from jaxnodes.analysis.first_changes import beginning, loop_around
from jaxnodes.analysis.model import Arrays, Model
from jaxnodes.analysis.plans import Plan
from jaxnodes.analysis.zeroed import bias_value
from jaxnodes.errors import check


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PerSample:
    """An array with an entry for each sample along `axis`."""

    array: jax.Array
    axis: int = dataclasses.field(metadata={"static": True})


class Kept(NamedTuple):
    """What variants need of the function as it stands, for each tile.

    Attributes:
      values: those that depend on data, by their place in `Base.of_data`.
      replaced: what takes the nodes' place, for each part; `None` where it is the same for
        all tiles.
    """

    values: dict[int, jax.Array]
    replaced: Sequence[Any]


class Replacement(NamedTuple):
    """What takes the place of a part's nodes in a tile, and whether each tile has its own."""

    value: Any
    by_tile: bool


class Question(NamedTuple):
    """What is measured: all that doesn't change between calls.

    Attributes:
      model: the function.
      plan: how to go through its nodes.
      kind: what takes a node's place: `"bias"`, `"resample"` or `"given"`.
    """

    model: Model
    plan: Plan
    kind: str

    @property
    def small_products(self) -> bool:
        return self.model.small_products

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

    def measured(self, metric: Callable, outputs: Sequence[jax.Array], y: Any) -> jax.Array:
        return metric(self.model.out_tree.unflatten(outputs), y)


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


def measure_whole(
    question: Question, metric: Callable, data: Data
) -> tuple[jax.Array, Kept | None]:
    """The metric of the function as it stands, and what its variants need if that is stored."""
    jaxpr, stored = question.model.program.jaxpr, question.plan.stored

    def of_tile(outputs, start):
        base, replacements = _compute(question, data, start)
        now = [base.read(atom) for atom in jaxpr.outvars]
        outputs = [_write(*pair, (start,)) for pair in zip(outputs, now, strict=True)]
        if not stored:
            return outputs, None
        values = base.of_data()
        needed = _needed(question, base, replacements)
        kept = {i: value for i, value in enumerate(values) if needed[i]}
        return outputs, Kept(kept, [r.value if r.by_tile else None for r in replacements])

    outputs, kept = jax.lax.scan(of_tile, question.outputs(), question.starts)
    return question.measured(metric, outputs, data.y), kept


def measure_without(
    question: Question,
    metric: Callable,
    k: int,
    data: Data,
    kept: Kept | None,
    variants: jax.Array,
) -> jax.Array:
    """The metric without each of some nodes.

    Args:
      question, metric, data: as `measure_whole` has them.
      k: which part the nodes are of.
      kept: what `measure_whole` returns.
      variants: the nodes' numbers (at_once,).

    Returns:
      (at_once, *metric's shape).
    """
    part, starts = question.plan.parts[k], question.starts
    stored = None if kept is None else _stored(question, data, kept)

    def of_block(outputs, variants):
        def of_tile(outputs, at):
            i, start = at
            base, replacements = stored(i) if stored else _compute(question, data, start)
            firsts = np.arange(0, part.block, part.chunk, dtype=np.int32)

            def of_chunk(outputs, step):
                first, which = step
                new = _changed(question, k, base, replacements[k].value, which)
                pairs = zip(outputs, new, strict=True)
                return [_write(*pair, (first, start)) for pair in pairs], None

            chunks = variants.reshape(-1, part.chunk)
            return jax.lax.scan(of_chunk, outputs, (firsts, chunks))[0], None

        numbers = np.arange(len(starts), dtype=np.int32)
        outputs, _ = jax.lax.scan(of_tile, outputs, (numbers, starts))
        measured = jax.vmap(lambda outputs: question.measured(metric, outputs, data.y))
        return outputs, measured(outputs)

    # Every block fills the room of the one before, which is cleared once.
    blocks = variants.reshape(-1, part.block)
    _, found = jax.lax.scan(of_block, question.outputs(part.block), blocks)
    return found.reshape(-1, *found.shape[2:])


def _changed(question, k, base, replacement, variants) -> list[jax.Array]:
    """A tile's outputs without each of some nodes."""
    part, jaxpr = question.plan.parts[k], question.model.program.jaxpr
    path, begin = beginning(question.model.program, part.nodes)
    changed = propagate(jaxpr, base, {}, {path: begin(variants, replacement)})
    now = [base.read(atom) for atom in jaxpr.outvars]
    return [_whole(*pair, len(variants)) for pair in zip(changed, now, strict=True)]


def _needed(question: Question, base: Base, replacements: Sequence[Replacement]) -> list[bool]:
    """Which values that depend on data the variants are computed of."""

    def of_all(values, instead):
        tile = base.with_data(iter(values))
        return [
            _changed(question, k, tile, instead[k], jnp.zeros(part.chunk, jnp.int32))
            for k, part in enumerate(question.plan.parts)
        ]

    values = base.of_data()
    jaxpr = jax.make_jaxpr(of_all)(values, [r.value for r in replacements]).jaxpr
    _, used = dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    return used[: len(values)]


def _compute(question: Question, data: Data, start: Any) -> tuple[Base, Sequence[Replacement]]:
    """All values of a tile's samples, and what replaces the nodes'."""
    model, arrays = question.model, data.arrays
    constant = len(arrays.consts) + len(arrays.fixed)
    is_data = [i >= constant for i in range(constant + len(arrays.leaves))]
    mine = [jax.lax.dynamic_slice_in_dim(leaf, start, model.tile) for leaf in arrays.leaves]
    base = run_base(model.program.jaxpr, [*arrays.consts, *arrays.fixed, *mine], is_data)
    return base, _replacements(question, data, base, is_data, start)


def _stored(question: Question, data: Data, kept: Kept):
    """A function of a tile's number: what `_compute` gives for its samples."""
    # What doesn't depend on data is the same for each tile, and computed apart.
    shared, first = _compute(question, data, question.starts[0])

    def tile_at(i):
        values, own = jax.tree.map(lambda k: jax.lax.dynamic_index_in_dim(k, i, 0, False), kept)
        # The others are never used: they stay those of the first tile.
        mine = (values.get(j, other) for j, other in enumerate(shared.of_data()))
        pairs = zip(own, first, strict=True)
        replacements = [r if value is None else Replacement(value, True) for value, r in pairs]
        return shared.with_data(mine), replacements

    return tile_at


def _of_tile(value: Any, start: Any, tile: int) -> Any:
    """What is given for these samples."""
    if not isinstance(value, PerSample):
        return value
    return jax.lax.dynamic_slice_in_dim(value.array, start, tile, value.axis)


def _write(whole: jax.Array, part: jax.Array, at: tuple[Any, ...]) -> jax.Array:
    zeros = (np.int32(0),) * (whole.ndim - len(at))
    return jax.lax.dynamic_update_slice(whole, part, (*at, *zeros))


def _replacements(question, data: Data, base: Base, is_data, start) -> Sequence[Replacement]:
    """What takes the nodes' place in this tile, for each part."""
    model, (arrays, _, given, order) = question.model, data
    names = [part.nodes.site.name for part in question.plan.parts]
    if order is not None:  # to resample by
        rows = jax.lax.dynamic_slice_in_dim(order, start, model.tile)
        others = [jnp.take(leaf, rows, axis=0, mode="clip") for leaf in arrays.leaves]
        inputs = [*arrays.fixed, *others]
        _, records = model.program.evaluate(arrays.consts, inputs, record=tuple(names))
        return [Replacement(records[name], True) for name in names]
    if question.kind == "bias":
        places = [model.program.place(name) for name in names]
        for place in places:
            check(
                loop_around(model.program, place) is None,
                f"expected a node outside of loops and branches, got {place.site!r} inside of one; "
                "use value='zero'",
                "ablate",
            )
        return [Replacement(*bias_value(model.program, p, base, is_data)) for p in places]
    return [Replacement(_of_tile(v, start, model.tile), isinstance(v, PerSample)) for v in given]


def _whole(made: Changed | None, base: jax.Array, variants: int) -> jax.Array:
    if made is None:
        return jnp.broadcast_to(base, (variants, *base.shape))
    return put(base, made) if isinstance(made, Thin) else made.values
