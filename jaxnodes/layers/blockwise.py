"""Attention in blocks of queries: the same numbers, memory linear in the number of steps.

All scores at once are T x S numbers a head, which for long sequences is more than what the
cache holds, and soon more than the memory. A block of queries needs all keys, but only
its own rows of scores, which are made again in the backward pass rather than kept
(Rabe and Staats 2021, arXiv:2112.05682). Blocks of causal attention leave out the keys
after them. Written in plain operations, it has all derivatives and maps like any function.

What two cores may share alike goes in tiles instead (`tiles`), a loop on each.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnodes.layers.regularization import dropout
from jaxnodes.layers.tiles import attention_in_tiles, fits
from jaxnodes.varying import vary_alike

_ROWS = 256  # queries in a block
_SCORES = 2**19  # of a head: from these on, in blocks
_SEGMENTS = 8  # parts of causal attention, each with the keys up to its end


class Settings(NamedTuple):
    """What doesn't change between blocks; see `dot_product_attention`."""

    causal: bool
    rate: Any


def is_long(steps: int, length: int) -> bool:
    """Whether blocks are worth their loops: where the scores of a head fill the cache."""
    return steps > _ROWS and steps * length >= _SCORES


def blockwise_attention(
    q: jax.Array, k: jax.Array, v: jax.Array, *, causal: bool, mask: Any, rate: Any, key: Any
) -> jax.Array:
    """`dot_product_attention` of arguments that it has checked.

    Args:
      q: (..., T, H, dim).
      k, v: (..., S, K, dim).
      mask: boolean, broadcastable to (..., H, T, S); or `None`.
      causal, rate, key: as there.

    Returns:
      (..., T, H, dim of v).
    """
    q, k, v, mask = vary_alike((q, k, v, mask))
    if mask is None and key is None and fits(q, k, v, causal):
        return attention_in_tiles(q, k, v, causal)
    *leading, steps, heads, dim = q.shape
    length, kv_heads = k.shape[-3:-1]
    batch, group = math.prod(leading), heads // kv_heads
    settings = Settings(causal, rate)
    # A row for each key/value head, with the queries that it serves. Keys and values lie
    # transposed, (dim, S): their gradients are products then that XLA is fast at on CPU.
    q = jnp.moveaxis(q.reshape(batch, steps, kv_heads, group, dim), 1, 3)
    q = q.reshape(batch * kv_heads, group, steps, dim)
    k, v = (
        jnp.moveaxis(x.reshape(batch, *x.shape[-3:]), 1, 3).reshape(
            batch * kv_heads, x.shape[-1], length
        )
        for x in (k, v)
    )
    if mask is not None:
        own = mask.shape[-3:-1]
        mask = jnp.broadcast_to(mask, (*leading, *own, length)).reshape(batch, *own, length)

    def of_head(row):
        n, q, k, v = row
        allowed = None
        if mask is not None:
            allowed = mask[n // kv_heads]
            if allowed.shape[0] > 1:
                first = n % kv_heads * group
                allowed = jax.lax.dynamic_slice_in_dim(allowed, first, group)
        mine = None if key is None else jax.random.fold_in(key, n)
        return _segments(settings, q, k, v, allowed, mine)

    rows = (jnp.arange(batch * kv_heads), q, k, v)
    # One head after the other is what two-dimensional products on a CPU are fastest at.
    one_by_one = jax.default_backend() == "cpu"
    out = jax.lax.map(of_head, rows) if one_by_one else jax.vmap(of_head)(rows)
    out = out.reshape(batch, kv_heads, group, *out.shape[2:])
    return jnp.moveaxis(out, 3, 1).reshape(*leading, steps, heads, out.shape[-1])


def _segments(settings: Settings, q, k, v, allowed, key) -> jax.Array:
    """All queries (G, T, dim) of one key/value head."""
    steps, length = q.shape[1], k.shape[-1]
    whole = steps // _ROWS
    segments = min(_SEGMENTS, whole) if settings.causal else 1
    ends = [whole * (i + 1) // segments * _ROWS for i in range(segments)]
    pieces = list(zip([0, *ends], [*ends, steps], strict=True))
    outs = []
    for start, end in pieces:
        if start == end:
            continue
        seen = length
        if settings.causal:
            seen = min(length, max(1, end + length - steps))
        rows = min(_ROWS, end - start)
        blocks = (end - start) // rows
        xs = q[:, start:end].reshape(q.shape[0] * blocks, rows, -1)
        block = functools.partial(
            _block, settings, k[:, :seen], v[:, :seen], allowed, key, start, blocks, steps - length
        )
        out, total = jax.lax.map(jax.checkpoint(block), (jnp.arange(len(xs)), xs))
        # Out here both are kept for the backward pass, which needs no product again then.
        out = (out / jnp.where(total == 0, 1, total)).astype(v.dtype)
        outs.append(out.reshape(q.shape[0], end - start, -1))
    return jnp.concatenate(outs, axis=1)


def _block(settings: Settings, k, v, allowed, key, start, blocks, lag, numbered):
    """One block of queries (rows, dim), the `i`-th of a segment, of all heads of the group.

    Returns:
      The sums of values (rows, dim of v), to be divided by the sums of their weights (rows, 1).
    """
    i, q = numbered
    rows, length = len(q), k.shape[-1]
    dtype = np.promote_types(q.dtype, np.float32)
    # Tied to the queries. Else JAX makes masks, of T S numbers, before the loop over heads.
    i, q, closed = jax.lax.optimization_barrier((i, q, jnp.finfo(dtype).min.astype(dtype)))
    scale = 1 / math.sqrt(q.shape[-1])
    if q.dtype == dtype:  # narrow numbers are scaled once they are wide
        q, scale = q * scale, 1
    scores = scale * jnp.einsum("td,ds->ts", q, k, preferred_element_type=dtype)
    first = start + i % blocks * rows
    open_ = None
    if settings.causal:
        last = first + jnp.arange(rows) - lag
        open_ = jnp.arange(length) <= last[:, None]
    if allowed is not None:
        head = jnp.minimum(i // blocks, allowed.shape[0] - 1)
        mine = jax.lax.dynamic_index_in_dim(allowed, head, keepdims=False)[:, :length]
        if mine.shape[0] > 1:
            mine = jax.lax.dynamic_slice_in_dim(mine, first, rows)
        open_ = mine if open_ is None else mine & open_
    if open_ is not None:
        scores = jnp.where(open_, scores, closed)
    top = jax.lax.stop_gradient(scores.max(axis=-1, keepdims=True))
    powers = jnp.exp(scores - jnp.where(top == closed, 0, top))  # 0 where no key is open
    total = powers.sum(axis=-1, keepdims=True)
    if key is not None:
        # By the first query's number, so that no two blocks share their draws.
        powers = dropout(
            jax.random.fold_in(key, first + i // blocks * 2**20), powers, settings.rate
        )
    return jnp.einsum("ts,ds->td", powers.astype(v.dtype), v, preferred_element_type=dtype), total
