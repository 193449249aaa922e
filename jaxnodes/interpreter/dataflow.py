"""What in a program depends on the data, and what on parameters alone."""

from collections.abc import Sequence
from typing import Any

from jax.extend.core import Jaxpr, JaxprEqn, Literal

from jaxnodes.interpreter.control_flow import KNOWN, Body, bodies, carried


def flow(jaxpr: Jaxpr, data: Sequence[bool]) -> dict[Any, bool]:
    """Of every variable of a program, whether it depends on the data.

    Args:
      jaxpr: the program.
      data: of each of its constants and inputs, whether it is data.
    """
    flags = dict(zip([*jaxpr.constvars, *jaxpr.invars], data, strict=True))
    for eqn in jaxpr.eqns:
        operands = [not isinstance(atom, Literal) and flags[atom] for atom in eqn.invars]
        flags |= zip(eqn.outvars, _outputs(eqn, operands), strict=True)
    return flags


def settled(eqn: JaxprEqn, data: Sequence[bool]) -> list[bool]:
    """Of the operands of a loop, which are data after any number of its steps."""
    data = list(data)
    while loop := carried(eqn):
        outputs = _body_outputs(bodies(eqn)[-1], data)
        after = [*data]
        for output, operand in loop.items():
            after[operand] |= outputs[output]
        if after == data:
            break
        data = after
    return data


def data_in(body: Body, data: Sequence[bool]) -> list[bool]:
    """Of the constants and inputs of a program inside an equation, which are data."""
    return [*[False] * len(body.consts), *(data[i] for i in body.operands)]


def _outputs(eqn: JaxprEqn, data: Sequence[bool]) -> list[bool]:
    name = eqn.primitive.name
    if not any(data) or name not in KNOWN:
        return [any(data)] * len(eqn.outvars)
    data = settled(eqn, data)
    outputs = [_body_outputs(body, data) for body in bodies(eqn)]
    if (name == "cond" and data[0]) or (name == "while" and outputs[0][0]):
        return [True] * len(eqn.outvars)  # which way it went, or how often, is data
    if name == "while":
        outputs = outputs[1:]
    return [any(flags) for flags in zip(*outputs, strict=True)]


def _body_outputs(body: Body, data: Sequence[bool]) -> list[bool]:
    flags = flow(body.jaxpr, data_in(body, data))
    return [not isinstance(atom, Literal) and flags[atom] for atom in body.jaxpr.outvars]
