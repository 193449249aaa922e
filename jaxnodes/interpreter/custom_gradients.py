"""Recording inside a function with a custom gradient, without touching that gradient.

Both functions here make one function of three: `both`, which returns outputs and
records; `outputs`, the function as it stands, with its own rule; and `records`, its
primal, of which the records are taken. The outputs are differentiated by their own
rule, the records by differentiating the primal.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero


def jvp_with_records(both: Callable, outputs: Callable, records: Callable) -> Callable:
    """`both`, for a function with a `jax.custom_jvp`."""
    function = jax.custom_jvp(both)

    @function.defjvp
    def _(primals, tangents):
        y, dy = jax.jvp(outputs, primals, tangents)
        nodes, dnodes = jax.jvp(records, primals, tangents)
        return (y, nodes), (dy, dnodes)

    return function


def vjp_with_records(both: Callable, outputs: Callable, records: Callable) -> Callable:
    """`both`, for a function with a `jax.custom_vjp`.

    What is not differentiated costs nothing on the way back, and has no rule called.
    """
    function = jax.custom_vjp(both)

    def forward(*operands):
        values = [operand.value for operand in operands]
        y, pull_y = jax.vjp(outputs, *values)
        nodes, pull_nodes = jax.vjp(records, *values)
        return (y, nodes), (pull_y, pull_nodes)

    def backward(pulls, cotangents):
        (pull_y, pull_nodes), (dy, dnodes) = pulls, cotangents
        if _all_zero(dy):
            return pull_nodes(_instantiate(dnodes))
        if _all_zero(dnodes):
            return pull_y(_instantiate(dy))
        return tuple(map(_add, pull_y(_instantiate(dy)), pull_nodes(_instantiate(dnodes))))

    function.defvjp(forward, backward, symbolic_zeros=True)
    return function


def _is_zero(cotangent: Any) -> bool:
    return isinstance(cotangent, SymbolicZero)


def _all_zero(cotangents: Any) -> bool:
    return all(map(_is_zero, jax.tree.leaves(cotangents, is_leaf=_is_zero)))


def _instantiate(cotangents: Any) -> Any:
    def zeros(cotangent):
        if not _is_zero(cotangent):
            return cotangent
        make = np.zeros if cotangent.dtype == jax.dtypes.float0 else jnp.zeros
        return make(cotangent.shape, cotangent.dtype)

    return jax.tree.map(zeros, cotangents, is_leaf=_is_zero)


def _add(x: Any, y: Any) -> Any:
    return x if x.dtype == jax.dtypes.float0 else x + y
