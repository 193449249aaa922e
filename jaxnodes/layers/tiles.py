"""Attention on two cores of a CPU: each has heads of its own, their scores tile by tile.

XLA:CPU splits each operation of a block between the cores and has them meet after it, which
takes as long as one core would for products of this size. Here each core runs a loop of its own
(`side_by_side`), over tiles of some queries and some keys, whose scores stay in its cache. What
a query has seen is its greatest score so far, the sum of its weights and of its values by them,
both relative to that score (Milakov and Gimelshein 2018, arXiv:1805.02867; Dao et al. 2022,
arXiv:2205.14135). The backward loop makes a tile's weights again, from its scores and the
logarithm of their sum. Tiles that no query may look at are left out.

The plain forms, what derivatives are derived from, are in `tiles_plain`.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnodes.cores import workers
from jaxnodes.layers import tiles_plain as plain
from jaxnodes.layers.side_by_side import side_by_side
from jaxnodes.two_forms import two_forms, two_linear_forms
from jaxnodes.varying import varying

# Queries and keys of a tile. With more queries keys are cut out less often, but with as many as
# 512 more of a causal tile would be closed.
_QUERIES, _MANY_QUERIES, _KEYS = 256, 512, 256
_INDEX = jnp.uint32  # unsigned, so that no index is checked for being negative


def fits(q: jax.Array, k: jax.Array, v: jax.Array, causal: bool) -> bool:
    """Whether two cores may share (..., T, H, dim), (..., S, K, dim) and (..., S, K, dim of v)."""
    if workers() != 2 * jax.local_device_count() or varying((q, k, v)):
        return False
    *leading, steps, _, _ = q.shape
    length, kv_heads = k.shape[-3:-1]
    whole = steps % _QUERIES == 0 and length % _KEYS == 0
    # Queries before all keys would have no greatest score.
    sees = length >= steps or not causal
    wide = q.dtype == k.dtype == v.dtype and q.dtype in (jnp.float32, jnp.float64)
    rows = math.prod(leading) * kv_heads
    return whole and sees and wide and rows > 0 and rows % 2 == 0


# Compiled, so that outside of jit a second call compiles nothing; inlined, so that inside
# of it there is one program.
@functools.partial(jax.jit, static_argnames="causal", inline=True)
def attention_in_tiles(q: jax.Array, k: jax.Array, v: jax.Array, causal: bool) -> jax.Array:
    """`dot_product_attention` of arrays that fit: (..., T, H, dim of v)."""
    *leading, steps, heads, dim = q.shape
    length, kv_heads = k.shape[-3:-1]
    group = heads // kv_heads
    out, _ = _attend(
        causal,
        q.reshape(-1, steps, kv_heads, group, dim),
        k.reshape(-1, length, kv_heads, dim),
        v.reshape(-1, length, kv_heads, v.shape[-1]),
    )
    return out.reshape(*leading, steps, heads, v.shape[-1])


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _attend(causal: bool, q, k, v):
    """The outputs (B, T, K, G, dim of v), and the logarithm of each query's sum of exponentials.

    Args:
      causal: as in `dot_product_attention`.
      q: (B, T, K, G, dim), the queries of each key/value head last.
      k, v: (B, S, K, dim).

    Returns:
      Outputs, and (B, K, G, T).
    """
    forms = (
        functools.partial(plain.forward, causal, _QUERIES),
        functools.partial(_forward_loops, causal),
    )
    return two_forms(*forms, q, k, v)


@_attend.defjvp
def _derived(causal, primals, tangents):
    out, total = _attend(causal, *primals)
    tangent = functools.partial(plain.tangent, causal, _QUERIES)

    def transpose(constants, cotangents):
        forms = (
            functools.partial(plain.backward, causal, _QUERIES),
            functools.partial(_backward_loops, causal),
        )
        return two_forms(*forms, *constants, *cotangents)

    constants = (*primals, out, total)
    return (out, total), two_linear_forms(tangent, tangent, transpose, constants, tangents)


class _Sizes(NamedTuple):
    """What a loop's numbers are made of; a row is a key/value head, with its queries."""

    causal: bool
    rows: int
    heads: int
    group: int
    queries: int
    blocks: int
    chunks: int
    lag: int

    def tiles(self, by_keys: bool) -> np.ndarray:
        """A row's tiles: block, block of its head, chunk, whether it's the first, and a one."""
        seen = [
            (number, i, j)
            for number, i in enumerate([*range(self.blocks)] * self.group)
            for j in range(self.chunks)
            if not self.causal or j * _KEYS < (i + 1) * self.queries + self.lag
        ]
        if by_keys:
            seen.sort(key=lambda tile: tile[2])
        of = [tile[2] if by_keys else tile[0] for tile in seen]
        first = [i == 0 or of[i] != of[i - 1] for i in range(len(of))]
        return np.array([(*a, b, 1) for a, b in zip(seen, first, strict=True)], np.uint32)


