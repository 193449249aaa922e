"""Values that changed: in a few places along one axis, or altogether."""

import dataclasses

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Thin:
    """K variants of a value that differ from it only at `indices` along `axis`.

    `values` is (K, *shape) with the axis cut down to the m places in `indices`, (K, m).
    """

    axis: int
    indices: jax.Array
    values: jax.Array


@dataclasses.dataclass(frozen=True)
class Full:
    """K variants of a value: (K, *shape)."""

    values: jax.Array


Changed = Thin | Full


def take(x: jax.Array, indices: jax.Array, axis: int) -> jax.Array:
    """`x` at each variant's places along `axis`: (K, *shape) with that axis cut down to m."""
    return jax.vmap(lambda i: jnp.take(x, i, axis=axis, mode="clip"))(indices)


def put(base: jax.Array, thin: Thin) -> jax.Array:
    """All of a thin value: (K, *shape)."""

    def one(indices, values):
        where = (slice(None),) * thin.axis + (indices,)
        return base.at[where].set(values)

    return jax.vmap(one)(thin.indices, thin.values)
