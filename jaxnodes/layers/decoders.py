"""The decoder: a transformer that says, for each step, which id comes next."""

import dataclasses
import math

from jaxnodes.errors import check, describe
from jaxnodes.initializers import normal
from jaxnodes.layers.base import call
from jaxnodes.layers.combinators import Named, check_names
from jaxnodes.layers.embeddings import Embedding, Unembedding
from jaxnodes.layers.normalization import LayerNorm
from jaxnodes.layers.positions import LearnedPositions
from jaxnodes.layers.regularization import Dropout
from jaxnodes.layers.transformers import _Transformer


@dataclasses.dataclass(frozen=True, repr=False)
class TransformerDecoder(_Transformer):
    """A causal language model in the manner of GPT-2: ids to logits of the ids that follow.

    Embedding and positions, blocks with the norm before, a last norm, and weighted sums with
    the embedding's own vectors.

    Args:
      vocabulary: number of ids, V.
      features: size D of the vectors in between.
      blocks: how many `TransformerBlock`s.
      heads: of each block's attention.
      context: how many steps there can be.
      hidden: nodes within each block; 4 D by default.
      kv_heads: heads of keys and values, a divisor of `heads`; `heads` by default.
      rotary: whether attention rotates by positions, in place of learned ones.
      dropout: the rate, in training, behind the positions and in the blocks.
      std: of the weights, normal at first; of those that end a branch, divided by
        sqrt(2 blocks), since as many are added up.
      cache: whether the state keeps keys and values, so that ids can be given piece by piece;
        `dataclasses.replace(net, cache=True)` takes the same parameters. In training the
        cache is left alone.
      scan: whether the blocks are one `Repeat`, which compiles as fast as one block. The
        parameters are then those of `blocks/block`, stacked.
      dtype: the dtype to compute in; `None` is the parameters'.

    Shapes: integer ids (B, T) to logits (B, T, V), each step's from the steps up to it. The
    nodes are those of `block1`, `block2`, ..., and `logits`.

    Source: Radford et al. 2019, Language models are unsupervised multitask learners.

    Example:

    >>> import jax, jax.numpy as jnp, jaxnodes as jn
    >>> net = jn.TransformerDecoder(50, features=8, blocks=1, heads=2, context=16)
    >>> ids = jnp.array([[3, 1, 4, 1]])
    >>> variables = net.init(jax.random.key(0), ids)
    >>> net.predict(variables, ids).shape
    (1, 4, 50)
    """

    _: dataclasses.KW_ONLY
    kv_heads: int | None = None
    rotary: bool = False
    cache: bool = False

    def __post_init__(self):
        super().__post_init__()
        self.layers  # noqa: B018  (whatever they refuse is refused now)

    @property
    def layers(self) -> Named:
        """The layers inside, each with its name, in the order of their use."""
        init, dtype = normal(self.std), self.dtype
        learned = LearnedPositions(self.context, w_init=init, stateful=self.cache, dtype=dtype)
        return (
            ("embedding", Embedding(self.vocabulary, self.features, w_init=init, dtype=dtype)),
            *([] if self.rotary else [("positions", learned)]),
            ("dropout1", Dropout(self.dropout)),
            *self._stack(
                causal=True,
                rotary=self.rotary,
                cache=self.context if self.cache else None,
                kv_heads=self.kv_heads,
                out_init=normal(self.std / math.sqrt(2 * self.blocks)),
            ),
            ("norm1", LayerNorm(dtype=dtype)),
            ("logits", Unembedding(self.vocabulary, dtype=dtype)),
        )

    def apply(self, params, state, x, *, key=None, training=False):
        shape = getattr(x, "shape", ())
        check(
            shape and shape[-1] <= self.context,
            f"expected ids (batch, steps), at most {self.context} steps, got {describe(x)}",
            "transformer_decoder",
        )
        *body, (last, logits) = self.layers
        check_names(params, self.layers, "transformer_decoder")
        for name, layer in body:
            x, state = call(layer, name, params, state, x, key=key, training=training)
        return call(logits, last, params, state, (x, params["embedding"]["w"]))
