"""Record and intervene: function transformations over the nodes of any JAX function.

    y, nodes = record(f)(variables, x)
    y = intervene(f)({"dense1": gate}, variables, x)

Like `jax.grad`, they take a function and return a function, and they compose with
JAX's transformations and with each other.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax

from jaxnodes.errors import check
from jaxnodes.interpreter.interventions import parse
from jaxnodes.interpreter.sites import Site, reach
from jaxnodes.interpreter.tracing import trace


class _Transformed:
    """A transformed function. It is a pytree, so that what `f` holds is seen through it."""

    kind = ""

    def __init__(self, f: Callable, auto: bool, only: tuple[str, ...] | None = None):
        check(callable(f), f"expected a function, got {type(f).__name__}", self.kind)
        self.f, self.auto, self.only = f, auto, only

    def __init_subclass__(cls):
        jax.tree_util.register_pytree_node(cls, cls._flatten, cls._unflatten)

    def _flatten(self):
        return (self.f,), (self.auto, self.only)

    @classmethod
    def _unflatten(cls, options, children):
        new = object.__new__(cls)
        (new.f,), (new.auto, new.only) = children, options
        return new

    @property
    def __name__(self) -> str:
        return f"{self.kind}_{getattr(self.f, '__name__', 'function')}"


class _Record(_Transformed):
    kind = "record"

    def __call__(self, *args: Any, **kwargs: Any) -> tuple[Any, dict[str, jax.Array]]:
        traced = trace(self.f, args, kwargs, auto=self.auto, where=self.kind)
        sites = traced.program.sites
        asked = sites if self.only is None else reach(self.only, sites)
        names = [site for site in sites if site in asked]
        traced.program.check_recorded(names, self.kind, "only")
        y, records = traced.apply(record=names)
        return y, {name: records[name] for name in names}


class _Intervene(_Transformed):
    kind = "intervene"

    def __call__(self, interventions: Mapping[str, Any], /, *args: Any, **kwargs: Any) -> Any:
        traced = trace(self.f, args, kwargs, auto=self.auto, where=self.kind)
        patches = parse(interventions, traced.program.sites)
        traced.program.check_patched(patches, self.kind)
        return traced.apply(patches)[0]


def record(
    f: Callable, *, auto: bool = False, only: Collection[str] | None = None
) -> Callable[..., tuple[Any, dict[str, jax.Array]]]:
    """A function that returns what `f` returns, and the values of its nodes.

    Inside a scan a value gains leading axes for the steps; under a `vmap` inside `f`
    it has the batch axis. Outputs and their gradients are those of `f`, custom
    gradients included; a program that drops the records is the program of `f`.

    Args:
      f: any function that JAX can trace, of pytrees, pure as under `jax.jit`. It is
        traced once for each shape of its arguments. Arguments that are neither arrays
        nor numbers are static, bools too.
      auto: whether dense and convolution operations are nodes as well, where `f` names
        none for them, so that a model of another library needs no change. `f` is then
        `f(variables, x)`: what depends on any argument after the first is data (any
        argument at all, if `f` is a callable pytree that holds its arrays), and each
        such operation with one operand of data gives one node: what comes of it by
        elementwise operations (bias, normalization at inference, activation).
      only: the names of the nodes to record; `None` means all.

    Returns:
      A function of the arguments of `f` that returns `(y, nodes)`, `nodes` a dict of
      arrays by name, in program order; `{}` where `f` has no nodes.

    Raises:
      JaxNodesError: when called: a node in a `while` loop, or in only some branches of
        a `cond`, or one that differs between the devices of a `shard_map`; an unknown
        name in `only`.

    Example:

    >>> import jax, jax.numpy as jnp, jaxnodes as jn
    >>> def f(w, x):
    ...     h = jn.node(jnp.tanh(x @ w), "hidden")
    ...     return h.sum()
    >>> y, nodes = jn.record(f)(jnp.ones((3, 2)), jnp.array([0.0, 0.5, 0.5]))
    >>> nodes
    {'hidden': Array([0.7615942, 0.7615942], dtype=float32)}
    """
    if isinstance(only, str):
        only = (only,)
    return _Record(f, auto, None if only is None else tuple(only))


def intervene(f: Callable, *, auto: bool = False) -> Callable[..., Any]:
    """A function like `f`, with its nodes changed as its first argument says.

    An intervention is one of
      - a gate: an array `(size,)`, or `(*steps, size)` for a node in a scan; the node
        becomes `gate * h`;
      - a pair `(gate, value)`, for `gate * h + (1 - gate) * value`, with `value`
        broadcastable to what `record` returns;
      - a function of one step's `h` that keeps its shape and dtype.

    A gate may be of bools, integers or floats; with a wider dtype than the nodes' it is
    multiplied in that dtype, and the product is rounded. The dtype of `value` must fit
    in the nodes'. Where a gate is exactly 0, an `h` that isn't finite counts as 0, and
    so does such a `value` where it is 1. A name reaches all repetitions of its node but
    those named themselves (`h#2`; `h#1` is the first). An equation with a custom gradient
    whose nodes are changed is differentiated as the operations that it is made of.
    Inside a `shard_map` each device applies the gate to what it has; the axis of the
    nodes must not be split between devices.

    Args:
      f: any function that JAX can trace; see `record`.
      auto: see `record`.

    Returns:
      A function of `({name: intervention}, *args, **kwargs)`, differentiable by the
      gates and values too. Its nodes keep their names.

    Raises:
      JaxNodesError: when called: a name that `f` has no node of, a gate or value of
        another shape or dtype, a node that has been differentiated already.

    Example:

    >>> import jax, jax.numpy as jnp, jaxnodes as jn
    >>> def f(w, x):
    ...     return jn.node(x @ w, "hidden").sum()
    >>> w, x = jnp.eye(2), jnp.array([3.0, 4.0])
    >>> f(w, x), jn.intervene(f)({"hidden": jnp.array([1.0, 0.0])}, w, x)
    (Array(7., dtype=float32), Array(3., dtype=float32))
    >>> jax.grad(lambda gate: jn.intervene(f)({"hidden": gate}, w, x))(jnp.ones(2))
    Array([3., 4.], dtype=float32)
    """
    return _Intervene(f, auto)


def node_sites(f: Callable, *args: Any, auto: bool = False, **kwargs: Any) -> tuple[Site, ...]:
    """The nodes of `f`, from shapes alone: nothing is computed.

    Args:
      f: a function; see `record`.
      *args, **kwargs: its arguments, or `jax.ShapeDtypeStruct`s in the place of arrays.
      auto: see `record`.

    Returns:
      A `Site(name, axis, size, shape, dtype, steps)` for each node, in program order.

    Example:

    >>> import jax, jax.numpy as jnp, jaxnodes as jn
    >>> x = jax.ShapeDtypeStruct((32, 784), jnp.float32)
    >>> jn.node_sites(lambda x: jn.node(x, "pixels"), x)
    (Site(name='pixels', axis=1, size=784, shape=(32, 784), dtype=dtype('float32'), steps=()),)
    """
    traced = trace(f, args, kwargs, auto=auto, where="node_sites")
    return tuple(traced.program.sites.values())
