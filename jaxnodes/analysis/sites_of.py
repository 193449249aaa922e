"""Which of a site's steps hold different nodes, and the shape of what is said of each node."""

from collections.abc import Sequence

from jax.extend.core import Literal

from jaxnodes.control_flow import bodies
from jaxnodes.dataflow import data_in, flow, settled
from jaxnodes.program import Program


def layer_steps(program: Program, name: str, fixed: int) -> tuple[bool, ...]:
    """For each scan around a site, the outermost first, whether its steps are layers.

    A scan that slices parameters alone is a stack of layers, each with nodes of its
    own. One that slices data, or nothing, is over time: a node is the same at each step.

    Args:
      program: a traced function.
      name: of the site.
      fixed: how many of the program's constants and inputs, the first ones, are not data.
    """
    jaxpr = program.jaxpr
    inputs = [*jaxpr.constvars, *jaxpr.invars]
    data: Sequence[bool] = [i >= fixed for i in range(len(inputs))]
    (path, *_) = (p.path for ps in program.places.values() for p in ps if p.site == name)
    steps = []
    for i, k in zip(path[:-1:2], path[1::2], strict=True):
        eqn, flags = jaxpr.eqns[i], flow(jaxpr, data)
        operands = [not isinstance(atom, Literal) and flags[atom] for atom in eqn.invars]
        if eqn.primitive.name == "scan":
            sliced = _sliced(eqn, operands)
            steps.append(bool(sliced) and not any(sliced))
        body = bodies(eqn)[k]
        data = data_in(body, settled(eqn, operands))
        jaxpr = body.jaxpr
    return tuple(steps)


def node_shape(program: Program, name: str, fixed: int) -> tuple[int, ...]:
    """The shape of one number for each node of a site: (size,), or (n, size) for n layers."""
    site = program.sites[name]
    layers = layer_steps(program, name, fixed)
    return (*(n for n, layer in zip(site.steps, layers, strict=True) if layer), site.size)


def _sliced(eqn, operands: list[bool]) -> list[bool]:
    """Of the operands that a scan slices, which are data."""
    (body,) = bodies(eqn)
    whole = [
        var.aval.ndim == inner.aval.ndim
        for var, inner in zip(eqn.invars, body.jaxpr.invars, strict=True)
    ]
    return [flag for flag, same in zip(operands, whole, strict=True) if not same]
