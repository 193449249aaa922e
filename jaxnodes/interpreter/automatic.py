"""Nodes of functions that name none: one for each dense or convolution operation.

An operation counts if exactly one of its operands depends on the data. Its node is
the exit of the largest region of elementwise operations that depend on the data only
through its result, and that is left through one value alone: bias, normalization at
inference and activation are inside; a skip addition, pooling and a softmax are not.
The nodes lie along the last free dimension of the weight, which is followed through
transposes, and through reshapes that leave it whole.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.extend.core import Jaxpr, JaxprEqn, Literal

from jaxnodes.interpreter.control_flow import CALLS, CUSTOM_GRADIENTS, KNOWN, Body, bodies
from jaxnodes.interpreter.dataflow import data_in, flow, settled
from jaxnodes.interpreter.program import Path, Place
from jaxnodes.interpreter.sites import join, plain
from jaxnodes.primitive import node_p

_NAMES = """
abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e cbrt ceil clamp
conj convert_element_type copy cos cosh digamma div eq erf erf_inv erfc exp exp2 expm1 floor
ge gt imag integer_pow is_finite le lgamma log log1p logistic lt max min mul name ne neg nextafter
node not one_minus_square optimization_barrier or pow pvary real reduce_precision rem round rsqrt
select_n sharding_constraint sign sin sinh sqrt square stop_gradient sub tan tanh xor
"""
ELEMENTWISE = frozenset(_NAMES.split())
RESHAPES = frozenset({"reshape", "squeeze", "expand_dims", "broadcast_in_dim"})
_OUTSIDE: Any = object()  # the axis of what doesn't come of the operation


@dataclasses.dataclass(frozen=True)
class Operation:
    """A dense or convolution operation with one operand of data."""

    kind: str
    scope: str
    order: int


class _End(NamedTuple):
    """How far the region of an operation has come: an output of an equation."""

    operation: Operation
    equation: int
    output: int
    axis: int | None


def find_automatic(jaxpr: Jaxpr, data: Sequence[bool]) -> dict[Path, list[Place]]:
    """The automatic nodes of a program, by the path of the equation they come out of.

    Args:
      jaxpr: the program.
      data: of each of its constants and inputs, whether it is data.
    """
    search = _Search()
    search.body(jaxpr, data, (), "", call=False)
    places: dict[Path, list[Place]] = {}
    counts: dict[str, int] = {}
    for operation, place in sorted(search.found, key=lambda pair: pair[0].order):
        if not plain(place.scope):
            counts[operation.kind] = counts.get(operation.kind, 0) + 1
            place.name = f"{operation.kind}{counts[operation.kind]}"
        places.setdefault(place.path, []).append(place)
    return places


class _Search:
    def __init__(self):
        self.found: list[tuple[Operation, Place]] = []
        self.seen = 0

    def body(self, jaxpr, data, path, scope, call) -> dict[int, tuple[Operation, int | None]]:
        """Finds the nodes of one program.

        Returns:
          Of a program that its equation `call`s, the operations whose region is still
          open, by the output that it has come to.
        """
        graph = _Graph(jaxpr, data)
        open_ends = {}
        for i, eqn in enumerate(jaxpr.eqns):
            if i not in graph.live:
                continue
            for start in self.starts(eqn, i, graph, path, scope):
                end = graph.exit(start)
                if end is None:
                    continue
                var = jaxpr.eqns[end.equation].outvars[end.output]
                if call and not graph.uses.get(var) and jaxpr.outvars.count(var) == 1:
                    open_ends[jaxpr.outvars.index(var)] = (end.operation, end.axis)
                    continue
                inner = end.operation.scope[len(scope) :].lstrip("/")
                place = Place(
                    path=(*path, end.equation),
                    output=end.output,
                    scope=end.operation.scope,
                    name=None,
                    axis=end.axis,
                    aval=var.aval,
                    inner_scope=inner,
                )
                self.found.append((end.operation, place))
        return open_ends

    def starts(self, eqn, i, graph, path, scope) -> list[_End]:
        """The operations whose results come out of an equation."""
        name, data = eqn.primitive.name, graph.data_of(eqn.invars)
        scope = join(scope, str(eqn.source_info.name_stack))
        if name in _OPERATIONS:
            around, _, last = scope.rpartition("/")
            scope = around if "->" in last else scope  # einsum's scope is its equation
            if sum(data) != 1 or (axis := _OPERATIONS[name](eqn, data)) is _OUTSIDE:
                return []
            self.seen += 1
            kind = "dense" if name == "dot_general" else "conv"
            return [_End(Operation(kind, scope, self.seen), i, 0, axis)]
        if name not in KNOWN:
            return []
        data, starts = settled(eqn, data), []
        call = name in CALLS | CUSTOM_GRADIENTS
        for k, body in enumerate(bodies(eqn)):
            ends = self.body(body.jaxpr, data_in(body, data), (*path, i, k), scope, call)
            starts += [_End(operation, i, out, axis) for out, (operation, axis) in ends.items()]
        return starts


class _Graph:
    """Of one program: what depends on the data, what is used, and where."""

    def __init__(self, jaxpr: Jaxpr, data: Sequence[bool]):
        self.eqns: Any = jaxpr.eqns
        self.data = flow(jaxpr, data)
        self.outputs = {var for var in jaxpr.outvars if not isinstance(var, Literal)}
        self.live: set[int] = set()
        self.uses: dict[Any, list[int]] = {}
        for i, eqn in reversed(list(enumerate(jaxpr.eqns))):
            if eqn.effects or any(var in self.outputs or var in self.uses for var in eqn.outvars):
                self.live.add(i)
                for var in eqn.invars:
                    if not isinstance(var, Literal):
                        self.uses.setdefault(var, []).append(i)

    def data_of(self, atoms: Sequence[Any]) -> list[bool]:
        return [not isinstance(atom, Literal) and self.data[atom] for atom in atoms]

    def exit(self, start: _End) -> _End | None:
        """Where the region of an operation ends; `None` if an explicit node is in it."""
        result = self.eqns[start.equation].outvars[start.output]
        axes = {result: start.axis}
        made_by: dict[Any, int] = {}
        exits = [start]
        for i, eqn in list(enumerate(self.eqns))[start.equation + 1 :]:
            data = self.data_of(eqn.invars)
            operands = [
                axes.get(var, _OUTSIDE) if is_data else _OUTSIDE
                for var, is_data in zip(eqn.invars, data, strict=True)
            ]
            inside = [axis is not _OUTSIDE for axis in operands]
            if i not in self.live or not any(inside) or inside != data:
                continue
            outs = _follow(eqn, operands)
            if outs is None:
                continue
            if _has_node(eqn):
                return None
            for k, (var, axis) in enumerate(zip(eqn.outvars, outs, strict=True)):
                if axis is not _OUTSIDE:
                    axes[var], made_by[var] = axis, i
                    if self._is_exit(var, result, made_by):
                        exits.append(_End(start.operation, i, k, axis))
        whole = [
            end
            for end in exits
            if self.eqns[end.equation].primitive.name not in RESHAPES
            and jnp.issubdtype(self.eqns[end.equation].outvars[end.output].aval.dtype, jnp.inexact)
        ]
        return (whole or exits[:1])[-1]

    def _is_exit(self, var: Any, result: Any, made_by: dict[Any, int]) -> bool:
        """Whether all that comes of `result` goes through `var`."""
        equations, pending = set(), [var]
        while pending:
            i = made_by.get(pending.pop())
            if i is not None and i not in equations:
                equations.add(i)
                pending += [v for v in self.eqns[i].invars if not isinstance(v, Literal)]
        before = {result} | {v for i in equations for v in self.eqns[i].outvars}
        return all(
            v not in self.outputs and equations.issuperset(self.uses.get(v, ()))
            for v in before - {var}
        )


def _follow(eqn: Any, axes: Sequence[Any]) -> list[Any] | None:
    """Where the nodes lie in the outputs of an equation; `None` if it isn't of the region.

    Args:
      axes: for each operand the axis of the nodes, `_OUTSIDE` if it isn't of the region.
    """
    name = eqn.primitive.name
    inside = [
        (var, axis) for var, axis in zip(eqn.invars, axes, strict=True) if axis is not _OUTSIDE
    ]
    (var, axis), out = inside[0], eqn.outvars[0]
    if name in ELEMENTWISE and len(eqn.outvars) == 1:
        alike = all(a == axis and v.aval.shape == out.aval.shape for v, a in inside)
        return [axis] if alike else None
    if name == "transpose":
        return [axis if axis is None else eqn.params["permutation"].index(axis)]
    if name in RESHAPES and math.prod(var.aval.shape) == math.prod(out.aval.shape):
        if axis is not None:
            axis = _same_axis(var.aval.shape, out.aval.shape, axis)
        return None if axis is _OUTSIDE else [axis]
    if name in CALLS | CUSTOM_GRADIENTS and name != "shard_map":
        return _follow_body(bodies(eqn)[0], axes)
    return None


def _follow_body(body: Body, axes: Sequence[Any]) -> list[Any] | None:
    inputs = [*body.jaxpr.constvars, *body.jaxpr.invars]
    env = dict(zip(inputs, [*[_OUTSIDE] * len(body.consts), *axes], strict=True))

    def read(atom):
        return _OUTSIDE if isinstance(atom, Literal) else env[atom]

    for eqn in body.jaxpr.eqns:
        operands = [read(atom) for atom in eqn.invars]
        outs: list[Any] | None = [_OUTSIDE] * len(eqn.outvars)
        if any(axis is not _OUTSIDE for axis in operands):
            outs = _follow(eqn, operands)
            if outs is None:
                return None
        env |= zip(eqn.outvars, outs, strict=True)
    return [read(atom) for atom in body.jaxpr.outvars]


def _same_axis(shape: tuple[int, ...], new: tuple[int, ...], axis: int) -> Any:
    """The axis of `new` that is the axis `axis` of `shape`, if a reshape leaves it whole."""
    before = math.prod(shape[:axis])
    for i, size in enumerate(new):
        if size == shape[axis] and math.prod(new[:i]) == before:
            return i
    return _OUTSIDE


def _has_node(eqn: JaxprEqn) -> bool:
    return eqn.primitive is node_p or any(
        _has_node(inner) for body in bodies(eqn) for inner in body.jaxpr.eqns
    )


def _dense_axis(eqn: Any, data: Sequence[bool]) -> int | None:
    """The axis of the result that is the weight's last free dimension."""
    contracted, batch = eqn.params["dimension_numbers"]
    free = [
        len(var.aval.shape) - len(contracted[side]) - len(batch[side])
        for side, var in enumerate(eqn.invars)
    ]
    weight = 1 if data[0] else 0
    return len(batch[0]) + sum(free[: weight + 1]) - 1 if free[weight] else None


def _conv_axis(eqn: Any, data: Sequence[bool]) -> Any:
    return eqn.params["dimension_numbers"].out_spec[1] if data[0] else _OUTSIDE


_OPERATIONS = {"dot_general": _dense_axis, "conv_general_dilated": _conv_axis}
