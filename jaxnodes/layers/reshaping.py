"""Reshaping of samples; the batch axis stays as it is."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxnodes.errors import check, check_count
from jaxnodes.layers.base import Layer


def flatten(x: Any) -> jax.Array:
    """Each sample as one row: (B, ...) to (B, n).

    Raises:
      JaxNodesError: an `x` without a batch axis.

    Example:

    >>> import jax.numpy as jnp
    >>> flatten(jnp.ones((32, 28, 28, 1))).shape
    (32, 784)
    """
    x = jnp.asarray(x)
    check(x.ndim >= 1, "expected a batch (B, ...), got a scalar", "flatten")
    return x.reshape(x.shape[0], math.prod(x.shape[1:]))


@dataclasses.dataclass(frozen=True, repr=False)
class Flatten(Layer):
    """Each sample as one row: (B, ...) to (B, n). Names no nodes."""

    def apply(self, params, state, x, *, key=None, training=False):
        return flatten(x), state


@dataclasses.dataclass(frozen=True, repr=False)
class Reshape(Layer):
    """Each sample in another shape: (B, ...) to (B, *shape). Names no nodes.

    Args:
      shape: of a sample, without the batch axis; one size may be -1, whatever is left.

    Example:

    >>> import jax.numpy as jnp, jaxnodes as jn
    >>> jn.Reshape((28, 28, 1)).predict(({}, {}), jnp.ones((32, 784))).shape
    (32, 28, 28, 1)
    """

    shape: Sequence[int]

    def __post_init__(self):
        shape = self.shape
        check(
            isinstance(shape, Sequence) and list(shape).count(-1) <= 1,
            f"expected the shape of a sample, with one -1 at the most, got {shape!r}",
            "Reshape",
        )
        for size in shape:
            if size != -1:
                check_count(size, "a size", "Reshape")
        object.__setattr__(self, "shape", tuple(shape))

    def apply(self, params, state, x, *, key=None, training=False):
        x = jnp.asarray(x)
        check(x.ndim >= 1, "expected a batch (B, ...), got a scalar", "reshape")
        size, known = math.prod(x.shape[1:]), math.prod(n for n in self.shape if n != -1)
        fits = size % known == 0 if -1 in self.shape else size == known
        check(
            fits,
            f"expected samples of {'a multiple of ' if -1 in self.shape else ''}{known} values "
            f"to reshape to {self.shape}, got {size} (input {x.shape})",
            "reshape",
        )
        shape = tuple(size // known if n == -1 else n for n in self.shape)
        return x.reshape(x.shape[0], *shape), state
