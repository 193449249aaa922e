"""The block that transformers are stacks of: attention, then two weighted sums."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnodes.activations import activation as resolve_activation
from jaxnodes.activations import gelu
from jaxnodes.errors import check, check_count, check_number, describe
from jaxnodes.initializers import initializer, normal
from jaxnodes.layers.attention_layers import Attention
from jaxnodes.layers.base import Layer, call
from jaxnodes.layers.combinators import Named, Repeat, Sequential, check_names
from jaxnodes.layers.description import normalize
from jaxnodes.layers.neurons import Dense
from jaxnodes.layers.normalization import LayerNorm
from jaxnodes.layers.regularization import Dropout
from jaxnodes.layers.sequences import split_mask

_small_normal = normal(0.02)


def exact_gelu(x: jax.Array) -> jax.Array:
    """`x Phi(x)` by the error function, as BERT has it; `jn.gelu` is GPT's, by a tanh."""
    return jax.nn.gelu(x, approximate=False)


@dataclasses.dataclass(frozen=True, repr=False)
class TransformerBlock(Layer):
    """Attention to all steps, then two weighted sums for each, both around a shortcut.

        h = x + attention(norm(x)),  y = h + mlp(norm(h))        with the norm before
        h = norm(x + attention(x)),  y = norm(h + mlp(h))        with the norm after

    Args:
      features: size D of the last axis.
      heads: of the attention.
      hidden: nodes between the two weighted sums; 4 D by default.
      activation: theirs, a function or a name; GPT's approximation of gelu by default.
      pre_norm: whether each norm comes before its branch (GPT-2), or after the sum (BERT).
      epsilon: of the norms.
      causal, rotary, cache, kv_heads: as in `Attention`.
      dropout: the rate, in training, on attention's weights and on what each branch adds.
      w_init: initializer of all weights, by function or by name; normal of standard
        deviation 0.02 by default.
      out_init: of the two weights that end a branch; `w_init` by default.
      dtype: the dtype to compute in; `None` is the parameters'.

    Shapes: x (B, T, D), kept. With a mask (B, T), True at the steps that may be looked at,
    `(x, mask)` to `(y, mask)`. The nodes are the heads, `attention1`, and the sums,
    `mlp/dense1` and `mlp/dense2`.

    Source: Vaswani et al. 2017, arXiv:1706.03762; the norm before, Radford et al. 2019,
    Language models are unsupervised multitask learners.

    Example:

    >>> import jax, jax.numpy as jnp, jaxnodes as jn
    >>> block = jn.TransformerBlock(32, heads=4, causal=True)
    >>> variables = block.init(jax.random.key(0), jnp.ones((2, 5, 32)))
    >>> y, nodes = jn.record(block.predict)(variables, jnp.ones((2, 5, 32)))
    >>> {name: value.shape for name, value in nodes.items()}
    {'attention1': (2, 5, 4, 8), 'mlp/dense1': (2, 5, 128), 'mlp/dense2': (2, 5, 32)}
    """

    features: int
    heads: int
    _: dataclasses.KW_ONLY
    hidden: int | None = None
    activation: Callable | str = gelu
    pre_norm: bool = True
    epsilon: float = 1e-5
    causal: bool = False
    rotary: bool = False
    cache: int | None = None
    kv_heads: int | None = None
    dropout: float = 0.0
    w_init: Callable | str = _small_normal
    out_init: Callable | str | None = None
    dtype: Any = None

    def __post_init__(self):
        check_heads_share(self.features, self.heads, "TransformerBlock")
        if self.hidden is not None:
            check_count(self.hidden, "hidden", "TransformerBlock")
        normalize(self, activation=resolve_activation, w_init=initializer, out_init=initializer)
        self.layers  # noqa: B018  (whatever they refuse is refused now)

    @property
    def layers(self) -> Named:
        """The layers inside, each with its name."""
        inits = {"w_init": self.w_init, "out_init": self.out_init}
        attention = Attention(
            self.heads,
            kv_heads=self.kv_heads,
            causal=self.causal,
            rotary=self.rotary,
            cache=self.cache,
            dropout=self.dropout,
            dtype=self.dtype,
            **inits,
        )
        hidden = self.hidden or 4 * self.features
        mlp = Sequential(
            Dense(hidden, self.activation, w_init=self.w_init, dtype=self.dtype),
            Dense(self.features, w_init=self.out_init or self.w_init, dtype=self.dtype),
        )
        norm = LayerNorm(self.epsilon, dtype=self.dtype)
        drop = Dropout(self.dropout)
        return (
            ("norm1", norm),
            ("attention1", attention),
            ("dropout1", drop),
            ("norm2", norm),
            ("mlp", mlp),
            ("dropout2", drop),
        )

    def apply(self, params, state, x, *, key=None, training=False):
        x, mask = split_mask(x, "transformer_block")
        check(
            jnp.ndim(x) >= 2 and x.shape[-1] == self.features,
            f"expected sequences (batch, steps, {self.features}), got {describe(x)}",
            "transformer_block",
        )
        check_names(params, self.layers, "transformer_block")
        x = x if self.dtype is None else jnp.asarray(x).astype(self.dtype)
        layers, options = self.layers, {"key": key, "training": training}
        for norm, branch, drop in (layers[:3], layers[3:]):
            y = x
            if self.pre_norm:
                y, state = call(norm[1], norm[0], params, state, y, **options)
            if mask is not None and branch[0] == "attention1":
                (y, _), state = call(branch[1], branch[0], params, state, (y, mask), **options)
            else:
                y, state = call(branch[1], branch[0], params, state, y, **options)
            y, state = call(drop[1], drop[0], params, state, y, **options)
            x = x.astype(y.dtype) + y
            if not self.pre_norm:
                x, state = call(norm[1], norm[0], params, state, x, **options)
        return (x if mask is None else (x, mask)), state


@dataclasses.dataclass(frozen=True, repr=False)
class _Transformer(Layer):
    """What decoders and encoders share: a description of their blocks."""

    vocabulary: int
    _: dataclasses.KW_ONLY
    features: int
    blocks: int
    heads: int
    context: int
    hidden: int | None = None
    dropout: float = 0.0
    std: float = 0.02
    scan: bool = False
    dtype: Any = None

    def __post_init__(self):
        where = type(self).__name__
        for name in ("vocabulary", "blocks", "context"):
            check_count(getattr(self, name), name, where)
        check_number(self.std, "std", where, least=float(np.finfo(np.float32).tiny))
        check_heads_share(self.features, self.heads, where)
        normalize(self)

    def _stack(self, **options: Any) -> Named:
        block = TransformerBlock(
            self.features,
            self.heads,
            hidden=self.hidden,
            dropout=self.dropout,
            w_init=normal(self.std),
            dtype=self.dtype,
            **options,
        )
        if self.scan:
            return (("blocks", Repeat(Sequential(block=block), self.blocks)),)
        return tuple((f"block{i}", block) for i in range(1, self.blocks + 1))


def check_heads_share(features: int, heads: int, where: str) -> None:
    """Raises unless each head gets a whole number of the features."""
    check_count(features, "features", where)
    check_count(heads, "heads", where)
    check(
        features % heads == 0,
        f"expected features that {heads} heads can share, got {features}",
        where,
    )
