"""What a layer is: a frozen description with two pure functions, `init` and `apply`.

    params, state = layer.init(key, x)
    y, state = layer.apply(params, state, x, key=key, training=True)

`call` is how a layer calls the layers inside it, and the one place that gives a
child its name: it scopes the nodes, folds the name into the key, picks the
child's part of `params` and `state`, and puts the name in front of errors. Since
`apply` says all there is to say about a composite, its `init` is derived: it is
`apply` run for shapes alone, on a `_Building` in place of the parameters, with
which `call` notes every child and the shape of its input.
"""

import dataclasses
import re
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnodes.errors import JaxNodesError, check, check_key, describe
from jaxnodes.layers.arrays import Params, State, check_mappings, dtype_of, shapes_of
from jaxnodes.layers.description import function_name, pickled, rebuilt, shown_fields
from jaxnodes.primitive import node


class Layer:
    """The base of all layers: a frozen, hashable, printable dataclass.

    A layer of your own is a frozen dataclass that derives from this and has an
    `apply`; if it is made of other layers, which it calls by `jn.call`, that is
    all. If it holds parameters itself, it has an `init` too.

    Example:

    >>> import dataclasses, jax, jax.numpy as jnp, jaxnodes as jn
    >>> @dataclasses.dataclass(frozen=True)
    ... class Twice(jn.Layer):
    ...     layer: jn.Layer
    ...     def apply(self, params, state, x, *, key=None, training=False):
    ...         y, state = jn.call(self.layer, "tied", params, state, x, key=key, training=training)
    ...         return jn.call(self.layer, "tied", params, state, y, key=key, training=training)
    >>> net = Twice(jn.Dense(3))
    >>> params, state = net.init(jax.random.key(0), jnp.ones((2, 3)))
    >>> jax.tree.map(jnp.shape, params)
    {'tied': {'b': (3,), 'w': (3, 3)}}
    """

    def init(self, key: jax.Array, x: Any) -> tuple[dict, dict]:
        """Parameters and state for inputs shaped like `x`.

        Args:
          key: a typed PRNG key. A layer's weights depend on this key and on the
            names on its path alone.
          x: a batch, or `jax.ShapeDtypeStruct`s of one; any pytree. Its floating
            dtype becomes the parameters' (float32 where `x` has none).

        Returns:
          `(params, state)`: nested dicts of arrays, empty entries left out.

        Raises:
          JaxNodesError: an untyped key, or an `x` that some layer can't take.
        """
        check_key(key, "init")
        return _init_composite(self, key, x)

    def apply(
        self,
        params: Params,
        state: State,
        x: Any,
        *,
        key: jax.Array | None = None,
        training: bool = False,
    ) -> tuple[Any, State]:
        """The layer's output for a batch `x`, and the state after it.

        Args:
          params, state: as `init` returned them, or as trained.
          x: a batch.
          key: a typed PRNG key; needed where a layer draws random numbers.
          training: whether dropout drops and batch norm uses the batch's statistics.

        Returns:
          `(y, state)`.

        Raises:
          JaxNodesError: parameters, inputs or key that the layer can't take, with its path.
        """
        raise TypeError(f"{type(self).__name__} has no apply method; a layer needs one")

    def predict(self, variables: tuple[Params, State], x: Any) -> Any:
        """The output at inference: `apply` with `training=False`, the state dropped.

        Args:
          variables: `(params, state)`.
          x: a batch.
        """
        check(
            isinstance(variables, (tuple, list)) and len(variables) == 2,
            f"expected variables, the pair (params, state), got {describe(variables)}",
            "predict",
        )
        params, state = variables
        return self.apply(params, state, x)[0]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(shown_fields(self))})"

    def __reduce__(self):
        """For pickle and copy: functions by their registered names, for jax.nn's don't pickle."""
        fields = {field.name: field for field in dataclasses.fields(self)}  # type: ignore[arg-type]
        values = {name: getattr(self, name) for name in fields}
        changed = {name: v for name, v in values.items() if v != fields[name].default}
        return rebuilt, (type(self), {name: pickled(v) for name, v in changed.items()})


