"""The first change: a node's value replaced, for many nodes at once."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp

from jaxnodes.analysis.changes import Changed, Full, Thin, take
from jaxnodes.analysis.deltas import can_enter
from jaxnodes.analysis.model import Nodes
from jaxnodes.interpreter.control_flow import bodies
from jaxnodes.interpreter.interventions import parse
from jaxnodes.interpreter.program import Place, Program


def beginning(program: Program, nodes: Nodes):
    """Where the change of a site's nodes begins, and what makes it.

    Returns:
      The path of an equation, the nodes' own or the loop around it, and a function of
      `(variants, replacement)`, which gives that equation's `Source` (see `deltas`).
    """
    place = program.place(nodes.site.name)
    loop = loop_around(program, place)
    if loop is None:
        return place.path, functools.partial(_thin, place)
    return loop, functools.partial(_patched, program, loop, nodes)


def loop_around(program: Program, place: Place) -> tuple[int, ...] | None:
    """The path of the loop that a place is in, if it is in one."""
    jaxpr = program.jaxpr
    for end in range(1, len(place.path), 2):
        eqn = jaxpr.eqns[place.path[end - 1]]
        if not can_enter(eqn):
            return place.path[:end]
        jaxpr = bodies(eqn)[place.path[end]].jaxpr
    return None


def _thin(place: Place, variants: jax.Array, replacement: Any):
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
