"""A node's value when the weighted sums that reach it are zero.

Zeroing a node's incoming weights, and leaving its bias, makes it answer
`activation(b)`. For any function: the value at the node's site with every result of a
dense or convolution operation on data set to zero, other nodes as they are.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.extend.core import Jaxpr, Literal

from jaxnodes.analysis.deltas import Base, can_enter
from jaxnodes.analysis.thin_rules import ELEMENTWISE
from jaxnodes.conv_primitive import conv_p
from jaxnodes.errors import JaxNodesError
from jaxnodes.interpreter.control_flow import bind, bodies
from jaxnodes.interpreter.program import Place, Program

_DENSE = {"dot_general", "conv_general_dilated", conv_p.name}
_LAYOUT = {"broadcast_in_dim", "reshape", "transpose", "squeeze", "expand_dims", "pad", "slice"}
_WINDOWS = {"reduce_window_max", "reduce_window_min", "reduce_window_sum"}


def bias_value(
    program: Program, place: Place, base: Base, data: Sequence[bool]
) -> tuple[Any, bool]:
    """The value at `place` with all weighted sums zero, of the shape of one step's value.

    Args:
      program: a traced function.
      place: a node outside of loops.
      base: the program's values as they are.
      data: of each of its constants and inputs, whether it is data.

    Returns:
      The value, and whether it still depends on data, as behind a skip connection.

    Raises:
      JaxNodesError: an operation on the way from a weighted sum mixes nodes, so that
        zeroing one node's weights changes others too.
    """
    jaxpr = program.jaxpr
    start = {
        var: _Value(base.values[var], is_data)
        for var, is_data in zip([*jaxpr.constvars, *jaxpr.invars], data, strict=True)
    }
    found: list[_Value] = []
    _run(jaxpr, start, program, base, (), place, found)
    (value,) = found
    if value.mixed:
        raise JaxNodesError(
            f"expected a weighted sum, a bias and an activation, but {value.mixed} on the way to "
            f"{place.site!r} mixes its nodes; use value='zero' or 'mean'",
            "ablate",
        )
    return value.array, value.varies


class _Value(NamedTuple):
    """A value, and what is known of it.

    Attributes:
      array: the value.
      varies: whether data changes it.
      touched: whether it is made of weighted sums, which are zero.
      mixed: what mixed nodes since then.
    """

    array: Any
    varies: bool = False
    touched: bool = False
    mixed: str | None = None


def _run(jaxpr: Jaxpr, env: dict, program, base: Base, path, target: Place, found: list) -> list:
    def read(atom):
        return _Value(atom.val) if isinstance(atom, Literal) else env[atom]

    for i, eqn in enumerate(jaxpr.eqns):
        here, operands = (*path, i), [read(atom) for atom in eqn.invars]
        name, is_data = eqn.primitive.name, any(v.varies or v.touched for v in operands)
        if can_enter(eqn):
            (body,) = bodies(eqn)
            inner = {var: _Value(base.inner[i].values[var]) for var in body.jaxpr.constvars}
            inner |= zip(body.jaxpr.invars, (operands[k] for k in body.operands), strict=True)
            outputs = _run(body.jaxpr, inner, program, base.inner[i], (*here, 0), target, found)
        elif name in _DENSE and is_data:
            zeros = jnp.zeros_like(base.values[eqn.outvars[0]])
            outputs = [_Value(zeros, touched=True)]
        else:
            touched = any(v.touched for v in operands)
            mixed = next((v.mixed for v in operands if v.mixed), None)
            keeps = name in ELEMENTWISE or name in _LAYOUT or _keeps_channels(eqn)
            if touched and not keeps:
                mixed = mixed or name
            varies = any(v.varies for v in operands)
            arrays = bind(eqn, [v.array for v in operands]) if touched else None
            outputs = [
                _Value(arrays[k] if arrays else base.values[var], varies, touched, mixed)
                for k, var in enumerate(eqn.outvars)
            ]
        for place in program.places.get(here, ()):
            if place is target:
                found.append(outputs[place.output])
            # Another node is as it is.
            outputs[place.output] = _Value(base.values[eqn.outvars[place.output]], is_data)
        env.update(zip(eqn.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _keeps_channels(eqn) -> bool:
    return eqn.primitive.name in _WINDOWS and eqn.params["window_dimensions"][-1] == 1
