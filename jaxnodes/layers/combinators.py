"""Layers made of layers: in a row, around a shortcut, side by side, over and over."""

import collections
import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnodes.errors import JaxNodesError, check, check_count, check_key
from jaxnodes.layers.arrays import check_mappings, shapes_of
from jaxnodes.layers.base import Layer, as_layer, call, check_name, layer_name
from jaxnodes.layers.description import function_name

Named = tuple[tuple[str, Any], ...]


@dataclasses.dataclass(frozen=True, init=False, repr=False)
class Sequential(Layer):
    """Layers in a row: each takes what the one before it made.

    Args:
      *layers: layers, activations' names or elementwise functions. Each is called
        by its kind and a number, counted by kind: `dense1`, `dense2`, `dropout1`.
      **named: further layers, called by their keyword, not counted.

    The names key the parameters, name the nodes, and are folded into the keys: a
    layer of another kind put in between leaves every other layer's weights as they were.

    Example:

    >>> import jax, jax.numpy as jnp, jaxnodes as jn
    >>> net = jn.Sequential(jn.Dense(16, jn.relu), jn.Dropout(0.5), out=jn.Dense(3))
    >>> net
    Sequential(
      dense1=Dense(16, activation=relu),
      dropout1=Dropout(0.5),
      out=Dense(3),
    )
    >>> params, state = net.init(jax.random.key(0), jnp.ones((8, 4)))
    >>> jax.tree.map(jnp.shape, params)
    {'dense1': {'b': (16,), 'w': (4, 16)}, 'out': {'b': (3,), 'w': (16, 3)}}
    """

    layers: Named

    def __init__(self, *layers: Any, **named: Any):
        object.__setattr__(self, "layers", _named(layers, named, "Sequential"))

    def apply(self, params, state, x, *, key=None, training=False):
        check_names(params, self.layers)
        for name, layer in self.layers:
            x, state = call(layer, name, params, state, x, key=key, training=training)
        return x, state

    def __repr__(self):
        return _block("Sequential", [f"{name}={layer!r}" for name, layer in self.layers])


@dataclasses.dataclass(frozen=True, repr=False)
class Residual(Layer):
    """A shortcut around a layer: `x + layer(x)` (He et al. 2015, arXiv:1512.03385).

    Args:
      layer: keeps the shape of its input; may compute in half precision. The layers of
        a `Sequential` are called as if they stood here: `residual1/dense2`.

    For a shortcut with a projection use `Parallel(body, projection, merge="sum")`. Around a
    layer that takes `(x, mask)`, so does this, and hands on what that layer does.
    """

    layer: Any

    def __post_init__(self):
        object.__setattr__(self, "layer", _as_sequential(self.layer))

    def apply(self, params, state, x, *, key=None, training=False):
        made, state = self.layer.apply(params, state, x, key=key, training=training)
        (x, *_), (y, *masks) = (v if isinstance(v, tuple) else (v,) for v in (x, made))
        check(
            y.shape == x.shape and np.can_cast(y.dtype, x.dtype),
            f"expected the layer to keep its input's shape and dtype, but it made {y.dtype} "
            f"{y.shape} of {x.dtype} {x.shape}; Parallel(layer, projection, merge='sum') may not",
            "residual",
        )
        y = x + y.astype(x.dtype)
        return ((y, *masks) if isinstance(made, tuple) else y), state

    def __repr__(self):
        return _block("Residual", [repr(self.layer)])


@dataclasses.dataclass(frozen=True, init=False, repr=False)
class Parallel(Layer):
    """Layers side by side: all take the same input, their outputs are merged.

    Args:
      *layers, **named: as in `Sequential`.
      merge: `"concat"` joins along the last axis, `"sum"` adds, and a function is
        given the list of outputs.
    """

    layers: Named
    merge: str | Callable[[list], Any] = "concat"

    def __init__(self, *layers: Any, merge: str | Callable[[list], Any] = "concat", **named: Any):
        check(
            merge in ("concat", "sum") or callable(merge),
            f"expected merge to be 'concat', 'sum' or a function, got {merge!r}",
            "Parallel",
        )
        check(layers or named, "expected at least one layer, got none", "Parallel")
        object.__setattr__(self, "layers", _named(layers, named, "Parallel"))
        object.__setattr__(self, "merge", merge)

    def apply(self, params, state, x, *, key=None, training=False):
        check_names(params, self.layers)
        outputs = []
        for name, layer in self.layers:
            y, state = call(layer, name, params, state, x, key=key, training=training)
            outputs.append(y)
        return self._merged(outputs), state

    def _merged(self, outputs: list) -> Any:
        if callable(self.merge):
            return self.merge(outputs)
        shapes = [y.shape[:-1] if self.merge == "concat" else y.shape for y in outputs]
        if len(set(shapes)) > 1 or len({y.dtype for y in outputs}) > 1:
            came = ", ".join(f"{y.dtype} {y.shape}" for y in outputs)
            alike = "in all but the last axis" if self.merge == "concat" else "in shape"
            raise JaxNodesError(f"expected outputs alike {alike} and dtype, got {came}", "parallel")
        return jnp.concatenate(outputs, axis=-1) if self.merge == "concat" else sum(outputs)

    def __repr__(self):
        lines = [f"{name}={layer!r}" for name, layer in self.layers]
        if self.merge != "concat":
            merge = function_name(self.merge) if callable(self.merge) else repr(self.merge)
            lines.append(f"merge={merge}")
        return _block("Parallel", lines)


