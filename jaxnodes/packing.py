"""An optimizer's moments, those of many small arrays in a few.

A step that is handed a thousand small arrays with two moments each, and hands them back, does
little else: the arrays' number is what it costs. In packs of a hundred the moments are few.
"""

import itertools
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnodes.errors import is_concrete

_SMALL, _MANY = 4096, 256  # values of an array; arrays of so few that are worth packing
_PACK = 100_000  # values of a pack, or of all if they are fewer: what a core's cache holds


class Packed(NamedTuple):
    """A moment of parameters of which 256 arrays or more have at most 4,096 values each.

    Arrays that devices share are not packed, nor any wider than float32.

    Attributes:
      large: a tree like the parameters', with `None` for each small array.
      small: the small arrays' moments, in their order, one behind the other, float32: a
        tuple of arrays (n,), of some 100,000 values or more each if there are several.
    """

    large: Any
    small: tuple[jax.Array, ...]


def zeros(params: Any) -> Any:
    """A moment before the first step: a tree like the parameters', or `Packed`."""
    leaves, structure = jax.tree.flatten(params)
    wide = [_zeros_like(p, wide_dtype(p)) for p in leaves]
    small = [
        z.size <= _SMALL and z.dtype == jnp.float32 and not _is_sharded(p)
        for p, z in zip(leaves, wide, strict=True)
    ]
    if sum(small) < _MANY:
        return structure.unflatten(wide)
    large = [None if is_small else z for z, is_small in zip(wide, small, strict=True)]
    packs = _packs(large, wide)
    return Packed(
        structure.unflatten(large), tuple(joined([wide[i] for i in pack]) for pack in packs)
    )


def groups(moments: Sequence[Any], leaves: Sequence[Any]) -> list[list[int]]:
    """Which parameters share each array of a moment, in the order of its leaves."""
    if not moments or not isinstance(moments[0], Packed):
        return [[i] for i in range(len(leaves))]
    large = _with_gaps(moments[0])
    alone = [[i] for i, moment in enumerate(large) if moment is not None]
    return [*alone, *_packs(large, leaves)]


def _packs(large: Sequence[Any], leaves: Sequence[Any]) -> list[list[int]]:
    """Which leaves without a large moment lie in each array: neighbors, in equal shares."""
    small = [i for i, moment in enumerate(large) if moment is None]
    ends = np.cumsum([jnp.size(leaves[i]) for i in small])
    starts = [0, *ends[:-1]]
    count, total = max(1, ends[-1] // _PACK), max(1, ends[-1])
    places = [(i, start * count // total) for i, start in zip(small, starts, strict=True)]
    packs = itertools.groupby(places, operator.itemgetter(1))
    return [[i for i, _ in pack] for _, pack in packs]


def is_packed_like(moment: Packed, tree: Any) -> bool:
    """Whether the moment is one of arrays like the tree's."""
    if jax.tree.structure(moment.large, is_leaf=_is_none) != jax.tree.structure(tree):
        return False
    large, leaves = _with_gaps(moment), jax.tree.leaves(tree)
    pairs = zip(large, leaves, strict=True)
    packs = [sum(jnp.size(leaves[i]) for i in pack) for pack in _packs(large, leaves)]
    fits = all(moment is None or moment.shape == jnp.shape(leaf) for moment, leaf in pairs)
    return fits and packs == [array.size for array in moment.small]


def joined(parts: Sequence[jax.Array]) -> jax.Array:
    """One array as it is, several one behind the other."""
    return parts[0] if len(parts) == 1 else jnp.concatenate([part.ravel() for part in parts])


def parted(array: jax.Array, like: Sequence[jax.Array]) -> list[jax.Array]:
    """The parts that `joined` made an array of."""
    if len(like) == 1:
        return [array]
    ends = np.cumsum([part.size for part in like])
    return [_part(array, end, of) for end, of in zip(ends, like, strict=True)]


def _part(array: jax.Array, end: int, like: jax.Array) -> jax.Array:
    # Where it lies is data here, so that XLA compiles one program for all parts of a shape, not
    # one for each. A pair of numbers, for a single one it would put into the program after all.
    start, _ = jax.lax.optimization_barrier(jnp.asarray([end - like.size, end], jnp.uint32))
    return jax.lax.dynamic_slice_in_dim(array, start, like.size).reshape(like.shape)


def wide_dtype(p: Any) -> Any:
    """float32, or wider where p is."""
    return jax.dtypes.canonicalize_dtype(np.promote_types(jnp.result_type(p), np.float32))


def _zeros_like(p: Any, dtype: Any) -> jax.Array:
    if isinstance(p, jax.Array) and is_concrete(p) and not p.committed:
        return jax.device_put(np.zeros(p.shape, dtype))  # compiles nothing
    return jnp.zeros_like(p, dtype)


def _is_sharded(p: Any) -> bool:
    """Whether devices hold a part each, as far as is known while a program is traced."""
    if any(jax.typeof(p).sharding.spec):
        return True
    return isinstance(p, jax.Array) and is_concrete(p) and not p.sharding.is_fully_replicated


def _with_gaps(moment: Packed) -> list[Any]:
    return jax.tree.leaves(moment.large, is_leaf=_is_none)


def _is_none(leaf: Any) -> bool:
    return leaf is None
