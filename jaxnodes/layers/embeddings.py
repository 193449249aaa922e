"""Embeddings: a vector for every id, looked up, and the way back to ids by the same vectors."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnodes.errors import check, check_count, check_key, describe, is_concrete
from jaxnodes.initializers import initializer, normal
from jaxnodes.layers.arrays import Params, cast_inputs, check_params, dtype_of
from jaxnodes.layers.base import Layer
from jaxnodes.layers.description import normalize
from jaxnodes.layers.sequences import split_mask
from jaxnodes.primitive import node

_unit_normal = normal(1.0)


def embedding_init(
    key: jax.Array,
    size: int,
    features: int,
    *,
    w_init: Callable = _unit_normal,
    dtype: Any = jnp.float32,
) -> dict[str, jax.Array]:
    """Parameters of an embedding.

    Args:
      key: a typed PRNG key.
      size: how many ids there are.
      features: length D of their vectors.
      w_init: initializer `(key, shape, dtype)`. Normal of standard deviation 1, as in torch;
        flax's is `jn.normal(features**-0.5)`.
      dtype: of the vectors.

    Returns:
      `{"w": (size, D)}`.
    """
    check_key(key, "embedding")
    check_count(size, "size", "embedding")
    check_count(features, "features", "embedding")
    return {"w": w_init(key, (size, features), dtype)}


def embedding(params: Params, ids: Any) -> jax.Array:
    """The vectors of `ids`.

    Args:
      params: `{"w": (size, D)}`.
      ids: integers from 0 to size - 1, of any shape (...).

    Returns:
      (..., D). Where `ids` is being traced, so that no error can be raised, an id out of
      range gives NaN, and makes the gradient NaN too.

    Raises:
      JaxNodesError: ids that aren't integers, or are out of range.

    Example:

    >>> import jax.numpy as jnp
    >>> embedding({"w": jnp.array([[1.0, 2.0], [3.0, 4.0]])}, jnp.array([1, 0, 1]))
    Array([[3., 4.],
           [1., 2.],
           [3., 4.]], dtype=float32)
    """
    check_params(params, {"w": (None, None)}, "embedding")
    # Checked as they came: NumPy's int64 becomes int32 on the way into JAX.
    ids = ids if isinstance(ids, jax.Array) else np.asarray(ids)
    w, size = jnp.asarray(params["w"]), params["w"].shape[0]
    check(
        jnp.issubdtype(ids.dtype, jnp.integer),
        f"expected integer ids, got {describe(ids)}; cast them if they are whole numbers",
        "embedding",
    )
    if is_concrete(ids):
        values = np.asarray(ids)  # not by JAX, which would trace this within a jit
        least, most = (int(values.min()), int(values.max())) if ids.size else (0, 0)
        check(
            least >= 0 and most < size,
            f"expected ids from 0 to {size - 1}, got {least if least < 0 else most}; "
            "give the embedding as many vectors as there are ids",
            "embedding",
        )
    if ids.dtype.itemsize < 4:
        ids = ids.astype(jnp.int32)  # a size of 300 is none that int8 could be compared with
    if is_concrete(ids):
        return w[ids]
    fine = (ids >= 0) & (ids < size)
    # A product, not a selection: the gradient is to be NaN as well.
    return w[jnp.where(fine, ids, 0)] * jnp.where(fine, 1, jnp.nan).astype(w.dtype)[..., None]


@dataclasses.dataclass(frozen=True, repr=False)
class Embedding(Layer):
    """A vector for every id, learned. Its outputs are inputs to the network: no nodes.

    Args:
      size: how many ids there are.
      features: length D of their vectors.
      w_init: initializer, by function or by name; normal of standard deviation 1 by default.
      dtype: the dtype of the output; `None` is the parameters'.

    Shapes: integer ids (...) to (..., D), or with a mask `(ids, mask)` to `(y, mask)`.
    Parameters `{"w": (size, D)}`.

    Example:

    >>> import jax, jax.numpy as jnp, jaxnodes as jn
    >>> net = jn.Sequential(jn.Embedding(1000, 32), jn.LSTM(16), jn.LastStep(), jn.Dense(2))
    >>> ids = jnp.zeros((8, 20), jnp.int32)
    >>> variables = net.init(jax.random.key(0), ids)
    >>> net.predict(variables, ids).shape
    (8, 2)
    """

    size: int
    features: int
    _: dataclasses.KW_ONLY
    w_init: Callable | str = _unit_normal
    dtype: Any = None

    def __post_init__(self):
        check_count(self.size, "size", "Embedding")
        check_count(self.features, "features", "Embedding")
        normalize(self, w_init=initializer)

    def init(self, key, x):
        dtype = dtype_of(split_mask(x, "embedding")[0])
        w_init = initializer(self.w_init)
        return embedding_init(key, self.size, self.features, w_init=w_init, dtype=dtype), {}

    def apply(self, params, state, x, *, key=None, training=False):
        check_params(params, {"w": (self.size, self.features)}, "embedding")
        ids, mask = split_mask(x, "embedding")
        y = embedding(params, ids)
        y = y if self.dtype is None else y.astype(self.dtype)
        return (y if mask is None else (y, mask)), state


@dataclasses.dataclass(frozen=True, repr=False)
class Unembedding(Layer):
    """A weighted sum for every id by its vector, `x w^T`: logits by tied weights. They are nodes.

    Args:
      size: how many ids there are.
      use_bias: whether a bias is added, one number an id.
      dtype: the dtype to compute in; `None` is that of the vectors.

    Shapes: the pair (x, w), (..., D) and an embedding's (size, D), to (..., size). Parameters
    `{"b": (size,)}` with a bias, else none.

    Source: Press and Wolf 2017, arXiv:1608.05859.

    Example: a network's own embedding used again.

    >>> import dataclasses, jax, jax.numpy as jnp, jaxnodes as jn
    >>> @dataclasses.dataclass(frozen=True)
    ... class Tied(jn.Layer):
    ...     def apply(self, params, state, x, *, key=None, training=False):
    ...         h, state = jn.call(jn.Embedding(7, 3), "embedding", params, state, x)
    ...         pair = (h, params["embedding"]["w"])
    ...         return jn.call(jn.Unembedding(7), "logits", params, state, pair)
    >>> params, state = Tied().init(jax.random.key(0), jnp.array([[1, 2]]))
    >>> Tied().predict((params, state), jnp.array([[1, 2]])).shape
    (1, 2, 7)
    """

    size: int
    _: dataclasses.KW_ONLY
    use_bias: bool = False
    dtype: Any = None

    def __post_init__(self):
        check_count(self.size, "size", "Unembedding")
        normalize(self)

    def init(self, key, x):
        check_key(key, "unembedding")
        x, _ = self._split(x)
        return {"b": jnp.zeros(self.size, dtype_of(x))} if self.use_bias else {}, {}

    def apply(self, params, state, x, *, key=None, training=False):
        x, w = self._split(x)
        check_params(params, {"b": (self.size,)} if self.use_bias else {}, "unembedding")
        params, x = cast_inputs({**params, "w": w}, x, self.dtype, "unembedding")
        logits = x @ params["w"].T
        return node(logits + params["b"] if self.use_bias else logits), state

    def _split(self, x: Any) -> tuple[Any, Any]:
        shapes = [jnp.shape(part) for part in x] if isinstance(x, tuple) else []
        check(
            len(shapes) == 2 and shapes[0] and shapes[1] == (self.size, shapes[0][-1]),
            f"expected the pair of inputs (..., D) and vectors ({self.size}, D), got "
            f"{shapes or describe(x)}",
            "unembedding",
        )
        return x