@dataclasses.dataclass(frozen=True, repr=False)
class Repeat(Layer):
    """A stack of `n` layers alike, each with weights of its own, compiled as one.

    The parameters carry a leading axis of `n`, and the stack is a `jax.lax.scan`:
    compile time does not grow with `n`. Each step's nodes are nodes of their own.

    Args:
      layer: keeps the shape and dtype of its input. The layers of a `Sequential` are
        called as if they stood here: `repeat1/dense2`.
      n: how many.
      remat: whether to compute activations again in the backward pass, rather than
        keep them (`jax.checkpoint`).
    """

    layer: Any
    n: int
    remat: bool = False

    def __post_init__(self):
        check_count(self.n, "n", "Repeat")
        object.__setattr__(self, "layer", _as_sequential(self.layer))

    def init(self, key, x):
        check_key(key, "repeat")
        spec = shapes_of(x)
        return jax.vmap(lambda key: self.layer.init(key, spec))(self._keys(key))

    def apply(self, params, state, x, *, key=None, training=False):
        def step(x, slices):
            params, state, key = slices
            y, state = self.layer.apply(params, state, x, key=key, training=training)
            check(
                jax.tree.map(lambda a: (a.shape, a.dtype), y)
                == jax.tree.map(lambda a: (a.shape, a.dtype), x),
                f"expected the layer to keep its input's shape and dtype, but it made "
                f"{shapes_of(y)} of {shapes_of(x)}",
                "repeat",
            )
            return y, state

        keys = None if key is None else self._keys(key)
        self._check_depth(params)
        step = jax.checkpoint(step) if self.remat else step
        return jax.lax.scan(step, x, (params, state, keys), length=self.n)

    def _check_depth(self, params):
        for leaf in jax.tree.leaves(params):
            depth = jnp.shape(leaf)[:1]
            check(
                depth == (self.n,),
                f"expected parameters of {self.n} layers on the first axis, "
                f"got {depth[0] if depth else 'a scalar'}",
                "repeat",
            )

    def _keys(self, key: jax.Array) -> jax.Array:
        return jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(self.n))

    def __repr__(self):
        options = [f"n={self.n}", *(["remat=True"] if self.remat else [])]
        return _block("Repeat", [repr(self.layer), *options])


def _as_sequential(layer: Any) -> Sequential:
    return layer if isinstance(layer, Sequential) else Sequential(layer)


def _named(layers: tuple, named: dict[str, Any], where: str) -> Named:
    """Each layer with its name: its kind and a number, or its keyword."""
    counts: collections.Counter = collections.Counter()
    pairs = []
    for layer in layers:
        lifted = as_layer(layer)
        kind = layer_name(lifted)
        counts[kind] += 1
        pairs.append((f"{kind}{counts[kind]}", lifted))
    for name, layer in named.items():
        check_name(name, where)
        pairs.append((name, as_layer(layer)))
    names = [name for name, _ in pairs]
    twice = [name for name in named if names.count(name) > 1]
    check(not twice, f"the name {twice[:1]} is taken by another layer; choose another one", where)
    return tuple(pairs)


def check_names(params: Any, layers: Named, where: str = "sequential") -> None:
    """Raises where there are parameters for layers that aren't there."""
    check_mappings(params)
    unknown = sorted(set(params) - {name for name, _ in layers})
    check(
        not unknown,
        f"expected parameters for {[name for name, _ in layers]}, got {unknown} as well; "
        "take them from init of this same network",
        where,
    )


def _block(kind: str, lines: list[str]) -> str:
    if not lines:
        return f"{kind}()"
    inner = "".join("  " + line.replace("\n", "\n  ") + ",\n" for line in lines)
    return f"{kind}(\n{inner})"
