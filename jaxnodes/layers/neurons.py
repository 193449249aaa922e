"""The fully connected layer, and the single node it is made of."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxnodes.activations import activation as resolve_activation
from jaxnodes.errors import check, check_count, check_key
from jaxnodes.initializers import he_normal, initializer, zeros
from jaxnodes.layers.arrays import (
    Params,
    as_arrays,
    cast_inputs,
    check_params,
    dtype_of,
    features_of,
)
from jaxnodes.layers.base import Layer
from jaxnodes.layers.description import normalize
from jaxnodes.layers.products import product
from jaxnodes.primitive import node


def dense_init(
    key: jax.Array,
    in_features: int,
    features: int,
    *,
    w_init: Callable = he_normal,
    b_init: Callable = zeros,
    dtype: Any = jnp.float32,
) -> dict[str, jax.Array]:
    """Parameters of a fully connected layer.

    Args:
      key: a typed PRNG key.
      in_features: size D of the last axis of the inputs.
      features: number of nodes, H.
      w_init, b_init: initializers `(key, shape, dtype)`.
      dtype: of both arrays.

    Returns:
      `{"w": (D, H), "b": (H,)}`.
    """
    check_key(key, "dense")
    check_count(in_features, "in_features", "dense")
    check_count(features, "features", "dense")
    w_key, b_key = jax.random.split(key)
    return {
        "w": w_init(w_key, (in_features, features), dtype),
        "b": b_init(b_key, (features,), dtype),
    }


def dense(params: Params, x: Any) -> jax.Array:
    """The weighted sums `x w + b`.

    Args:
      params: `{"w": (D, H), "b": (H,)}`; `b` may be left out.
      x: (..., D).

    Returns:
      (..., H).

    Raises:
      JaxNodesError: the last axis of `x` is not D long, or its dtype doesn't fit.

    Example:

    >>> import jax.numpy as jnp
    >>> params = {"w": jnp.array([[1.0], [2.0]]), "b": jnp.array([3.0])}
    >>> dense(params, jnp.array([10.0, 20.0]))
    Array([53.], dtype=float32)
    """
    params = as_arrays(params)
    check_params(params, {"w": ("D", "H"), "b": ("H",)}, "dense", may_lack="b")
    params, x = cast_inputs(params, x, None, "dense")
    expected = params["w"].shape[0]
    check(
        x.ndim >= 1 and x.shape[-1] == expected,
        f"expected {expected} features on the last axis, got "
        f"{x.shape[-1] if x.ndim else 'a scalar'} (input {x.shape})",
        "dense",
    )
    z = product(x, params["w"])
    return z + params["b"] if "b" in params else z


def neuron_init(
    key: jax.Array,
    in_features: int,
    *,
    w_init: Callable = he_normal,
    dtype: Any = jnp.float32,
) -> dict[str, jax.Array]:
    """Parameters of a single node: those of a dense layer of one, `{"w": (D,), "b": ()}`."""
    return jax.tree.map(
        lambda p: p[..., 0], dense_init(key, in_features, 1, w_init=w_init, dtype=dtype)
    )


def neuron(params: Params, x: Any, activation: Callable | str | None = None) -> jax.Array:
    """A single node, the unit that this library measures: `activation(w . x + b)`.

    Args:
      params: `{"w": (D,), "b": ()}`.
      x: (..., D).
      activation: a function or a name; `None` leaves the weighted sum.

    Returns:
      (...).

    Raises:
      JaxNodesError: the last axis of `x` is not D long, or its dtype doesn't fit.

    Example:

    >>> import jax.numpy as jnp
    >>> params = {"w": jnp.array([2.0, -1.0]), "b": jnp.array(0.5)}
    >>> neuron(params, jnp.array([[1.0, 1.0], [0.0, 3.0]]), "relu")
    Array([1.5, 0. ], dtype=float32)
    """
    params = as_arrays(params)
    check_params(params, {"w": (None,), "b": ()}, "neuron")
    z = dense({"w": params["w"][:, None], "b": params["b"][None]}, x)[..., 0]
    return z if activation is None else resolve_activation(activation)(z)


@dataclasses.dataclass(frozen=True, repr=False)
class Dense(Layer):
    """A fully connected layer: `activation(x w + b)`. Its outputs are nodes.

    Args:
      features: number of nodes, H.
      activation: a function or a name; `None` leaves the weighted sum.
      w_init, b_init: initializers, by function or by name.
      use_bias: whether there is a `b`.
      in_features: the size D that inputs must have; `None` takes it from the first input.
      dtype: the dtype to compute in (say `jnp.bfloat16`); `None` is the parameters'.

    Shapes: x (..., D) to (..., H). Parameters `{"w": (D, H), "b": (H,)}`.

    Example:

    >>> import jax, jax.numpy as jnp, jaxnodes as jn
    >>> layer = jn.Dense(256, "relu")
    >>> layer
    Dense(256, activation=relu)
    >>> variables = layer.init(jax.random.key(0), jnp.ones((32, 784)))
    >>> layer.predict(variables, jnp.ones((32, 784))).shape
    (32, 256)
    """

    features: int
    activation: Callable | str | None = None
    _: dataclasses.KW_ONLY
    w_init: Callable | str = he_normal
    b_init: Callable | str = zeros
    use_bias: bool = True
    in_features: int | None = None
    dtype: Any = None

    def __post_init__(self):
        check_count(self.features, "features", "Dense")
        if self.in_features is not None:
            check_count(self.in_features, "in_features", "Dense")
        normalize(
            self,
            activation=resolve_activation,
            w_init=initializer,
            b_init=initializer,
        )

    def init(self, key, x):
        features = features_of(x, "dense")
        check(
            self.in_features in (None, features),
            f"expected {self.in_features} features on the last axis, got {features} "
            f"(input {x.shape})",
            "dense",
        )
        params = dense_init(
            key,
            features,
            self.features,
            w_init=initializer(self.w_init),
            b_init=initializer(self.b_init),
            dtype=dtype_of(x),
        )
        return params if self.use_bias else {"w": params["w"]}, {}

    def apply(self, params, state, x, *, key=None, training=False):
        shapes = {"w": (self.in_features, self.features), "b": (self.features,)}
        check_params(params, shapes if self.use_bias else {"w": shapes["w"]}, "dense")
        params, x = cast_inputs(params, x, self.dtype, "dense")
        y = dense(params, x)
        if self.activation is not None:
            y = resolve_activation(self.activation)(y)
        return node(y), state
