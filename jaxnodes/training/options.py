"""How XLA compiles programs that train, on CPU.

XLA prefers vectors of 256 bits even on a CPU that has wider ones. And it hands products to one of
two libraries, by default to YNNPACK where that takes them. Of networks whose matrices are small
the other one, Eigen, makes more of two cores, up to a quarter of a training step; of larger
matrices, of few rows, in loops over time and of many matrices at once it is the slower one
(docs/performance-notes.md has the figures).
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Jaxpr, jaxprs_in_params

Options = dict[str, int | str]

_WIDEST: Options = {"xla_cpu_prefer_vector_width": 512}

#: What YNNPACK is left with: sums.
_EIGEN: Options = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"}

_FEWEST_ROWS = 64
_SMALL = 2**18  # numbers of a matrix, 1 MB in float32


@functools.cache
def compiler_options(small_products: bool = False) -> Options | None:
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


def has_small_products(jaxpr: Jaxpr) -> bool:
    """Whether all products are of 64 rows or more by a small matrix, and none is in a loop."""
    found = list(_small_products(jaxpr))
    return bool(found) and all(found)


def _small_products(jaxpr: Jaxpr):
    """Of each product whether it is a small one, and `False` for a loop."""
    for eqn in jaxpr.eqns:
        if eqn.primitive.name in ("scan", "while"):
            yield False
        elif eqn.primitive.name == "dot_general":
            x, w = (v.aval for v in eqn.invars)
            yield _is_small(x, w, eqn.params["dimension_numbers"])
        else:
            for inner in jaxprs_in_params(eqn.params):
                yield from _small_products(inner)


def _is_small(x: Any, w: Any, dimensions: Any) -> bool:
    (contracted, _), (batched, _) = dimensions
    rows = math.prod(size for axis, size in enumerate(x.shape) if axis not in contracted)
    many, small = rows >= _FEWEST_ROWS, w.size < _SMALL
    return not batched and many and small and x.dtype in (jnp.float32, jnp.float64)
