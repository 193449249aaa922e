"""Attention and its derivatives in blocks of queries: the plain forms of the loops of `tiles`.

They are what JAX derives from, so that nothing in them depends on a machine. Shapes are those
of `tiles`: q is (B, T, K, G, dim), the queries of each key/value head last; k and v are
(B, S, K, dim); a number for each query is (B, K, G, T). Blocks of `rows` queries divide T.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax


def forward(causal, rows, q, k, v):
    """Outputs, and the logarithm of each query's sum of exponentials."""

    def block(numbered):
        scores = _scores(causal, k, len(q[0]), *numbered)
        total = jax.nn.logsumexp(scores, axis=-1)
        return _by_weights(jnp.exp(scores - total[..., None]), v), total

    outs, totals = lax.map(block, _numbered(_blocks(q, rows)))
    return _whole(outs), _whole_numbers(totals)


def tangent(causal, rows, constants, operands):
    """Of both outputs of `forward`, for those of its arguments."""
    (q, k, v, out, total), (dq, dk, dv) = constants, operands

    def block(numbered):
        i, q, dq, total = numbered
        steps = len(out[0])
        weights = jnp.exp(_scores(causal, k, steps, i, q) - total[..., None])
        moved = weights * (_products(q, dk) + _products(dq, k))
        dtotal = moved.sum(axis=-1)
        moved = moved - weights * dtotal[..., None]
        return _by_weights(moved, v) + _by_weights(weights, dv), dtotal

    blocks = _blocks(q, rows), _blocks(dq, rows), _number_blocks(total, rows)
    douts, dtotals = lax.map(block, _numbered(*blocks))
    return _whole(douts), _whole_numbers(dtotals)


def backward(causal, rows, q, k, v, out, total, ct_out, ct_total):
    """The cotangents of q, k and v."""

    def block(sums, numbered):
        i, q, ct, total, rest = numbered
        weights = jnp.exp(_scores(causal, k, len(out[0]), i, q) - total[..., None])
        slopes = weights * (jnp.einsum("brkgd,bskd->bkgrs", ct, v) - rest[..., None])
        ct_q = _by_weights(slopes, k) / math.sqrt(k.shape[-1])
        ct_k = jnp.einsum("bkgrs,brkgd->bskd", slopes, q) / math.sqrt(k.shape[-1])
        ct_v = jnp.einsum("bkgrs,brkgd->bskd", weights, ct)
        return (sums[0] + ct_k, sums[1] + ct_v), ct_q

    numbers = (_number_blocks(x, rows) for x in (total, weights_less(out, ct_out, ct_total)))
    blocks = _numbered(_blocks(q, rows), _blocks(ct_out, rows), *numbers)
    sums = jnp.zeros_like(k), jnp.zeros_like(v)
    (ct_k, ct_v), ct_q = lax.scan(block, sums, blocks)
    return _whole(ct_q), ct_k, ct_v


def weights_less(out, ct_out, ct_total):
    """What each weight's cotangent is less by, (B, K, G, T): weights sum to one."""
    return jnp.einsum("btkgd,btkgd->bkgt", out, ct_out) - ct_total


def _products(q, k):
    return jnp.einsum("brkgd,bskd->bkgrs", q, k) / math.sqrt(k.shape[-1])


def _by_weights(weights, v):
    return jnp.einsum("bkgrs,bskd->brkgd", weights, v)


def _scores(causal, k, steps, i, q):
    """Of the `i`-th block of queries of `steps`: (B, K, G, rows, S)."""
    scores, length = _products(q, k), k.shape[1]
    if not causal:
        return scores
    rows = q.shape[1]
    last = i * rows + jnp.arange(rows) + (length - steps)
    return jnp.where(jnp.arange(length) <= last[:, None], scores, closed(scores))


def closed(scores):
    """The score of a key that a query may not look at."""
    return jnp.finfo(scores.dtype).min.astype(scores.dtype)


def _numbered(*blocks):
    return jnp.arange(len(blocks[0])), *blocks


def _blocks(x, rows):
    """(B, T, ...) as (blocks, B, rows, ...)."""
    return jnp.moveaxis(x.reshape(len(x), -1, rows, *x.shape[2:]), 1, 0)


def _whole(x):
    return jnp.moveaxis(x, 0, 1).reshape(x.shape[1], -1, *x.shape[3:])


def _number_blocks(x, rows):
    """(B, K, G, T) as (blocks, B, K, G, rows)."""
    return jnp.moveaxis(x.reshape(*x.shape[:-1], -1, rows), -2, 0)


def _whole_numbers(x):
    return jnp.moveaxis(x, 0, -2).reshape(*x.shape[1:-1], -1)
