"""Which line of a summary each equation and each parameter of a program belongs to.

An equation belongs to its scope, and there to the node that it flows into first: a scope
may have several, or none, and nodes may have no scope. A parameter belongs where it is
used first.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from jax.extend.core import Jaxpr, JaxprEqn, Literal

from jaxnodes.conv_primitive import conv_p
from jaxnodes.interpreter.automatic import ELEMENTWISE
from jaxnodes.interpreter.control_flow import KNOWN, bodies
from jaxnodes.interpreter.dataflow import data_in, flow, settled
from jaxnodes.interpreter.program import Path, Program
from jaxnodes.interpreter.sites import join, plain

_KINDS = {
    "conv": {"conv_general_dilated", conv_p.name},
    "dense": {"dot_general"},
    "pool": {"reduce_window_max", "reduce_window_sum", "reduce_window_min", "reduce_window"},
}


class Row(NamedTuple):
    """A line: the shape of its output, that output's bytes, and the kind of its operations."""

    shape: tuple[int, ...]
    memory: int
    kind: str


#: Of what is used nowhere, or where nobody can see it.
NO_ROW = Row((), 0, "")


class _Next(NamedTuple):
    """Where a value is used first, and the node that comes of it first."""

    row: str | None = None
    site: str | None = None


class Rows:
    """The lines of a program.

    Attributes:
      rows: by name, in program order.
      inputs: of each constant and input of the program, the line where it is used first.
    """

    def __init__(self, program: Program, fixed: int):
        self._places = program.places
        self._named: dict[str, set[str]] = {}
        for place in (place for places in program.places.values() for place in places):
            self._named.setdefault(plain(place.scope), set()).add(place.site)
        self._keys: dict[Path, str] = {}
        self._outputs: dict[str, tuple[bool, tuple[int, ...], Any]] = {}
        self._operations: dict[str, set[str]] = {}
        jaxpr = program.jaxpr
        count = len(jaxpr.constvars) + len(jaxpr.invars)
        data = [i >= fixed for i in range(count)]
        after = [_Next()] * len(jaxpr.outvars)
        self.inputs = [found.row or "" for found in self._visit(jaxpr, data, "", (), (), after)]
        names = list(reversed(self._operations))
        names.sort(key=lambda name: name == "")  # "" is the rest, and comes last
        self.rows = {name: self._row(name) for name in names}

    def row_of(self, path: Path) -> str:
        """The line of an equation, or of the one that it is inside."""
        while path not in self._keys:
            path = path[:-2]
        return self._keys[path]

    def _visit(self, jaxpr: Jaxpr, data, scope, path, steps, after) -> list[_Next]:
        """Goes through a program from its end.

        Args:
          data: of its constants and inputs, which depend on the data.
          scope, path, steps: where it is, and the scans around it.
          after: what comes of each output.

        Returns:
          The same for its constants and inputs.
        """
        flags = flow(jaxpr, data)
        into = {
            var: found
            for var, found in zip(jaxpr.outvars, after, strict=True)
            if not isinstance(var, Literal)
        }
        for i, eqn in reversed(list(enumerate(jaxpr.eqns))):
            here, inner = (*path, i), join(scope, str(eqn.source_info.name_stack))
            operands = [not isinstance(var, Literal) and flags[var] for var in eqn.invars]
            outs = [into.get(var, _Next()) for var in eqn.outvars]
            for place in self._places.get(here, ()):
                outs[place.output] = _Next(place.site, place.site)
            if eqn.primitive.name in KNOWN:
                before = self._inside(eqn, operands, inner, here, steps, outs)
            else:
                row, site = self._belongs(inner, outs, any(operands))
                self._note(row, eqn, here, steps, any(operands))
                before = [_Next(row, site)] * len(eqn.invars)
            for var, (row, site) in zip(eqn.invars, before, strict=True):
                if not isinstance(var, Literal):
                    later = into.get(var, _Next())
                    into[var] = _Next(row or later.row, site or later.site)
        return [into.get(var, _Next()) for var in (*jaxpr.constvars, *jaxpr.invars)]

    def _inside(self, eqn: JaxprEqn, operands, scope, path, steps, outs) -> list[_Next]:
        before = [_Next()] * len(eqn.invars)
        data = settled(eqn, operands)
        if eqn.primitive.name == "scan":
            steps = (*steps, eqn.params["length"])
        for k, body in reversed(list(enumerate(bodies(eqn)))):
            test = eqn.primitive.name == "while" and k == 0
            after = [_Next()] * len(body.jaxpr.outvars) if test else outs
            found = self._visit(body.jaxpr, data_in(body, data), scope, (*path, k), steps, after)
            inputs = found[len(body.jaxpr.constvars) :]
            for operand, (row, site) in zip(body.operands, inputs, strict=True):
                later = before[operand]
                before[operand] = _Next(row or later.row, site or later.site)
        return before

    def _belongs(self, scope: str, outs: Sequence[_Next], data: bool) -> tuple[str, str | None]:
        """The line of an equation, and the node that comes of it first.

        Without a scope, what is made of parameters alone belongs where it is used.
        """
        scope = "/".join(part for part in plain(scope).split("/") if "->" not in part)  # einsum's
        row, site = (next(filter(None, each), None) for each in zip(_Next(), *outs, strict=True))
        if site in self._named.get(scope, ()):
            return site or "", site
        return scope or ("" if data else row or ""), site

    def _note(self, row: str, eqn: JaxprEqn, path: Path, steps: tuple[int, ...], data: bool):
        """Its line, whose output is that of its last equation: on data, in the fewest loops."""
        self._keys[path] = row
        self._operations[row] = self._operations.pop(row, set()) | {eqn.primitive.name}
        rank, last = (not data, len(steps)), self._outputs.get(row)
        if eqn.outvars and (last is None or rank < (not last[0], len(last[1]))):
            self._outputs[row] = data, steps, eqn.outvars[0].aval

    def _row(self, key: str) -> Row:
        operations = self._operations[key]
        kinds = [kind for kind, names in _KINDS.items() if names & operations]
        kinds += ["elementwise"] if operations <= ELEMENTWISE else [""]
        if key not in self._outputs:
            return NO_ROW._replace(kind=kinds[0])
        _, steps, aval = self._outputs[key]
        shape = (*steps, *aval.shape)
        return Row(shape, math.prod(shape) * aval.dtype.itemsize, kinds[0])
