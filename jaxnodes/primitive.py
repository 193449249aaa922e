"""The node primitive: an identity that names a value, and lowers to nothing.

`node(h, "hidden")` returns `h`. Its only trace is an equation in the jaxpr that
carries the name and the axis along which the nodes lie; the transformations in
`jaxnodes.transforms` find it there. It survives jit, vmap, grad, scan, cond,
remat and sharding, because it has a rule for each.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jaxnodes.errors import check

node_p = Primitive("node")


def node(x: Any, name: str | None = None, axis: int | None = -1) -> jax.Array:
    """Names the nodes of `x`. The identity.

    Args:
      x: array of any shape and dtype.
      name: the last part of the node's name; the scopes around it
        (`jax.named_scope`, or the names of the layers) come first. Without it
        the name is the scope alone.
      axis: the axis along which the nodes lie; `None` if the whole value is one node.

    Returns:
      `x`, unchanged.

    Raises:
      JaxNodesError: `axis` is out of range, or `name` is empty or holds a `#`.

    Example:

    >>> import jax, jax.numpy as jnp
    >>> h = node(jnp.ones((2, 3)), "hidden")
    >>> h.shape
    (2, 3)
    >>> print(jax.make_jaxpr(lambda x: node(x, "hidden"))(jnp.ones((2, 3))))
    { lambda ; a:f32[2,3]. let
        b:f32[2,3] = node[axis=1 differentiated=False name=hidden] a
      in (b,) }
    """
    x = jnp.asarray(x)
    check(
        name is None or (isinstance(name, str) and name and "#" not in name),
        f"expected a name without '#' (it numbers repeated names) or None, got {name!r}",
        "node",
    )
    if axis is not None:
        check(
            isinstance(axis, int | np.integer)
            and not isinstance(axis, bool)
            and -x.ndim <= axis < x.ndim,
            f"expected an axis of an array of shape {x.shape}, got {axis!r}; "
            "axis=None makes the whole value one node",
            f"node {name!r}",
        )
        axis = int(axis) % x.ndim
    return node_p.bind(x, name=name, axis=axis, differentiated=False)


node_p.def_impl(lambda x, **_: x)
node_p.def_abstract_eval(lambda x, **_: x)
mlir.register_lowering(node_p, lambda ctx, x, **_: [x])


def _jvp(primals, tangents, **params):
    """The primal is marked, so that `intervene` can refuse to patch it too late.

    A gate put on a value after differentiation would not reach the tangents,
    which were derived from the value as it was.
    """
    (x,), (dx,) = primals, tangents
    return node_p.bind(x, **{**params, "differentiated": True}), dx


def _batch(args, dims, *, axis, **params):
    (x,), (batch_axis,) = args, dims
    x = jnp.moveaxis(x, batch_axis, 0)
    return node_p.bind(x, axis=None if axis is None else axis + 1, **params), 0


ad.primitive_jvps[node_p] = _jvp
batching.primitive_batchers[node_p] = _batch
