"""Positions in a sequence: sinusoids, learned vectors, and rotation of queries and keys."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnodes.errors import check, check_count, check_key, describe, is_concrete
from jaxnodes.initializers import initializer, normal
from jaxnodes.layers.arrays import cast_inputs, check_params, dtype_of
from jaxnodes.layers.base import Layer
from jaxnodes.layers.description import normalize
from jaxnodes.layers.sequences import check_sequences, split_mask

_small_normal = normal(0.02)


def sinusoidal_positions(length: int, features: int, dtype: Any = jnp.float32) -> jax.Array:
    """Sines and cosines of every position, of wavelengths from 2 pi to 10000 * 2 pi.

        p[t, 2 i] = sin(t / 10000^(2 i / D)),    p[t, 2 i + 1] = cos(t / 10000^(2 i / D))

    Args:
      length: number of positions, T.
      features: D.
      dtype: a floating one.

    Returns:
      (T, D).

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.5.

    Example:

    >>> sinusoidal_positions(2, 4).round(4)
    Array([[0.    , 1.    , 0.    , 1.    ],
           [0.8415, 0.5403, 0.01  , 1.    ]], dtype=float32)
    """
    check_count(length, "length", "sinusoidal_positions", least=0)
    check_count(features, "features", "sinusoidal_positions")
    column = np.arange(features)
    angles = np.arange(length)[:, None] / 10000.0 ** (column // 2 * 2 / features)
    return jnp.asarray(np.where(column % 2 == 0, np.sin(angles), np.cos(angles)), dtype)


def rotary(x: Any, positions: Any, *, base: float = 10000.0) -> jax.Array:
    """Rotates queries or keys by angles in proportion to their positions.

    The features i and i + dim / 2 are the plane that is turned by t * base^(-2 i / dim):
    the halves' pairing of GPT-NeoX and Llama; the paper pairs neighbors, which is the same
    after a permutation of the features. The product of a query and a key then depends on
    the distance between their positions alone.

    Args:
      x: (..., T, heads, dim), dim even.
      positions: numbers, (T,) or (..., T).
      base: of the wavelengths.

    Returns:
      Like `x`.

    Raises:
      JaxNodesError: an odd dim, or positions that don't fit.

    Source: Su et al. 2021, arXiv:2104.09864.

    Example:

    >>> import jax.numpy as jnp
    >>> rotary(jnp.array([[[1.0, 0.0]]]), jnp.array([jnp.pi / 2])).round(4) + 0.0
    Array([[[0., 1.]]], dtype=float32)
    """
    x, positions = jnp.asarray(x), jnp.asarray(positions)
    check(
        x.ndim >= 3 and x.shape[-1] % 2 == 0 and jnp.issubdtype(x.dtype, jnp.floating),
        f"expected floats (..., steps, heads, dim) with an even dim, got {describe(x)}",
        "rotary",
    )
    check(
        positions.shape in (x.shape[-3:-2], x.shape[:-2]),
        f"expected positions {x.shape[-3:-2]} or {x.shape[:-2]}, got {positions.shape}",
        "rotary",
    )
    half = x.shape[-1] // 2
    dtype = np.promote_types(x.dtype, np.float32)
    rates = jnp.asarray(base ** (-np.arange(half) / half), dtype)
    angles = (positions.astype(dtype)[..., None] * rates)[..., None, :]
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    a, b = jnp.split(x.astype(dtype), 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)


@dataclasses.dataclass(frozen=True, repr=False)
class PositionalEncoding(Layer):
    """Adds `sinusoidal_positions` to a sequence. No parameters, no nodes.

    Shapes: x (..., T, D), kept; with a mask `(x, mask)`, kept too.

    Example:

    >>> import jax.numpy as jnp, jaxnodes as jn
    >>> jn.PositionalEncoding().predict(({}, {}), jnp.zeros((1, 2, 2))).round(4)
    Array([[[0.    , 1.    ],
            [0.8415, 0.5403]]], dtype=float32)
    """

    def apply(self, params, state, x, *, key=None, training=False):
        x, mask = split_mask(x, "positional_encoding")
        check_sequences(x, "positional_encoding")
        x = jnp.asarray(x)
        check(
            jnp.issubdtype(x.dtype, jnp.floating),
            f"expected floats, got {describe(x)}; put an Embedding before it",
            "positional_encoding",
        )
        steps, features = x.shape[-2:]
        y = x + sinusoidal_positions(steps, features, x.dtype)
        return (y if mask is None else (y, mask)), state


@dataclasses.dataclass(frozen=True, repr=False)
class LearnedPositions(Layer):
    """Adds to each step of a sequence a vector of its own, learned. No nodes.

    Args:
      length: number of positions L; no sequence can be longer.
      w_init: initializer, by function or by name; normal of standard deviation 0.02 by
        default, as in BERT and GPT-2.
      stateful: whether a batch goes on where the one before it ended, for decoding piece by
        piece; `reset_state` goes back to the first position. In training the state is left
        alone: a batch is a whole sequence.
      dtype: the dtype to compute in; `None` is the parameters'.

    Shapes: x (..., T, D), kept; with a mask `(x, mask)`, kept too. Parameters `{"w": (L, D)}`,
    state `{"index": ()}` if stateful. Steps beyond L are an error, or NaN where `index` is
    being traced.

    Example:

    >>> import jax, jax.numpy as jnp, jaxnodes as jn
    >>> layer = jn.LearnedPositions(128)
    >>> params, _ = layer.init(jax.random.key(0), jnp.ones((2, 20, 32)))
    >>> params["w"].shape
    (128, 32)
    """

    length: int
    _: dataclasses.KW_ONLY
    w_init: Callable | str = _small_normal
    stateful: bool = False
    dtype: Any = None

    def __post_init__(self):
        check_count(self.length, "length", "LearnedPositions")
        normalize(self, w_init=initializer)

    def init(self, key, x):
        check_key(key, "learned_positions")
        x, _ = split_mask(x, "learned_positions")
        check_sequences(x, "learned_positions")
        w = initializer(self.w_init)(key, (self.length, x.shape[-1]), dtype_of(x))
        return {"w": w}, {"index": jnp.zeros((), jnp.int32)} if self.stateful else {}

    def apply(self, params, state, x, *, key=None, training=False):
        x, mask = split_mask(x, "learned_positions")
        check_sequences(x, "learned_positions")
        steps, features = x.shape[-2:]
        check_params(params, {"w": (self.length, features)}, "learned_positions")
        params, x = cast_inputs(params, x, self.dtype, "learned_positions")
        if self.stateful and not training:
            vectors, state = self._continued(params["w"], state, steps)
        else:
            self._check_steps(steps, "make the layer longer")
            vectors = params["w"][:steps]
        y = x + vectors
        return (y if mask is None else (y, mask)), state

    def _continued(self, w, state, steps):
        """The vectors of the positions from the state's on, and the state after them."""
        came = {name: describe(value) for name, value in state.items()}
        check(
            came == {"index": "int32 ()"},
            f"expected the state {{'index': 'int32 ()'}}, got {came}; begin with that of init",
            "learned_positions",
        )
        start = jnp.asarray(state["index"])
        end = start + steps
        self._check_steps(
            int(end) if is_concrete(end) else steps,
            "make the layer longer, or begin again with reset_state(state)",
        )
        positions = start + jnp.arange(steps, dtype=start.dtype)
        return jnp.take(w, positions, axis=0, mode="fill", fill_value=jnp.nan), {"index": end}

    def _check_steps(self, used, mend):
        check(
            used <= self.length,
            f"expected at most {self.length} steps, got {used}; {mend}",
            "learned_positions",
        )