def _sizes(causal, q, k) -> _Sizes:
    batch, steps, heads, group, _ = q.shape
    length = k.shape[1]
    queries = _QUERIES if causal or steps % _MANY_QUERIES else _MANY_QUERIES
    counts = steps // queries, length // _KEYS
    return _Sizes(causal, batch * heads, heads, group, queries, *counts, length - steps)


class _Place(NamedTuple):
    """Where a tile is: numbers, `at` one of which an array's tile is taken."""

    batch: Any
    head: Any
    query_head: Any
    row: Any
    row_of_half: Any
    block: Any
    block_of_head: Any
    chunk: Any
    first: Any
    one: Any

    def queries(self, x):
        """(queries, dim) of (B, blocks, queries, H, dim)."""
        return self._cut(x, self.block_of_head, self.query_head)

    def keys(self, x):
        """(keys, dim) of (B, chunks, keys, K, dim)."""
        return self._cut(x, self.chunk, self.head)

    def _cut(self, x, piece, head):
        # Times one: XLA takes several times as long to copy such a piece as to compute with it.
        return _at(x, self.batch, piece, None, head, None) * self.one.astype(x.dtype)

    def open(self, sizes: _Sizes, scores):
        """Scores (queries, keys), but of keys that a query may not look at the least number."""
        if not sizes.causal:
            return scores
        last, key = (lax.broadcasted_iota(_INDEX, scores.shape, axis) for axis in (0, 1))
        last = last + (self.block_of_head * _INDEX(sizes.queries) + _INDEX(sizes.lag))
        seen = key + self.chunk * _INDEX(_KEYS) <= last
        return jnp.where(seen, scores, plain.closed(scores))