def call(
    layer: Any,
    name: str,
    params: Params,
    state: State,
    x: Any,
    *,
    key: jax.Array | None = None,
    training: bool = False,
) -> tuple[Any, State]:
    """Applies a layer inside another one, as the child called `name`.

    Args:
      layer: a layer, an activation's name, or an elementwise function.
      name: keys the child's part of `params` and `state`, scopes its nodes, and is
        folded into `key`. Two calls by one name share weights and randomness.
      params, state: the *parent's*.
      x: the child's input.
      key, training: the parent's.

    Returns:
      `(y, state)`, with the parent's state after the call.

    Raises:
      JaxNodesError: whatever the child finds wrong, with `name` in front.
    """
    layer = as_layer(layer)
    check_name(name, "call")
    check_mappings(params, state)
    if key is not None:
        key = fold_name(key, name)
    with jax.named_scope(name):
        try:
            if isinstance(params, _Building):
                return params.add(layer, name, x), state
            own = params.get(name, {})
            y, after = layer.apply(own, state.get(name, {}), x, key=key, training=training)
        except JaxNodesError as error:
            raise error.within(name) from None
    return y, {**state, name: after} if after else state


def check_name(name: Any, where: str) -> None:
    """Raises unless `name` can be a child's: the others mean something within a path."""
    check(
        isinstance(name, str) and name and not set(name) & set("/#()"),
        f"expected a name without any of '/#()', got {name!r}",
        where,
    )


def fold_name(key: jax.Array, name: str) -> jax.Array:
    """The key that the child called `name` gets from its parent's `key`."""
    return jax.random.fold_in(key, np.uint32(zlib.crc32(name.encode())))


def as_layer(layer: Any) -> Any:
    """`layer` itself if it is one, else a name or an elementwise function lifted to one."""
    if isinstance(layer, Layer):
        return layer
    if isinstance(layer, type) and issubclass(layer, Layer):
        raise JaxNodesError(f"expected a layer, got the class {layer.__name__}; call it first")
    if isinstance(layer, str):
        from jaxnodes.activations import activation

        return Elementwise(activation(layer))
    check_foreign(layer)
    if callable(getattr(layer, "init", None)) and callable(getattr(layer, "apply", None)):
        return layer
    if callable(layer):
        return Elementwise(layer)
    raise JaxNodesError(
        f"expected a layer, an activation's name or an elementwise function, got {layer!r}"
    )


def check_foreign(layer: Any) -> None:
    """Raises if `layer` is a module of another library, with the advice to wrap it."""
    library = next(
        (
            base.__module__.partition(".")[0]
            for base in type(layer).__mro__
            if base.__module__.partition(".")[0] in ("flax", "equinox", "haiku", "torch", "keras")
        ),
        None,
    )
    if library:
        raise JaxNodesError(
            f"expected a jaxnodes layer, got the {library} module {type(layer).__name__}; wrap it: "
            "jn.from_functions(init, apply) with init(key, x) -> (params, state) and "
            "apply(params, state, x, key=, training=) -> (y, state)"
        )


@dataclasses.dataclass(frozen=True, repr=False)
class Elementwise(Layer):
    """An elementwise function as a layer; its output is a node.

    Args:
      function: any function of one array that keeps its shape (an activation, a
        scaling, a clip; a softmax too).
    """

    function: Callable[..., Any]

    def apply(self, params, state, x, *, key=None, training=False):
        y = self.function(x)
        check(
            jnp.shape(y) == jnp.shape(x),
            f"expected a function that keeps its input's shape, but {self.name} made "
            f"{jnp.shape(y)} of {jnp.shape(x)}; lift it by jn.from_functions instead",
            self.name,
        )
        return node(y) if jnp.ndim(y) else node(y, axis=None), state

    def __repr__(self):
        return self.name

    @property
    def name(self) -> str:
        return function_name(self.function)


@dataclasses.dataclass(frozen=True, repr=False)
class Functions(Layer):
    """A layer made of two functions; see `from_functions`."""

    init_function: Callable
    apply_function: Callable

    def init(self, key, x):
        check_key(key, self.name)
        return self.init_function(key, x)

    def apply(self, params, state, x, *, key=None, training=False):
        return self.apply_function(params, state, x, key=key, training=training)

    def __repr__(self):
        return f"from_functions({function_name(self.init_function)}, {self.name})"

    @property
    def name(self) -> str:
        return function_name(self.apply_function)


