"""How to go through all nodes of a function: how many at a time, within some memory."""

import math
from typing import Any, NamedTuple

import numpy as np
from jax.extend.core import Jaxpr

from jaxnodes.analysis.deltas import can_enter
from jaxnodes.analysis.model import Model, Nodes
from jaxnodes.interpreter.control_flow import bodies

_CHUNK_BYTES = 2**19  # what a chunk of variants should take, so that it stays near the cores
_BLOCK_BYTES = 2**24  # and the outputs of a block: small enough that memory is used again


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
        after = jaxpr.eqns[model.program.place(nodes.site.name).path[0] :]
        wide = max(_bytes(var) for eqn in after for var in eqn.outvars)
        largest = min(count, most, max(1, _BLOCK_BYTES // outputs) if stored else most)
        blocks = _up(_ceil_div(count, largest), calls)  # as many for each of those side by side
        chunk = max(1, min(_CHUNK_BYTES // wide, memory // (4 * wide)))
        chunk = _even(_ceil_div(count, blocks), chunk)
        block = _up(_ceil_div(count, blocks), chunk)
        at_once = _up(_ceil_div(count, calls), block) if stored else block
        parts.append(Part(nodes, at_once, block, chunk))
    return Plan(tuple(parts), stored)


def _ceil_div(number: int, size: int) -> int:
    """How many parts of a size a number of things takes."""
    return -(-number // size)


def _even(number: int, most: int) -> int:
    """The size of parts as alike as can be, of so many things at most."""
    return _ceil_div(number, _ceil_div(number, most))


def _up(number: int, step: int) -> int:
    """The next multiple of a step."""
    return _ceil_div(number, step) * step


def _all_bytes(jaxpr: Jaxpr) -> int:
    """What all values of a program take, those in its calls included."""
    inside = (b.jaxpr for eqn in jaxpr.eqns if can_enter(eqn) for b in bodies(eqn))
    return sum(_bytes(v) for eqn in jaxpr.eqns for v in eqn.outvars) + sum(map(_all_bytes, inside))


def _bytes(var: Any) -> int:
    return var.aval.size * var.aval.dtype.itemsize if hasattr(var, "aval") else 0
