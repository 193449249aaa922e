"""How XLA compiles programs that train or measure, on CPU.

XLA prefers vectors of 256 bits even on a CPU that has wider ones. And it hands products to one of
two libraries, by default to YNNPACK where that takes them. Of networks whose matrices are small
the other one, Eigen, makes more of two cores, up to a fifth of a training step or an ablation; of
larger matrices, of few rows, in loops over time and of many matrices at once it is the slower one
(docs/performance-notes.md has the figures).
"""

import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Jaxpr, JaxprEqn, Var, jaxprs_in_params

from jaxnodes.conv_primitive import conv_p

Options = dict[str, int | str]

_WIDEST: Options = {"xla_cpu_prefer_vector_width": 512}

#: What YNNPACK is left with: sums.
_EIGEN: Options = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"}

_FEWEST_ROWS = 64
_SMALL = 2**18  # numbers of a matrix, 1 MB in float32

# Where there is one of these, no product counts: loops, and products in disguise.
_OTHERS = ("scan", "while", "conv_general_dilated", conv_p.name)


@functools.cache
def compiler_options(small_products: bool) -> Options | None:
    """Options for `jax.jit`; with `small_products`, those for `has_small_products`.

    Which backend there is, and whether its compiler knows an option, can be asked only once
    something runs on it.
    """
    if jax.default_backend() != "cpu":
        return None
    asked = _WIDEST | _EIGEN if small_products else _WIDEST
    if _are_known(asked):
        return asked
    return {name: asked[name] for name in asked if _are_known({name: asked[name]})} or None


def _are_known(options: Options) -> bool:
    try:
        jax.jit(lambda: 0, compiler_options=options).lower().compile()
    except jax.errors.JaxRuntimeError:  # XLA may drop an option at any time
        return False
    return True


def has_small_products(jaxpr: Jaxpr, inputs: int) -> bool:
    """Whether a network has products, all of 64 rows or more of data by a small matrix.

    And no convolutions, which are products in disguise, and no loops.

    Args:
      jaxpr: of the network at inference; what else a step of training does isn't looked at.
      inputs: how many of its last arguments are data. The rest are parameters.
    """
    held = len(jaxpr.invars) - inputs
    found = list(_small_products(jaxpr, [i >= held for i in range(len(jaxpr.invars))]))
    return bool(found) and all(found)


def _small_products(jaxpr: Jaxpr, given: Sequence[bool]) -> Iterator[bool]:
    """Of each product whether it is a small one, and `False` for a loop or a convolution.

    Args:
      jaxpr: any.
      given: for each of its arguments, whether it depends on the data.
    """
    data = {v for v, is_data in zip(jaxpr.invars, given, strict=True) if is_data}
    for eqn in jaxpr.eqns:
        # A literal is no data, and can't be in a set.
        depends = [isinstance(v, Var) and v in data for v in eqn.invars]
        if any(depends):
            data.update(eqn.outvars)
        if eqn.primitive.name in _OTHERS:
            yield False
        elif eqn.primitive.name == "dot_general":
            yield _is_small(eqn, depends)
        else:
            for inner in jaxprs_in_params(eqn.params):  # a branch has no operand that chooses it
                unfed = [False] * (len(inner.invars) - len(depends))
                last = depends[len(depends) - len(inner.invars) + len(unfed) :]
                yield from _small_products(inner, [*unfed, *last])


def _is_small(eqn: JaxprEqn, depends: Sequence[bool]) -> bool:
    (first, second), (batched, _) = eqn.params["dimension_numbers"]
    sides: list[Any] = [(v.aval, axes) for v, axes in zip(eqn.invars, (first, second), strict=True)]
    (x, contracted), (w, _) = sides if depends[0] else reversed(sides)
    rows = math.prod(size for axis, size in enumerate(x.shape) if axis not in contracted)
    small = rows >= _FEWEST_ROWS and w.size < _SMALL
    of_both = depends[0] == depends[1]
    return small and not batched and not of_both and x.dtype in (jnp.float32, jnp.float64)
