"""The one core of all attention: weights of keys for queries, and the mean of values by them.

Shapes here, the heads last but one: q (..., T, H, dim), k and v (..., S, K, dim), where
H is a multiple of K and each key/value head serves H / K query heads in a row.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnodes.errors import check, check_key, describe, is_concrete
from jaxnodes.layers.blockwise import blockwise_attention, is_long
from jaxnodes.layers.regularization import dropout


def dot_product_attention(
    q: Any,
    k: Any,
    v: Any,
    *,
    causal: bool = False,
    mask: Any = None,
    rate: float = 0.0,
    key: Any = None,
) -> jax.Array:
    """Scaled dot-product attention: `softmax(q k^T / sqrt(dim)) v` in each head.

    Args:
      q: queries, (..., T, heads, dim).
      k, v: keys and values, (..., S, kv_heads, dim), of q's dtype and leading axes;
        kv_heads divides heads (grouped queries, arXiv:2305.13245).
      causal: whether a query sees only the keys up to its own. The queries are the last T
        of the S positions: query t sees the keys s <= t + S - T. (torch and
        `jax.nn.dot_product_attention` take them as the first T.)
      mask: boolean, True where a query may look; with causal, both must hold. One of
        (..., S), the keys that count; (..., T, S); (..., heads or 1, T, S).
      rate: of dropout on the weights.
      key: a typed PRNG key, for dropout.

    Returns:
      (..., T, heads, dim), in q's dtype; the softmax is taken in float32 at least. A query
      that may look nowhere gets zeros, and passes no gradient. Long sequences are gone
      through in blocks of queries, so that memory grows with T, not with T S.

    Raises:
      JaxNodesError: shapes or dtypes that don't fit, or dropout without a key.

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.

    Example:

    >>> import jax, jax.numpy as jnp
    >>> q, k, v = jax.random.normal(jax.random.key(0), (3, 2, 7, 4, 8))
    >>> dot_product_attention(q, k, v, causal=True).shape
    (2, 7, 4, 8)
    """
    q, k, v = jnp.asarray(q), jnp.asarray(k), jnp.asarray(v)
    _check_heads(q, k)
    check(
        v.shape[:-1] == k.shape[:-1] and v.dtype == q.dtype,
        f"expected values like the keys, got {describe(v)} for {describe(k)}",
        "dot_product_attention",
    )
    dropping = not is_concrete(rate) or rate != 0
    if is_long(q.shape[-3], k.shape[-3]):
        if dropping:
            check_key(key, "dropout")
        *leading, steps, heads, _ = q.shape
        sizes = (tuple(leading), heads, steps, k.shape[-3])
        given = {"rate": rate, "key": key} if dropping else {"rate": 0.0, "key": None}
        mask = _allowed(*sizes, False, mask)
        return blockwise_attention(q, k, v, causal=causal, mask=mask, **given)
    weights = dot_product_weights(q, k, causal=causal, mask=mask)
    if dropping:
        weights = dropout(key, weights, rate)
    *leading, heads, steps, _ = weights.shape
    grouped = weights.reshape(*leading, v.shape[-2], heads // v.shape[-2], steps, v.shape[-3])
    context = jnp.einsum(
        "...kgts,...skd->...tkgd",
        grouped.astype(v.dtype),
        v,
        preferred_element_type=weights.dtype,
    )
    return context.reshape(*leading, steps, heads, v.shape[-1]).astype(v.dtype)


def dot_product_weights(q: Any, k: Any, *, causal: bool = False, mask: Any = None) -> jax.Array:
    """How much each query attends to each key, (..., heads, T, S), in float32 at least.

    The arguments are those of `dot_product_attention`. Rows sum to one, or are zero where
    a query may look nowhere.
    """
    q, k = jnp.asarray(q), jnp.asarray(k)
    _check_heads(q, k)
    *leading, steps, heads, dim = q.shape
    length, kv_heads = k.shape[-3:-1]
    dtype = np.promote_types(q.dtype, np.float32)
    grouped = q.reshape(*leading, steps, kv_heads, heads // kv_heads, dim)
    scores = jnp.einsum("...tkgd,...skd->...kgts", grouped, k, preferred_element_type=dtype)
    scores = scores.reshape(*leading, heads, steps, length) / math.sqrt(dim)
    allowed = _allowed(tuple(leading), heads, steps, length, causal, mask)
    if allowed is None:
        return jax.nn.softmax(scores)
    # The lowest number, not -inf: a row of nothing but -inf would be NaN, and its gradient too.
    weights = jax.nn.softmax(jnp.where(allowed, scores, jnp.finfo(dtype).min))
    return jnp.where(allowed, weights, 0)


def _allowed(leading, heads, steps, length, causal, mask) -> jax.Array | None:
    """Where queries may look, broadcastable to (..., heads, T, S); `None` is everywhere."""
    allowed = None
    if causal:
        last = jnp.arange(steps)[:, None] + (length - steps)
        allowed = jnp.arange(length) <= last
    if mask is None:
        return allowed
    mask = jnp.asarray(mask)
    forms = [(length,), (steps, length), (heads, steps, length), (1, steps, length)]
    check(
        mask.dtype == bool and mask.shape in [(*leading, *form) for form in forms],
        f"expected a boolean mask, True where a query may look, of shape {(*leading, length)}, "
        f"{(*leading, steps, length)} or {(*leading, heads, steps, length)}, got {describe(mask)}",
        "attention",
    )
    mask = mask.reshape(
        *leading, *(1,) * (len(leading) + 3 - mask.ndim), *mask.shape[len(leading) :]
    )
    return mask if allowed is None else mask & allowed


def _check_heads(q: jax.Array, k: jax.Array) -> None:
    check(
        q.ndim >= 3
        and k.ndim == q.ndim
        and k.shape[:-3] == q.shape[:-3]
        and k.shape[-1] == q.shape[-1]
        and min(k.shape[-3:-1]) > 0
        and q.shape[-2] % k.shape[-2] == 0,
        "expected queries (..., T, heads, dim) and keys (..., S, kv_heads, dim), S at "
        f"least 1 and kv_heads a divisor of heads, got {q.shape} and {k.shape}",
        "dot_product_attention",
    )
    check(
        q.dtype == k.dtype and jnp.issubdtype(q.dtype, jnp.floating),
        f"expected queries and keys of one floating dtype, got {q.dtype} and {k.dtype}",
        "dot_product_attention",
    )
