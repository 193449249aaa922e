"""`prune`: a smaller network that computes what the masked one does.

A removed node is a constant, and a constant times its outgoing weights is a bias. So
nodes go from a network together with their weights, what they are replaced by goes into
the biases behind them, and nothing else changes. `cutting` has the rules for each layer.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnodes.analysis.cuts import Mask
from jaxnodes.analysis.cutting import cut_out
from jaxnodes.analysis.means import site_means
from jaxnodes.analysis.sites_of import node_shape
from jaxnodes.errors import check, describe, is_concrete
from jaxnodes.interpreter.sites import unknown_name
from jaxnodes.interpreter.tracing import Traced, trace
from jaxnodes.layers.arrays import shapes_of
from jaxnodes.layers.base import Layer

Variables = tuple[Any, Any]


def prune(
    net: Layer, variables: Variables, masks: Mapping[str, Any], *, x: Any, values: Any = "zero"
) -> tuple[Layer, Variables]:
    """The network without the nodes that `masks` leave out: the same function, smaller.

    What comes out is what `jn.intervene` with the masks as gates gives, to rounding. Layers
    of weights lose the nodes' columns and the next ones their rows: dense, convolution
    (in groups, whole groups at a time), recurrent units, attention heads (of those that
    share keys and values, as many of each). Batch norm, pooling, dropout, flatten and
    elementwise functions in between are followed. A lifted function's nodes go with
    those of the layer before it.

    Some nodes have to stay: the outputs; what goes into a layer norm, an attention or a
    layer of your own, which need all of their inputs; what is added to a shortcut, unless
    both sides are masked alike.

    Args:
      net: made of the layers of jaxnodes.
      variables: `(params, state)`, with numbers in them.
      masks: by node name, `True` where a node is kept: (size,), or (n, size) for the layers
        of a `Repeat`, of each of which as many must be kept. The other layers keep all.
      x: a batch of inputs, or `jax.ShapeDtypeStruct`s of one.
      values: what takes the place of a removed node's value: `"zero"`; `"mean"`, its mean
        over the samples in `x`, space and steps; or a dict by name of numbers or arrays
        (size,), for heads (size, dim) too. A recurrent unit must be replaced by zero, and so
        must a channel whose next convolution pads its input with zeros.

    Returns:
      `(net, variables)`, layers by the same names. A layer without a bias gets one where it
      has to hold something.

    Raises:
      JaxNodesError: a mask that fits no node, keeps none, or removes one that has to stay;
        a value that can't be folded into a bias.

    Example:

    >>> import jax.numpy as jnp, jaxnodes as jn
    >>> net = jn.Sequential(jn.Dense(2), jn.Dense(1))
    >>> params = {"dense1": {"w": jnp.eye(2), "b": jnp.zeros(2)},
    ...           "dense2": {"w": jnp.array([[3.0], [4.0]]), "b": jnp.ones(1)}}
    >>> x, masks = jnp.ones((1, 2)), {"dense1": jnp.array([True, False])}
    >>> net, variables = prune(net, (params, {}), masks, x=x, values={"dense1": 0.5})
    >>> net
    Sequential(
      dense1=Dense(1),
      dense2=Dense(1),
    )
    >>> variables[0]["dense2"]
    {'b': Array([3.], dtype=float32), 'w': Array([[3.]], dtype=float32)}
    """
    traced, variables = prepared(net, variables, x)
    read = _read(net, traced, variables, x, masks, values)
    made, units = cut_out(net, *variables, shapes_of(x), read)
    strange = sorted(set(masks) - set(units))
    check(
        not strange,
        f"expected nodes of layers of jaxnodes, got {strange}, which are inside a layer of your "
        "own, or of a layer that is called twice",
        "prune",
    )
    smaller = jax.tree.map(jnp.asarray, (made.params, made.state))
    return made.layer, smaller


def prepared(net: Any, variables: Any, x: Any) -> tuple[Traced, Variables]:
    """The network traced, which checks its variables, and those as NumPy arrays."""
    check(isinstance(net, Layer), f"expected a network, got {type(net).__name__}", "prune")
    check(
        is_concrete(variables) and all(map(_has_numbers, jax.tree.leaves(variables))),
        "expected variables with numbers in them, got traced ones or shapes; prune outside of jit",
        "prune",
    )
    traced = trace(net.predict, (variables, shapes_of(x)), {}, where="prune")
    params, state = jax.tree.map(np.asarray, tuple(variables))
    return traced, (params, state)


def node_shapes(traced: Traced, x: Any, names: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """By name, in the network's order, (size,), or (n, size) for the layers of a stack."""
    sites = traced.program.sites
    for name in names:
        check(name in sites, unknown_name(name, sites), "prune")
    fixed = len(traced.consts) + len(traced.args) - len(jax.tree.leaves(x))
    return {name: node_shape(traced.program, name, fixed) for name in sites if name in names}


