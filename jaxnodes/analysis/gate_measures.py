"""Importance by derivatives of the loss with respect to gates on the nodes.

With gates g, 1 for a node as it is and 0 for one removed, the loss L(g) grows by
L(0) - L(1) when a node goes. Each measure here says how much, from derivatives.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnodes.analysis.model import Arrays, ByName, Model
from jaxnodes.analysis.samples import compiled


def taylor(model: Model, loss: Callable, arrays: Arrays, y: Any) -> ByName:
    """-dL/dg."""
    slopes = jax.grad(_gated_loss(model, loss, arrays, y))(model.ones())
    return jax.tree.map(jnp.negative, slopes)


def taylor2(model: Model, loss: Callable, arrays: Arrays, y: Any, memory: int) -> ByName:
    """-dL/dg + 1/2 d2L/dg2, site by site, several nodes at once."""
    found = {}
    for nodes in model.nodes:
        count = int(np.prod(nodes.shape))
        chunk = model.chunk(count, memory, times=6)  # values, and two derivatives of each
        measure = compiled(_second_order, model, loss, nodes.site.name, chunk)
        found[nodes.site.name] = measure(arrays, y)
    return found


def _second_order(model: Model, loss: Callable, name: str, chunk: int, arrays: Arrays, y: Any):
    total, ones = _gated_loss(model, loss, arrays, y), model.ones()[name]

    def of_node(i):
        only = jnp.zeros(ones.size, ones.dtype).at[i].set(1).reshape(ones.shape)

        def slope(t):
            one = jnp.ones_like(t)
            return jax.jvp(lambda t: total({name: ones + t * only}), (t,), (one,))[1]

        zero = jnp.zeros((), ones.dtype)
        first, second = jax.jvp(slope, (zero,), (jnp.ones_like(zero),))
        return second / 2 - first

    return jax.lax.map(of_node, jnp.arange(ones.size), batch_size=chunk).reshape(ones.shape)


def integrated_gradients(model: Model, loss: Callable, steps: int, arrays: Arrays, y: Any):
    """-int dL/dg(a, ..., a) da from 0 to 1, over the gates of one site at a time."""
    total, ones = _gated_loss(model, loss, arrays, y), model.ones()
    at, weights = unit_quadrature(steps)

    def of_site(name):
        def weighed(point):
            a, weight = point
            slope = jax.grad(lambda gate: total({name: gate}))(a.astype(gate.dtype) * gate)
            return -weight.astype(gate.dtype) * slope

        gate = ones[name]
        return jnp.sum(jax.lax.map(weighed, (jnp.asarray(at), jnp.asarray(weights))), axis=0)

    return {name: of_site(name) for name in model.names}


def unit_quadrature(steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Points and weights of the Gauss-Legendre rule on [0, 1]."""
    points, weights = np.polynomial.legendre.leggauss(steps)
    return (points + 1) / 2, weights / 2


def _gated_loss(model: Model, loss: Callable, arrays: Arrays, y: Any) -> Callable:
    """L as a function of gates by name; nodes without one are as they are."""
    return lambda gates: loss(model.outputs(arrays, model.gates(gates)), y)
