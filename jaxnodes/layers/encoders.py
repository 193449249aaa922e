"""The encoder: a transformer that sees all steps at once, and what is put on top of it."""

import dataclasses
from typing import Any

import jax.numpy as jnp

from jaxnodes.errors import check, check_count, describe
from jaxnodes.initializers import normal
from jaxnodes.layers.base import Layer, call
from jaxnodes.layers.combinators import Named, check_names
from jaxnodes.layers.embeddings import Embedding, Unembedding
from jaxnodes.layers.neurons import Dense
from jaxnodes.layers.normalization import LayerNorm
from jaxnodes.layers.positions import LearnedPositions
from jaxnodes.layers.regularization import Dropout
from jaxnodes.layers.sequences import check_mask
from jaxnodes.layers.transformers import _Transformer, exact_gelu

_EPSILON = 1e-12


@dataclasses.dataclass(frozen=True, repr=False)
class TransformerEncoder(_Transformer):
    """A transformer in the manner of BERT: ids to a vector a step, from all steps.

    The sum of the embeddings of ids, positions and types, its norm, and blocks with the norm
    after. The norms' epsilon is 1e-12, the activation gelu by the error function.

    Args:
      vocabulary: number of ids.
      features: size D of the vectors.
      blocks: how many `TransformerBlock`s.
      heads: of each block's attention.
      context: how many steps there can be.
      types: number of types of steps (the first sentence, the second).
      hidden: nodes within each block; 4 D by default.
      dropout: the rate, in training, behind the embeddings and in the blocks.
      std: of the weights, normal at first. (The paper's code cuts them off at two.)
      scan: whether the blocks are one `Repeat`, which compiles as fast as one block. The
        parameters are then those of `blocks/block`, stacked.
      dtype: the dtype to compute in; `None` is the parameters'.

    Shapes: integer ids (B, T), or `(ids, mask)` with a mask (B, T), True at the steps that
    count (`lengths_to_mask`), or `(ids, mask, types)` with integer types (B, T), zero where
    none are given; to (B, T, D). The vectors of steps that don't count mean nothing.

    Source: Devlin et al. 2018, arXiv:1810.04805.

    Example:

    >>> import jax, jax.numpy as jnp, jaxnodes as jn
    >>> net = jn.TransformerEncoder(50, features=8, blocks=1, heads=2, context=16)
    >>> x = jnp.array([[3, 1, 4, 1], [5, 9, 0, 0]]), jn.lengths_to_mask(jnp.array([4, 2]), 4)
    >>> variables = net.init(jax.random.key(0), x)
    >>> net.predict(variables, x).shape
    (2, 4, 8)
    """

    _: dataclasses.KW_ONLY
    types: int = 2

    def __post_init__(self):
        check_count(self.types, "types", "TransformerEncoder")
        super().__post_init__()
        self.layers  # noqa: B018  (whatever they refuse is refused now)

    @property
    def layers(self) -> Named:
        """The layers inside, each with its name."""
        options: dict[str, Any] = {"w_init": normal(self.std), "dtype": self.dtype}
        return (
            ("embedding", Embedding(self.vocabulary, self.features, **options)),
            ("types", Embedding(self.types, self.features, **options)),
            ("positions", LearnedPositions(self.context, **options)),
            ("norm1", LayerNorm(_EPSILON, dtype=self.dtype)),
            ("dropout1", Dropout(self.dropout)),
            *self._stack(activation=exact_gelu, pre_norm=False, epsilon=_EPSILON),
        )

    def apply(self, params, state, x, *, key=None, training=False):
        ids, mask, types = self._split(x)
        embedding, of_types, positions, norm, drop, *blocks = self.layers
        check_names(params, self.layers, "transformer_encoder")
        x, state = call(embedding[1], embedding[0], params, state, ids)
        by_type, state = call(of_types[1], of_types[0], params, state, types)
        x = x + by_type
        for name, layer in (positions, norm, drop):
            x, state = call(layer, name, params, state, x, key=key, training=training)
        x = x if mask is None else (x, mask)
        for name, layer in blocks:
            x, state = call(layer, name, params, state, x, key=key, training=training)
        return (x if mask is None else x[0]), state

    def _split(self, x: Any) -> tuple[Any, Any, Any]:
        """`(ids, mask, types)` of an input that may leave out the last two."""
        where = "transformer_encoder"
        parts = x if isinstance(x, tuple) else (x,)
        check(len(parts) in (1, 2, 3), f"expected up to three parts, got {len(parts)}", where)
        ids, mask, types = (*parts, None, None)[:3]
        shape = getattr(ids, "shape", ())
        check(
            shape and shape[-1] <= self.context,
            f"expected ids (batch, steps), at most {self.context} steps, got {describe(ids)}",
            where,
        )
        mask = None if mask is None else check_mask(mask, shape, where)
        types = jnp.zeros(shape, jnp.int32) if types is None else types
        check(
            getattr(types, "shape", None) == shape,
            f"expected types {shape}, one a step, got {describe(types)}",
            where,
        )
        return ids, mask, types