def _has_numbers(leaf: Any) -> bool:
    return not isinstance(leaf, jax.ShapeDtypeStruct)


def _read(net, traced: Traced, variables: Variables, x, masks, values) -> dict[str, Mask]:
    """The masks and values, checked, in the shapes in which they are handed down."""
    check(
        isinstance(masks, Mapping),
        f"expected a dict of masks by the names of nodes, got {type(masks).__name__}",
        "prune",
    )
    read = {}
    shapes = node_shapes(traced, x, masks)
    given = _given(net, traced, variables, x, shapes, values)
    for name, shape in shapes.items():
        keep, value = np.asarray(masks[name]), np.asarray(given[name], np.float64)
        dims = {traced.program.sites[name].shape[-1]} if _is_heads(traced, name) else ()
        fits = [(), shape[-1:], shape, *((*shape, dim) for dim in dims)]
        check(
            keep.dtype == bool and keep.shape in (shape, shape[-1:]),
            f"expected a mask of bools of shape {shape}, True where a node is kept, got "
            f"{describe(keep)}",
            f"prune {name!r}",
        )
        check(
            keep.any(axis=-1).all(),
            "expected at least one node to be kept, got none",
            f"prune {name!r}",
        )
        check(
            value.shape in fits,
            f"expected a value of shape {' or '.join(map(str, fits))}, got {value.shape}",
            f"prune {name!r}",
        )
        read[name] = Mask(
            np.broadcast_to(keep, shape),
            np.broadcast_to(value, shape if value.ndim <= len(shape) else value.shape),
        )
    return read


def _is_heads(traced: Traced, name: str) -> bool:
    site = traced.program.sites[name]
    return site.axis is not None and site.axis < len(site.shape) - 1


def _given(net, traced: Traced, variables: Variables, x, names, values) -> Mapping[str, Any]:
    """What takes the nodes' place, by name."""
    if isinstance(values, Mapping):
        check(
            set(values) == set(names),
            f"expected a value for each of the masked {list(names)}, got {list(values)}",
            "prune",
        )
        return values
    check(
        values in ("zero", "mean"),
        f"expected values 'zero', 'mean' or a dict of arrays, got {values!r}",
        "prune",
    )
    if values == "zero":
        return dict.fromkeys(names, 0.0)
    return _means(net, traced, variables, x, tuple(names))


def _means(net, traced: Traced, variables: Variables, x, names) -> dict[str, np.ndarray]:
    """The mean of every node over all samples, space and time."""
    leaves = jax.tree.leaves(x)
    check(
        all(map(_has_numbers, leaves)) and is_concrete(x) and len(leaves[0]),
        "expected samples in x to take means over, got none; pass data, or values='zero'",
        "prune",
    )
    fixed = len(traced.consts) + len(traced.args) - len(leaves)
    means = site_means(net.predict, variables, x, names, where="prune")
    return {name: m.reshape(node_shape(traced.program, name, fixed)) for name, m in means.items()}
