"""Which of a site's steps hold different nodes, and the shape of what is said of each node."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax.extend.core import Literal

from jaxnodes.interpreter.control_flow import bodies
from jaxnodes.interpreter.dataflow import data_in, flow, settled
from jaxnodes.interpreter.program import Program


def layer_steps(program: Program, name: str, fixed: int) -> tuple[bool, ...]:
    """For each scan around a site, the outermost first, whether its steps are layers.

    A scan that slices parameters, and no data, is a stack of layers, each with nodes of
    its own. One that slices data, or neither (a counter, say), is over time: a node is the
    same at each step.

    Args:
      program: a traced function.
      name: of the site.
      fixed: how many of the program's constants and inputs, the first ones, are not data.
    """
    jaxpr = program.jaxpr
    inputs = [*jaxpr.constvars, *jaxpr.invars]
    data: Sequence[bool] = [i >= fixed for i in range(len(inputs))]
    params: Sequence[bool] = [i < fixed for i in range(len(inputs))]
    path = program.place(name).path
    steps = []
    for i, k in zip(path[:-1:2], path[1::2], strict=True):
        eqn: Any = jaxpr.eqns[i]
        of_data, of_params = (_operands(eqn, flow(jaxpr, flags)) for flags in (data, params))
        if eqn.primitive.name == "scan":
            sliced = _sliced(eqn)
            floating = [i for i in sliced if jnp.issubdtype(eqn.invars[i].aval.dtype, jnp.inexact)]
            weights, samples = any(of_params[i] for i in floating), any(of_data[i] for i in sliced)
            steps.append(weights and not samples)
        body = bodies(eqn)[k]
        data, params = (data_in(body, settled(eqn, flags)) for flags in (of_data, of_params))
        jaxpr = body.jaxpr
    return tuple(steps)


def node_shape(program: Program, name: str, fixed: int) -> tuple[int, ...]:
    """The shape of one number for each node of a site: (size,), or (n, size) for n layers."""
    site = program.sites[name]
    layers = layer_steps(program, name, fixed)
    return (*(n for n, layer in zip(site.steps, layers, strict=True) if layer), site.size)


def _operands(eqn, flags: dict) -> list[bool]:
    """Of an equation's operands, which are flagged."""
    return [not isinstance(atom, Literal) and flags[atom] for atom in eqn.invars]


def _sliced(eqn: Any) -> list[int]:
    """The operands that a scan slices."""
    (body,) = bodies(eqn)
    inner: Any = body.jaxpr.invars
    pairs = enumerate(zip(eqn.invars, inner, strict=True))
    return [i for i, (var, inner) in pairs if var.aval.ndim != inner.aval.ndim]