@dataclasses.dataclass(frozen=True, repr=False)
class _OnEncoder(Layer):
    """What is put on top of an encoder, which is called `encoder`."""

    encoder: TransformerEncoder

    def __post_init__(self):
        check(
            isinstance(self.encoder, TransformerEncoder),
            f"expected a TransformerEncoder, got {self.encoder!r}",
            type(self).__name__,
        )

    def _dense(self, features: int, activation: Any = None) -> Dense:
        encoder = self.encoder
        return Dense(features, activation, w_init=normal(encoder.std), dtype=encoder.dtype)


@dataclasses.dataclass(frozen=True, repr=False)
class MaskedTokens(_OnEncoder):
    """An encoder that says which id stands at each step, to be trained on masked ones.

        h = norm(gelu(encoder(x) w + b)),  logits = h embedding^T + bias

    Args:
      encoder: a `TransformerEncoder`.

    Shapes: what the encoder takes, to logits (B, T, vocabulary). `jn.models.mask_tokens`
    makes the inputs, the targets and their weights.

    Source: Devlin et al. 2018, arXiv:1810.04805, section 3.1.

    Example:

    >>> import jax, jax.numpy as jnp, jaxnodes as jn
    >>> encoder = jn.TransformerEncoder(50, features=8, blocks=1, heads=2, context=16)
    >>> net, ids = jn.MaskedTokens(encoder), jnp.array([[3, 1, 4, 1]])
    >>> net.predict(net.init(jax.random.key(0), ids), ids).shape
    (1, 4, 50)
    """

    @property
    def layers(self) -> Named:
        """The layers inside, each with its name, in the order of their use."""
        encoder = self.encoder
        return (
            ("encoder", encoder),
            ("dense1", self._dense(encoder.features, exact_gelu)),
            ("norm1", LayerNorm(_EPSILON, dtype=encoder.dtype)),
            ("logits", Unembedding(encoder.vocabulary, use_bias=True, dtype=encoder.dtype)),
        )

    def apply(self, params, state, x, *, key=None, training=False):
        *body, (last, logits) = self.layers
        check_names(params, self.layers, "masked_tokens")
        for name, layer in body:
            x, state = call(layer, name, params, state, x, key=key, training=training)
        return call(logits, last, params, state, (x, params["encoder"]["embedding"]["w"]))


@dataclasses.dataclass(frozen=True, repr=False)
class Pooled(_OnEncoder):
    """The encoder's first step, for the whole of a sequence: `tanh(first w + b)`.

    Args:
      encoder: a `TransformerEncoder`.
      classes: of a weighted sum for each behind it, the logits; `None` is none.
      dropout: the rate, in training, before those.

    Shapes: what the encoder takes, to (B, D), or with classes to logits (B, classes).

    Source: Devlin et al. 2018, arXiv:1810.04805, section 4.1.

    Example:

    >>> import jax, jax.numpy as jnp, jaxnodes as jn
    >>> encoder = jn.TransformerEncoder(50, features=8, blocks=1, heads=2, context=16)
    >>> net, ids = jn.Pooled(encoder, classes=3), jnp.array([[3, 1, 4, 1]])
    >>> net.predict(net.init(jax.random.key(0), ids), ids).shape
    (1, 3)
    """

    classes: int | None = None
    _: dataclasses.KW_ONLY
    dropout: float = 0.1

    def __post_init__(self):
        super().__post_init__()
        if self.classes is not None:
            check_count(self.classes, "classes", "Pooled", least=2)
        object.__setattr__(self, "dropout", Dropout(self.dropout).rate)

    @property
    def layers(self) -> Named:
        """The layers inside, each with its name, in the order of their use."""
        pooled = (("encoder", self.encoder), ("pooler", self._dense(self.encoder.features, "tanh")))
        if self.classes is None:
            return pooled
        return (*pooled, ("dropout1", Dropout(self.dropout)), ("out", self._dense(self.classes)))

    def apply(self, params, state, x, *, key=None, training=False):
        check_names(params, self.layers, "pooled")
        for name, layer in self.layers:
            x, state = call(layer, name, params, state, x, key=key, training=training)
            x = x[..., 0, :] if name == "encoder" else x
        return x, state
