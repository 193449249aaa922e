"""Every public layer, with its options: what the tests that hold for all layers walk."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import jaxnodes as jn


class Entry(NamedTuple):
    """A layer, and what makes a batch for it: `x(key)`.

    `wrong` makes a batch of another feature count, which the layer must refuse; `None`
    where any will do.
    """

    layer: Any
    x: Callable[[jax.Array], Any]
    wrong: Callable[[jax.Array], Any] | None = None


def floats(*shape):
    return lambda key: jax.random.normal(key, shape)


def ids(*shape, below):
    return lambda key: jax.random.randint(key, shape, 0, below)


def masked(*shape):
    """Sequences, the first of which is one step short."""

    def make(key):
        lengths = jnp.full(shape[0], shape[1]).at[0].add(-1)
        return floats(*shape)(key), jn.lengths_to_mask(lengths, shape[1])

    return make


def masked_ids(*shape, below):
    def make(key):
        return ids(*shape, below=below)(key), masked(*shape)(key)[1]

    return make


def both(x, memory):
    def make(key):
        a, b = jax.random.split(key)
        return x(a), memory(b)

    return make


def _of(shape, *layers, free=False, x=floats):
    """Entries of layers that take one shape; `free` if they take any number of features."""
    wrong = None if free else x(*shape[:-1], shape[-1] + 1)
    return [Entry(layer, x(*shape), wrong) for layer in layers]


ROWS, SEQUENCES = (6, 3), (2, 3, 4)
_TINY = {"features": 4, "blocks": 1, "heads": 2, "context": 3, "hidden": 5}
SIGNALS, IMAGES, VOLUMES = (2, 5, 4), (2, 6, 6, 2), (1, 4, 4, 4, 2)

_ENTRIES = [
    *_of(
        ROWS,
        jn.Dense(4),
        jn.Dense(4, "relu", w_init="xavier_uniform", b_init=jn.ones),
        jn.Dense(2, jn.softmax, use_bias=False),
        jn.Dense(1, "tanh", in_features=3),
        jn.Sequential(jn.Dense(3, "tanh"), jn.BatchNorm(), out=jn.Dense(2)),
        jn.Sequential(jn.Sequential(jn.Dense(3), jn.gelu), inner=jn.Sequential(jn.Dense(3))),
        jn.Residual(jn.Sequential(jn.Dense(4, "relu"), jn.Dense(3))),
        jn.Parallel(jn.Dense(2), jn.Dense(3, "relu"), extra=jn.RMSNorm()),
        jn.Parallel(jn.Dense(2), jn.Dense(2), merge="sum"),
        jn.Repeat(jn.Dense(3, "tanh"), 3),
        jn.Repeat(jn.Sequential(jn.Dense(3), jn.BatchNorm(), jn.Dropout(0.2)), 2, remat=True),
        jn.LayerNorm(1e-3, use_bias=False),
        jn.RMSNorm(),
        jn.fully_connected([3, 5, 4, 2], "elu", "softmax", dropout=0.1),
        jn.bounded_head(-1, 3, activation="tanh"),
    ),
    *_of(
        IMAGES,
        jn.Conv(3, 3, "relu"),
        jn.Conv(4, (2, 3), stride=2, padding="VALID", groups=2),
        jn.Conv(2, 3, padding=((1, 0), 1), dilation=2, use_bias=False),
        jn.ConvTranspose(3, 2, "tanh", stride=2),
        jn.ConvTranspose(1, 3, stride=(2, 1), padding="VALID", use_bias=False),
        jn.Sequential(jn.Conv(2, 3), jn.BatchNorm(), jn.relu, jn.MaxPool(2), jn.Flatten()),
        jn.BatchNorm(0.3, 1e-3, unbiased=True),
        jn.GroupNorm(2, 1e-3),
        jn.SqueezeExcite(3, "silu", gate="hard_sigmoid", w_init="xavier_uniform"),
    ),
    *_of(
        IMAGES,
        jn.MaxPool((3, 2), stride=2, padding="SAME"),
        jn.MaxPool(6),
        jn.AvgPool(3, stride=1, padding=((1, 0), (0, 1))),
        jn.GlobalAvgPool(),
        jn.GlobalMaxPool(),
        jn.Flatten(),
        jn.Reshape((9, -1)),
        jn.Dropout(0.25, shared_axes=(1, -1)),
        jn.ChannelDropout(0.5),
        jn.Rescale(2.0, 1.0),
        jn.Sequential(),
        jn.Sequential("leaky_relu"),
        free=True,
    ),
    *_of(SIGNALS, jn.Conv(3, (3,), "relu", stride=2), jn.ConvTranspose(2, (3,), padding=1)),
    *_of(SIGNALS, jn.MaxPool(2), jn.AvgPool((3,), stride=1, padding=1), free=True),
    *_of(VOLUMES, jn.Conv(2, (2, 2, 2), padding="VALID", w_init="he_normal_fan_out")),
    *_of(VOLUMES, jn.MaxPool(2), jn.AvgPool(2, padding="SAME"), free=True),
    *_of(
        SEQUENCES,
        jn.SimpleRNN(3, activation="relu", reverse=True),
        jn.LSTM(3, forget_bias=1.0, stateful=True),
        jn.GRU(2, stateful=True, recurrent_init="xavier_normal"),
        jn.Bidirectional(jn.LSTM(3), merge="sum"),
        jn.Attention(2, causal=True, rotary=True, use_bias=False, head_features=4),
        jn.Attention(4, kv_heads=2, dropout=0.5),
        jn.Attention(1, causal=True, cache=5),
        jn.LearnedPositions(5, stateful=True),
        jn.TransformerBlock(4, 2, hidden=5, pre_norm=False, dropout=0.2, out_init="zeros"),
    ),
    *_of(SEQUENCES, jn.PositionalEncoding(), jn.LastStep(), free=True),
    *_of(SEQUENCES, jn.LSTM(3), jn.Sequential(jn.GRU(2), jn.LastStep()), jn.Attention(2), x=masked),
    Entry(
        jn.CrossAttention(2),
        both(floats(*SEQUENCES), floats(2, 5, 3)),
        both(floats(*SEQUENCES), floats(2, 5, 2)),
    ),
    Entry(jn.Embedding(7, 3), ids(2, 4, below=7)),
    Entry(
        jn.Unembedding(7, use_bias=True),
        both(floats(*SEQUENCES), floats(7, 4)),
        both(floats(*SEQUENCES), floats(7, 3)),
    ),
    Entry(jn.TransformerDecoder(7, **_TINY, kv_heads=1, cache=True), ids(2, 3, below=7)),
    Entry(jn.MaskedTokens(jn.TransformerEncoder(7, **_TINY)), masked_ids(2, 3, below=7)),
    Entry(jn.Pooled(jn.TransformerEncoder(7, **_TINY), 2), ids(2, 3, below=7)),
    Entry(
        jn.Sequential(jn.Embedding(7, 4), jn.PositionalEncoding(), jn.Attention(2)),
        ids(2, 4, below=7),
    ),
]


def _names(entries):
    """One legible name an entry, for pytest: the layer on one line."""
    lines = [" ".join(repr(entry.layer).split()) for entry in entries]
    return [f"{i}-{line[:60]}" for i, line in enumerate(lines)]


TABLE: dict[str, Entry] = dict(zip(_names(_ENTRIES), _ENTRIES, strict=True))
