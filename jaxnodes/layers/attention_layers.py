"""Attention as layers: of a sequence to itself, with a cache to decode by, and to a memory."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxnodes.errors import check, check_count, describe, is_concrete
from jaxnodes.initializers import initializer, xavier_uniform, zeros
from jaxnodes.layers.arrays import cast_inputs, check_params, dtype_of
from jaxnodes.layers.base import Layer
from jaxnodes.layers.description import normalize
from jaxnodes.layers.dot_product import dot_product_attention
from jaxnodes.layers.multihead import (
    attention,
    attention_init,
    attention_shapes,
    check_heads,
    head_sizes,
    mixed,
    projected,
)
from jaxnodes.layers.regularization import Dropout
from jaxnodes.layers.sequences import check_sequences, split_mask


@dataclasses.dataclass(frozen=True, repr=False)
class _MultiHead(Layer):
    """What both kinds of attention share."""

    heads: int
    _: dataclasses.KW_ONLY
    head_features: int | None = None
    kv_heads: int | None = None
    use_bias: bool = True
    dropout: float = 0.0
    w_init: Callable | str = xavier_uniform
    b_init: Callable | str = zeros
    out_init: Callable | str | None = None
    dtype: Any = None

    def __post_init__(self):
        check_heads(self.heads, self.head_features, self.kv_heads, type(self).__name__)
        object.__setattr__(self, "dropout", Dropout(self.dropout).rate)
        normalize(self, w_init=initializer, b_init=initializer, out_init=initializer)

    def _init_params(self, key, x, kv_features=None):
        return attention_init(
            key,
            x.shape[-1],
            self.heads,
            head_features=self.head_features,
            kv_heads=self.kv_heads,
            kv_features=kv_features,
            use_bias=self.use_bias,
            w_init=initializer(self.w_init),
            b_init=initializer(self.b_init),
            out_init=None if self.out_init is None else initializer(self.out_init),
            dtype=dtype_of(x),
        )

    def _prepared(self, params, x, kv_features, where):
        """Parameters, checked against the description, and inputs, in the dtype to compute in."""
        features = jnp.shape(x)[-1]
        dim, kv_heads = head_sizes(features, self.heads, self.head_features, self.kv_heads)
        sizes = (features, self.heads, dim, kv_heads, kv_features, features)
        check_params(params, attention_shapes(*sizes, use_bias=self.use_bias), where)
        return cast_inputs(params, x, self.dtype, where)

    def _dropping(self, key, training, where):
        """The arguments of `attention` for dropout."""
        if not training or self.dropout == 0:
            return {}
        check(
            key is not None,
            "expected a key for dropout in training, got none; "
            "apply(..., key=jax.random.key(seed), training=True)",
            where,
        )
        return {"rate": self.dropout, "key": key}


@dataclasses.dataclass(frozen=True, repr=False)
class Attention(_MultiHead):
    """Multi-head attention of a sequence to itself; see `attention`. The heads are nodes.

    Args:
      heads: number of nodes, H.
      head_features: size dim of each head; D / H by default.
      causal: whether a step sees only the steps up to its own.
      rotary: whether queries and keys are rotated by their positions.
      cache: how many steps to keep keys and values of, L, so that a sequence can be decoded
        piece by piece; needs `causal`. Each `apply` then goes on from the steps that the
        state holds. In training the cache is left alone: a batch is a whole sequence.
      kv_heads: heads of keys and values, a divisor of H; H by default.
      use_bias: whether each projection has a bias.
      dropout: its rate, on the weights, in training.
      w_init, b_init: initializers, by function or by name.
      out_init: initializer of the output projection; `w_init` by default.
      dtype: the dtype to compute in; `None` is the parameters'.

    Shapes: x (B, T, D), kept. With a mask (B, T), True at the steps that may be looked at,
    `(x, mask)` to `(y, mask)`; the other forms of mask of `attention` do as well. Parameters
    as `attention_init` makes them. State with a cache: `{"k": (B, L, K, dim), "v": the same,
    "index": ()}`, of which `reset_state` makes an empty one. More than L steps are an error, or
    NaN from then on where `index` is being traced.

    Example: decoding step by step.

    >>> import jax, jax.numpy as jnp, jaxnodes as jn
    >>> layer = jn.Attention(4, causal=True, rotary=True, cache=16)
    >>> x = jax.random.normal(jax.random.key(1), (2, 6, 32))
    >>> params, state = layer.init(jax.random.key(0), x)
    >>> whole = layer.predict((params, state), x)
    >>> for t in range(6):
    ...     y, state = layer.apply(params, state, x[:, t : t + 1])
    ...     assert jnp.allclose(y[:, 0], whole[:, t], atol=1e-5)
    """

    _: dataclasses.KW_ONLY
    causal: bool = False
    rotary: bool = False
    cache: int | None = None

    def __post_init__(self):
        super().__post_init__()
        if self.cache is not None:
            check_count(self.cache, "cache", "Attention")
            check(
                self.causal, "expected causal=True where there is a cache, got False", "Attention"
            )

    def init(self, key, x):
        x, _ = split_mask(x, "attention")
        check_sequences(x, "attention")
        params = self._init_params(key, x)
        if self.cache is None:
            return params, {}
        shape = (*x.shape[:-2], self.cache, *params["w_k"].shape[1:])
        empty = jnp.zeros(shape, self.dtype or dtype_of(x))
        return params, {"k": empty, "v": empty, "index": jnp.zeros((), jnp.int32)}

    def apply(self, params, state, x, *, key=None, training=False):
        x, mask = split_mask(x, "attention")
        check_sequences(x, "attention")
        params, x = self._prepared(params, x, x.shape[-1], "attention")
        if self.cache is not None and not training:
            check(mask is None, "expected no mask where there is a cache, got one", "attention")
            return self._decoded(params, state, x, self.cache)
        dropping = self._dropping(key, training, "attention")
        y = attention(params, x, causal=self.causal, mask=mask, rotary=self.rotary, **dropping)
        return (y if mask is None else (y, mask)), state

    def _decoded(self, params, state, x, length):
        """Attention to the steps in the cache and these, which join them."""
        *leading, steps, _ = x.shape
        self._check_cache(state, tuple(leading), params)
        start = jnp.asarray(state["index"])
        end = start + steps
        used = int(end) if is_concrete(end) else steps
        check(
            used <= length,
            f"expected at most {length} steps in the cache, got {used}; "
            "make it longer, or begin again with reset_state(state)",
            "attention",
        )
        now = start + jnp.arange(steps, dtype=start.dtype)
        q, k, v, params = projected(params, x, rotary=self.rotary, positions=now)
        k = jax.lax.dynamic_update_slice_in_dim(state["k"], k, start, axis=-3)
        v = jax.lax.dynamic_update_slice_in_dim(state["v"], v, start, axis=-3)
        seen = jnp.arange(length, dtype=start.dtype) <= now[:, None]
        context = dot_product_attention(
            q, k, v, mask=jnp.broadcast_to(seen, (*leading, *seen.shape))
        )
        context *= jnp.where(end > length, jnp.nan, 1).astype(context.dtype)
        return mixed(params, context), {"k": k, "v": v, "index": end}

    def _check_cache(self, state, leading, params):
        cached = f"{params['w_k'].dtype} {(*leading, self.cache, *params['w_k'].shape[1:])}"
        expected = {"k": cached, "v": cached, "index": "int32 ()"}
        came = {name: describe(value) for name, value in state.items()}
        check(
            came == expected,
            f"expected the cache {expected}, got {came}; begin with the state of init for "
            "this batch size and dtype",
            "attention",
        )


@dataclasses.dataclass(frozen=True, repr=False)
class CrossAttention(_MultiHead):
    """Multi-head attention of a sequence to another one, the memory. The heads are nodes.

    Args:
      heads, head_features, kv_heads, use_bias, dropout, w_init, b_init, out_init, dtype: as
        in `Attention`.

    Shapes: the pair (x, memory), (B, T, D) and (B, S, E), to (B, T, D); or `(x, memory, mask)`
    with a mask in one of the forms that `attention` takes: (B, S), True at the steps of the
    memory that count, (B, T, S), or (B, H, T, S). Parameters as `attention_init` makes them.

    Example:

    >>> import jax, jax.numpy as jnp, jaxnodes as jn
    >>> layer = jn.CrossAttention(4)
    >>> x, memory = jnp.ones((2, 5, 32)), jnp.ones((2, 9, 48))
    >>> variables = layer.init(jax.random.key(0), (x, memory))
    >>> layer.predict(variables, (x, memory)).shape
    (2, 5, 32)
    """

    def init(self, key, x):
        x, memory, _ = _split_memory(x)
        return self._init_params(key, x, memory.shape[-1]), {}

    def apply(self, params, state, x, *, key=None, training=False):
        x, memory, mask = _split_memory(x)
        params, x = self._prepared(params, x, memory.shape[-1], "cross_attention")
        _, memory = cast_inputs(params, memory, self.dtype, "cross_attention")
        dropping = self._dropping(key, training, "cross_attention")
        return attention(params, x, memory=memory, mask=mask, **dropping), state


def _split_memory(inputs: Any) -> tuple[Any, Any, Any]:
    check(
        isinstance(inputs, tuple) and len(inputs) in (2, 3),
        f"expected (x, memory) or (x, memory, mask), got {describe(inputs)}",
        "cross_attention",
    )
    x, memory, *mask = inputs
    check_sequences(x, "cross_attention")
    check_sequences(memory, "cross_attention")
    return x, memory, mask[0] if mask else None
