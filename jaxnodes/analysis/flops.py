"""Floating-point operations of a program: those of its products, which are nearly all."""

import collections
import math
from collections.abc import Callable
from typing import Any

from jax.extend.core import Jaxpr, JaxprEqn

from jaxnodes.conv_primitive import conv_p
from jaxnodes.interpreter.control_flow import bodies
from jaxnodes.interpreter.program import Path


def count_flops(jaxpr: Jaxpr, label: Callable[[Path], Any], path: Path = ()) -> collections.Counter:
    """Two for each multiply-add of matrix products and convolutions, by label.

    A scan counts as often as it runs, a branch by its dearest side, a `shard_map` on every
    device, and a `while` loop, of which nobody knows how often it runs, once.

    Args:
      jaxpr: a program.
      label: of an equation, by its path.
      path: of the program.
    """
    counts: collections.Counter = collections.Counter()
    for i, eqn in enumerate(jaxpr.eqns):
        here = (*path, i)
        inner = [count_flops(b.jaxpr, label, (*here, k)) for k, b in enumerate(bodies(eqn))]
        if eqn.primitive.name == "cond":
            inner = [max(inner, key=lambda of_branch: of_branch.total())]
        for of_body in inner:
            for key, flops in of_body.items():
                counts[key] += _times(eqn) * flops
        if own := 2 * multiply_adds(eqn):
            counts[label(here)] += own
    return counts


def multiply_adds(eqn: JaxprEqn) -> int:
    """Of a matrix product or a convolution; zero for all else.

    A convolution multiplies at every place of its kernel, those over the padding too.
    """
    shapes: list[Any] = [var.aval for var in (*eqn.invars[:2], *eqn.outvars)]
    shapes = [getattr(aval, "shape", ()) for aval in shapes]
    if eqn.primitive.name == "dot_general":
        (contracted, _), _ = eqn.params["dimension_numbers"]
        return math.prod(shapes[2]) * math.prod(shapes[0][axis] for axis in contracted)
    if eqn.primitive is conv_p:
        geometry = eqn.params["geometry"]
        w = shapes[2 if eqn.params["side"] == "w" else 1]
        return shapes[0][0] * math.prod(geometry.outputs) * math.prod(w)
    if eqn.primitive.name == "conv_general_dilated":
        taps = math.prod(shapes[1]) // shapes[1][eqn.params["dimension_numbers"].rhs_spec[0]]
        # A dilated input, that of a transposed convolution, is mostly zeros put in between.
        return math.prod(shapes[2]) * taps // math.prod(eqn.params["lhs_dilation"])
    return 0


def _times(eqn: JaxprEqn) -> int:
    """How often the programs inside an equation run."""
    if eqn.primitive.name == "scan":
        return eqn.params["length"]
    return eqn.params["mesh"].size if eqn.primitive.name == "shard_map" else 1