def from_functions(init: Callable, apply: Callable) -> Layer:
    """A layer made of two pure functions of your own.

    Args:
      init: `init(key, x) -> (params, state)`, traceable by JAX.
      apply: `apply(params, state, x, *, key=None, training=False) -> (y, state)`.

    Returns:
      A layer, for `Sequential`, `fit`, `record` and all else.

    Example:

    >>> import jax, jax.numpy as jnp, jaxnodes as jn
    >>> def init(key, x):
    ...     return {"scale": jnp.ones(x.shape[-1:], x.dtype)}, {}
    >>> def scale(params, state, x, *, key=None, training=False):
    ...     return x * params["scale"], state
    >>> net = jn.Sequential(jn.from_functions(init, scale), jn.Dense(2))
    >>> jax.tree.map(jnp.shape, net.init(jax.random.key(0), jnp.ones((1, 3)))[0])
    {'dense1': {'b': (2,), 'w': (3, 2)}, 'scale1': {'scale': (3,)}}
    """
    return Functions(init, apply)


def layer_name(layer: Any) -> str:
    """The name, without a number, that a child of this kind gets: `LSTM` is `lstm`."""
    if isinstance(layer, (Elementwise, Functions)):
        return layer.name
    kind = type(layer).__name__
    kind = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", kind)
    return kind.lower()


class _Building(Mapping):
    """Stands in for a composite's parameters while its `init` runs `apply` for shapes.

    `call` hands each child to `add`, which notes how to make its variables later,
    outside of the trace, and lends it zeros of the right shapes to go on with. Only
    shapes are kept: what is lent belongs to the trace that it is lent to.
    """

    def __init__(self, dtype: Any):
        self.dtype = dtype
        self.params: dict[str, Any] = {}
        self.states: dict[str, Any] = {}
        self.makers: dict[str, Callable[[jax.Array], tuple[dict, dict]]] = {}

    def __getitem__(self, name: str) -> Any:
        return _lent(self.params[name])

    def __iter__(self):
        return iter(self.params)

    def __len__(self) -> int:
        return len(self.params)

    def add(self, layer: Any, name: str, x: Any) -> Any:
        if name not in self.makers:
            if getattr(type(layer), "init", None) is Layer.init:
                inner = _Building(self.dtype)
                y, _ = layer.apply(inner, {}, x)
                self._note(name, inner.make, inner, inner.states)
                return y
            spec = self.spec(x)
            shapes = jax.eval_shape(lambda key: layer.init(key, spec), jax.random.key(0))
            self._note(name, lambda key: layer.init(key, spec), *shapes)
        return layer.apply(self.get(name, {}), _lent(self.states[name]), x)[0]

    def _note(self, name: str, make: Callable, params: Mapping, state: Mapping) -> None:
        self.makers[name], self.states[name] = make, state
        if params:
            self.params[name] = params

    def spec(self, x: Any) -> Any:
        """Shapes of `x`, floats in the dtype of the whole network's parameters."""

        def leaf_spec(leaf):
            floating = jnp.issubdtype(leaf.dtype, jnp.floating)
            return jax.ShapeDtypeStruct(leaf.shape, self.dtype if floating else leaf.dtype)

        return jax.tree.map(leaf_spec, x)

    def make(self, key: jax.Array) -> tuple[dict, dict]:
        params, state = {}, {}
        for name, maker in self.makers.items():
            try:
                made = maker(fold_name(key, name))
            except JaxNodesError as error:
                raise error.within(name) from None
            for whole, part in zip((params, state), made, strict=True):
                if part:
                    whole[name] = part
        return params, state


def _lent(shapes: Any) -> Any:
    if isinstance(shapes, _Building):
        return {name: shapes[name] for name in shapes}
    return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)


def _init_composite(layer: Layer, key: jax.Array, x: Any) -> tuple[dict, dict]:
    building = _Building(dtype_of(shapes_of(x)))
    jax.eval_shape(lambda x: layer.apply(building, {}, x)[0], shapes_of(x))
    return building.make(key)
