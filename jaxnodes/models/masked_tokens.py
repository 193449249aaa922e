"""Masking tokens: what a network like BERT learns from."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnodes.errors import check, check_count, check_key, check_number, describe
from jaxnodes.layers.sequences import check_mask


class MaskedIds(NamedTuple):
    """What `mask_tokens` returns, in the order of `jn.fit`'s data.

    Attributes:
      inputs: ids (..., T), some of them replaced.
      targets: the ids as they were.
      weights: (..., T), True where the targets are to be found.
    """

    inputs: jax.Array
    targets: jax.Array
    weights: jax.Array


def mask_tokens(
    key: jax.Array,
    ids: Any,
    *,
    mask_id: int,
    vocabulary: int,
    rate: float = 0.15,
    special: Sequence[int] = (),
    mask: Any = None,
) -> MaskedIds:
    """Chooses ids at random, and hides most of them, for a network to find.

    Of the chosen ones 80 percent become `mask_id`, 10 percent any id, and 10 percent stay.

    Args:
      key: a typed PRNG key.
      ids: integers (..., T).
      mask_id: the id that stands for a hidden one.
      vocabulary: number of ids.
      rate: the share of a sequence's ids to choose, in (0, 1]; rounded, and one at least,
        so that each sequence has something to be learned from.
      special: ids that are never chosen (padding, the marks of beginning and end).
      mask: boolean (..., T), True at the steps that count; others are never chosen.

    Returns:
      `MaskedIds(inputs, targets, weights)`. A sequence with nothing to choose has weights
      that are all False.

    Raises:
      JaxNodesError: ids or a mask of the wrong kind, or numbers out of range.

    Source: Devlin et al. 2018, arXiv:1810.04805, section 3.1 and appendix A.1.

    Example: an objective that draws anew at every step.

    >>> import jax, jax.numpy as jnp, jaxnodes as jn
    >>> net = jn.MaskedTokens(jn.models.bert(8, layers=1, heads=1, features=4, context=6))
    >>> def objective(params, state, ids, key):
    ...     mask_key, key = jax.random.split(key)
    ...     inputs, targets, weights = mask_tokens(mask_key, ids, mask_id=7, vocabulary=8)
    ...     logits, state = net.apply(params, state, inputs, key=key, training=True)
    ...     return jn.cross_entropy(logits, targets, weights=weights), (state, None)
    >>> ids = jnp.array([[1, 2, 3, 4, 5, 6]])
    >>> step = jn.make_step(objective, jn.adam(1e-3))
    >>> mask_tokens(jax.random.key(0), ids, mask_id=7, vocabulary=8).weights.sum()
    Array(1, dtype=int32)
    """
    where = "mask_tokens"
    check_key(key, where)
    ids = jnp.asarray(ids)
    check(
        ids.ndim >= 1 and jnp.issubdtype(ids.dtype, jnp.integer),
        f"expected integer ids (..., T), got {describe(ids)}",
        where,
    )
    check_count(vocabulary, "vocabulary", where)
    for name, value in (("mask_id", mask_id), *(("each special id", id) for id in special)):
        check_count(value, name, where, least=0)
        check(value < vocabulary, f"expected {name} below {vocabulary}, got {value}", where)
    check(
        vocabulary - 1 <= jnp.iinfo(ids.dtype).max,
        f"expected a dtype that holds {vocabulary} ids, got {describe(ids)}; cast them to int32",
        where,
    )
    check_number(rate, "rate", where, least=float(np.finfo(np.float32).tiny), most=1)
    may = ~jnp.isin(ids, jnp.asarray(tuple(special), ids.dtype))
    if mask is not None:
        may &= check_mask(mask, ids.shape, where)
    choice_key, fate_key, id_key = jax.random.split(key, 3)
    order = jnp.where(may, jax.random.uniform(choice_key, ids.shape), 2)
    place = jnp.argsort(jnp.argsort(order, axis=-1), axis=-1)
    there = may.sum(-1, keepdims=True)
    wanted = jnp.maximum(jnp.round(rate * there.astype(jnp.float32)), 1)
    chosen = may & (place < wanted.astype(place.dtype))
    fate = jax.random.uniform(fate_key, ids.shape)
    other = jax.random.randint(id_key, ids.shape, 0, vocabulary, ids.dtype)
    replaced = jnp.where(fate < 0.8, jnp.asarray(mask_id, ids.dtype), other)
    return MaskedIds(jnp.where(chosen & (fate < 0.9), replaced, ids), ids, chosen)