def _loops(sizes: _Sizes, by_keys: bool, step: Callable, constants, carry):
    """Runs `step(constants, carry, place, keep) -> carry` for all tiles: the carries, both."""
    table = jnp.asarray(sizes.tiles(by_keys))
    half = sizes.rows // 2
    numbers = lax.iota(_INDEX, half * 2 * len(table)).reshape(2, -1)

    def one(given, carry, slices, keep):
        number, _ = slices  # (1,), as all of these, of which a place is put together
        constants, table = given
        count = jnp.full(1, len(table), _INDEX)
        row, item = keep(lax.div(number, count)), keep(lax.rem(number, count))
        tile = keep(lax.dynamic_slice(table, (item[0], _INDEX(0)), (1, table.shape[1])))[0]
        heads, group = _INDEX(sizes.heads), _INDEX(sizes.group)
        head = row % heads
        query_head = head * group + tile[:1] // _INDEX(sizes.blocks)
        place = [row // heads, head, query_head, row, row % _INDEX(half), tile]
        place = keep(jnp.concatenate(place))
        carry = step(constants, [x[0] for x in carry], _Place(*place), keep)
        return [x[None] for x in carry], (None, None)

    carry = [jnp.zeros((2, *shape), dtype) for shape, dtype in carry]
    carry, _, _ = side_by_side(one, (constants, table), carry, numbers.T)
    return carry


def _forward_loops(causal, q, k, v):
    sizes = _sizes(causal, q, k)
    scale, dtype = 1 / math.sqrt(q.shape[-1]), q.dtype
    bits = np.dtype(f"uint{8 * dtype.itemsize}")

    def step(constants, carry, place, keep):
        q, k, v = constants
        top, total, out, tops, totals, outs = carry
        fresh = place.first == 1
        q = keep(place.queries(q) * scale)
        k, v = keep(place.keys(k)), keep(place.keys(v))
        scores = keep(_rows_by_rows(q, k))
        if causal:
            scores = keep(place.open(sizes, scores))
        mine = keep(scores.max(axis=-1, keepdims=True))

        def made(x):
            # XLA makes cheap values again wherever they are asked for, here of what is replaced
            # by then, so that it would copy that. But it makes no quotient of integers again.
            one = jnp.broadcast_to(place.one.astype(bits), x.shape)
            x = keep(lax.div(lax.bitcast_convert_type(x, bits), one))
            return lax.bitcast_convert_type(x, dtype)

        more = made(jnp.where(fresh, plain.closed(scores), top - mine))
        top = made(jnp.where(more > 0, top, mine))
        powers = keep(jnp.exp(scores - top))
        shrunk = keep(jnp.exp(jnp.minimum(more, 0)))
        total = keep(jnp.where(fresh, 0, total) * shrunk + keep(powers.sum(-1, keepdims=True)))
        out = keep(jnp.where(fresh, 0, out) * shrunk + keep(powers @ v))
        at = place.row_of_half, place.block
        stacks = zip((tops, totals, outs), (top, total, out), strict=True)
        return [top, total, out, *(_put(stack, x, *at) for stack, x in stacks)]

    number, row = (sizes.queries, 1), (sizes.queries, v.shape[-1])
    stack = sizes.rows // 2, sizes.group * sizes.blocks
    shapes = [number, number, row, *((*stack, *shape) for shape in (number, number, row))]
    constants = _in_blocks(q, sizes), _in_chunks(k), _in_chunks(v)
    carry = _loops(sizes, False, step, constants, [(shape, dtype) for shape in shapes])
    tops, totals, outs = (x.reshape(-1, *x.shape[2:]) for x in carry[3:])
    numbers = len(q), sizes.heads, sizes.group, -1
    return _queries_whole(outs / totals, q), (tops + jnp.log(totals)).reshape(numbers)


def _backward_loops(causal, q, k, v, out, total, ct_out, ct_total):
    sizes = _sizes(causal, q, k)
    scale = 1 / math.sqrt(q.shape[-1])

    def step(constants, carry, place, keep):
        q, k, v, ct, total, rest = constants
        ct_k, ct_v, ct_qs, ct_ks, ct_vs = carry
        fresh = place.first == 1
        q, ct = keep(place.queries(q) * scale), keep(place.queries(ct))
        k, v = keep(place.keys(k)), keep(place.keys(v))
        scores, ct_weights = keep(_rows_by_rows(q, k)), keep(_rows_by_rows(ct, v))
        at = place.row, place.block
        weights = keep(jnp.exp(place.open(sizes, scores) - _at(total, *at, None, None)))
        slopes = keep(weights * (ct_weights - _at(rest, *at, None, None)))
        # Keys and values transposed: it is the narrow factor that is read by its columns then.
        ct_k = keep(jnp.where(fresh, 0, ct_k) + keep(_columns_by_columns(q, slopes)))
        ct_v = keep(jnp.where(fresh, 0, ct_v) + keep(_columns_by_columns(ct, weights)))
        of_chunk, at = (place.row_of_half, place.chunk), (place.row_of_half, place.block)
        ct_q = keep(_at(ct_qs, *at, None, None) + keep(slopes @ k))
        ct_ks, ct_vs = _put(ct_ks, ct_k, *of_chunk), _put(ct_vs, ct_v, *of_chunk)
        return [ct_k, ct_v, _put(ct_qs, ct_q, *at), ct_ks, ct_vs]

    half, (dim, dim_v) = sizes.rows // 2, (x.shape[-1] for x in (q, v))
    blocks = sizes.group * sizes.blocks
    chunk, block = [(dim, _KEYS), (dim_v, _KEYS)], (sizes.queries, dim)
    stacks = [(half, blocks, *block), *((half, sizes.chunks, *shape) for shape in chunk)]
    rest = plain.weights_less(out, ct_out, ct_total)
    of_queries = (x.reshape(-1, blocks, sizes.queries, 1) for x in (total, rest))
    arrays = _in_blocks(q, sizes), _in_chunks(k), _in_chunks(v), _in_blocks(ct_out, sizes)
    shapes = [(shape, q.dtype) for shape in (*chunk, *stacks)]
    carry = _loops(sizes, True, step, (*arrays, *of_queries), shapes)
    ct_q, ct_k, ct_v = (x.reshape(-1, *x.shape[2:]) for x in carry[2:])
    return _queries_whole(ct_q * scale, q), *(_keys_whole(x, k) for x in (ct_k, ct_v))


def _in_blocks(q, sizes):
    """(B, T, K, G, dim) as (B, blocks, queries, H, dim)."""
    return q.reshape(len(q), -1, sizes.queries, sizes.heads * sizes.group, q.shape[-1])


def _in_chunks(k):
    """(B, S, K, dim) as (B, chunks, keys, K, dim)."""
    return k.reshape(len(k), -1, _KEYS, *k.shape[2:])


def _queries_whole(x, q):
    """(rows, blocks, queries, dim) as (B, T, K, G, dim), with axes like q."""
    batch, steps, heads, group, _ = q.shape
    return jnp.moveaxis(x.reshape(batch, heads, group, steps, -1), 3, 1)


def _keys_whole(x, k):
    """(rows, chunks, dim, keys) as (B, S, K, dim), with axes like k."""
    batch, length, heads, _ = k.shape
    x = x.reshape(batch, heads, *x.shape[1:]).transpose(0, 2, 4, 1, 3)
    return x.reshape(batch, length, heads, -1)


def _at(x, *place):
    """What is at a place, whose numbers are of axes that go, or `None` for all of an axis."""
    starts = [_INDEX(0) if i is None else i for i in place]
    sizes = [size if i is None else 1 for i, size in zip(place, x.shape, strict=True)]
    shape = [size for i, size in zip(place, x.shape, strict=True) if i is None]
    return lax.dynamic_slice(x, starts, sizes).reshape(shape)


def _put(x, value, *place):
    """`x` with a value at a place, whose numbers are of the first axes."""
    starts = (*place, *[_INDEX(0)] * value.ndim)
    return lax.dynamic_update_slice(x, value[(None,) * len(place)], starts)


def _rows_by_rows(a, b):
    return lax.dot_general(a, b, (((1,), (1,)), ((), ())))


def _columns_by_columns(a, b):
    return lax.dot_general(a, b, (((0,), (0,)), ((), ())))
