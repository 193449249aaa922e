"""`attribute`: cheap measures of what a node is worth, for every node at once."""

from collections.abc import Callable, Collection
from typing import Any

import jax.numpy as jnp

from jaxnodes.analysis.gate_measures import integrated_gradients, taylor, taylor2
from jaxnodes.analysis.gradient_measures import conductance, gradient, start_of
from jaxnodes.analysis.model import ByName
from jaxnodes.analysis.samples import compiled, prepare, whole_loss
from jaxnodes.analysis.size_measures import average, weight
from jaxnodes.errors import check, check_count

#: All methods of `attribute`, the cheapest first.
METHODS = (
    "weight",
    "activation",
    "gradient",
    "taylor",
    "integrated_gradients",
    "conductance",
    "taylor2",
)


def attribute(
    f: Callable,
    variables: Any,
    x: Any,
    y: Any = None,
    *,
    method: str,
    loss: Callable | None = None,
    nodes: Collection[str] | None = None,
    steps: int = 32,
    baseline: Any = None,
    batch_size: int = 256,
    memory: int = 2**28,
    auto: bool = False,
) -> ByName:
    """What each node is worth by one of the usual measures, for every node at once.

    All have the sign of importance: the larger, the more the loss L is expected to grow
    without the node. With g the nodes' gates (1 as they are, 0 removed), h their values
    and sums over the positions of a sample (space, time steps):

        "activation"            mean |h|
        "weight"                sum |w| over a node's incoming weights
                                (Li et al. 2017, arXiv:1608.08710)
        "gradient"              sum over samples |sum dL/dh h|
                                (Molchanov et al. 2017, arXiv:1611.06440)
        "taylor"                -dL/dg
        "taylor2"               -dL/dg + 1/2 d2L/dg2 for each gate alone: exact where L is
                                quadratic in it
        "integrated_gradients"  -int dL/dg(a, ..., a) da from 0 to 1, over the gates of one
                                site at a time: sums over a site to L without it less L
                                (Sundararajan et al. 2017, arXiv:1703.01365)
        "conductance"           -int dL/dh dh/da da along inputs x0 + a (x - x0): sums over
                                a layer that all paths go through once to L(x0) - L(x)
                                (Dhamdhere et al. 2018, arXiv:1805.12233)

    "gradient" and "taylor" are the same numbers but for the sign of each sample.
    Integrals are by Gauss-Legendre quadrature. "taylor2" and "conductance" differentiate
    forward, which JAX can't do through a `jax.custom_vjp` on the way.

    Args:
      f: a function of inference `f(variables, x)` that names nodes.
      variables: its first argument.
      x: its data (N, ...), or a pytree of such arrays.
      y: what the loss compares with; arrays (N, ...).
      method: one of the above; `jn.analysis.METHODS` lists them.
      loss: `loss(outputs, y)`, a number, of all samples at once; all but "activation" and
        "weight" need it. For an output itself, pass one that returns minus its mean.
      nodes: names of those to measure; `None` is all.
      steps: points of the integrals.
      baseline: x0 of "conductance", of the shapes of `x` or broadcastable to them; by
        default zeros.
      batch_size: how many samples go through at once, at most.
      memory: bytes that "taylor2", which treats many nodes at once, may take, about.
      auto: whether to find nodes in a function that names none; see `record`.

    Returns:
      By name, an array (size,), or (n, size) for a stack of n layers (`Repeat`).

    Raises:
      JaxNodesError: no nodes, or wrong names; no loss where one is needed, or one that
        isn't a number; "weight" where a node's weights can't be found; "conductance" of
        inputs that aren't floating.

    Example:

    >>> import jax.numpy as jnp, jaxnodes as jn
    >>> net = jn.Sequential(jn.Dense(2), jn.Dense(1))
    >>> params = {"dense1": {"w": jnp.eye(2), "b": jnp.zeros(2)},
    ...           "dense2": {"w": jnp.array([[1.0], [0.0]]), "b": jnp.zeros(1)}}
    >>> x = jnp.array([[1.0, 5.0], [2.0, 5.0]])
    >>> options = {"method": "taylor2", "loss": jn.mse, "nodes": ["dense1"]}
    >>> jn.analysis.attribute(net.predict, (params, {}), x, x[:, :1], **options)
    {'dense1': Array([2.5, 0. ], dtype=float32)}
    """
    where = "attribute"
    check(method in METHODS, f"expected a method of {', '.join(METHODS)}, got {method!r}", where)
    check_count(steps, "steps", where)
    sizes = method in ("activation", "weight")
    check(
        sizes or loss is not None,
        f"expected a loss for method {method!r}, got none; pass loss=jn.cross_entropy, say",
        where,
    )
    check(
        baseline is None or method == "conductance",
        f"expected a baseline for 'conductance' alone, got one for {method!r}; leave it out",
        where,
    )
    model, arrays = prepare(
        f,
        variables,
        x,
        nodes=nodes,
        auto=auto,
        batch_size=batch_size,
        where=where,
        each=method in ("activation", "gradient", "conductance"),
        gated=method not in ("activation", "weight"),
    )
    if method == "weight":
        return weight(model, variables)
    if method == "activation":
        return model.ordered(compiled(average, model, jnp.abs)(arrays))
    assert loss is not None
    whole_loss(model, arrays, loss, y, where)
    if method == "taylor2":
        return taylor2(model, loss, arrays, y, memory)
    if method == "conductance":
        start = start_of(baseline, x, arrays.leaves)
        found = compiled(conductance, model, loss, steps)(arrays, y, start)
    elif method == "integrated_gradients":
        found = compiled(integrated_gradients, model, loss, steps)(arrays, y)
    else:
        measure = {"gradient": gradient, "taylor": taylor}[method]
        found = compiled(measure, model, loss)(arrays, y)
    return model.ordered(found)
