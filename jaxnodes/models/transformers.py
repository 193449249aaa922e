"""Transformers: GPT-2 and BERT, by the sizes of their papers."""

from typing import Any

from jaxnodes.layers.decoders import TransformerDecoder
from jaxnodes.layers.encoders import TransformerEncoder


def gpt(
    vocabulary: int,
    *,
    layers: int = 12,
    heads: int = 12,
    features: int = 768,
    context: int = 1024,
    hidden: int | None = None,
    kv_heads: int | None = None,
    rotary: bool = False,
    dropout: float = 0.1,
    cache: bool = False,
    scan: bool = False,
    dtype: Any = None,
) -> TransformerDecoder:
    """GPT-2 (Radford et al. 2019), by default the small one, of 124 million parameters.

    Args:
      vocabulary: number of ids; 50257 in GPT-2.
      layers: how many blocks; 24, 36 and 48 in the larger ones.
      heads: of each block's attention; 16, 20 and 25 in the larger ones.
      features: size of the vectors in between; 1024, 1280 and 1600 in the larger ones.
      context: how many steps there can be.
      hidden: nodes within each block; 4 times the features by default.
      kv_heads: heads of keys and values, a divisor of `heads`; `heads` by default.
      rotary: whether attention rotates by positions, in place of learned ones.
      dropout: the rate in training.
      cache: whether the state keeps keys and values, for `generate`.
      scan: whether the blocks are compiled as one.
      dtype: the dtype to compute in; `None` is the parameters'.

    Returns:
      A `TransformerDecoder`: ids (B, T) to logits (B, T, vocabulary). To train it,
      `jn.fit(net, (ids[:, :-1], ids[:, 1:]), loss=jn.cross_entropy, ...)`.

    Raises:
      JaxNodesError: sizes that aren't whole, or that don't divide each other.

    Example:

    >>> import jax, jax.numpy as jnp
    >>> net = gpt(50257)
    >>> ids = jax.ShapeDtypeStruct((1, 1024), jnp.int32)
    >>> params, _ = jax.eval_shape(net.init, jax.random.key(0), ids)
    >>> sum(p.size for p in jax.tree.leaves(params))
    124439808
    """
    return TransformerDecoder(
        vocabulary,
        features=features,
        blocks=layers,
        heads=heads,
        context=context,
        hidden=hidden,
        kv_heads=kv_heads,
        rotary=rotary,
        dropout=dropout,
        cache=cache,
        scan=scan,
        dtype=dtype,
    )


def bert(
    vocabulary: int,
    *,
    layers: int = 12,
    heads: int = 12,
    features: int = 768,
    context: int = 512,
    types: int = 2,
    hidden: int | None = None,
    dropout: float = 0.1,
    scan: bool = False,
    dtype: Any = None,
) -> TransformerEncoder:
    """BERT (Devlin et al. 2018, arXiv:1810.04805), by default the base one, without heads.

    Heads go around it: `jn.Pooled(bert(...))` for the pooled first step (110 million
    parameters), `jn.Pooled(bert(...), classes=2)` for classes of sequences,
    `jn.MaskedTokens(bert(...))` for masked tokens. All call it `encoder`, so that one's
    `params["encoder"]` is the other's.

    Args:
      vocabulary: number of ids; 30522 in BERT uncased.
      layers: how many blocks; 24 in the large one.
      heads: of each block's attention; 16 in the large one.
      features: size of the vectors; 1024 in the large one.
      context: how many steps there can be.
      types: number of types of steps (the first sentence, the second).
      hidden: nodes within each block; 4 times the features by default.
      dropout: the rate in training.
      scan: whether the blocks are compiled as one.
      dtype: the dtype to compute in; `None` is the parameters'.

    Returns:
      A `TransformerEncoder`: ids (B, T), `(ids, mask)` or `(ids, mask, types)` to vectors
      (B, T, features).

    Raises:
      JaxNodesError: sizes that aren't whole, or that don't divide each other.

    Example:

    >>> import jax, jax.numpy as jnp, jaxnodes as jn
    >>> net = jn.Pooled(bert(30522))
    >>> ids = jax.ShapeDtypeStruct((1, 512), jnp.int32)
    >>> params, _ = jax.eval_shape(net.init, jax.random.key(0), ids)
    >>> sum(p.size for p in jax.tree.leaves(params))
    109482240
    """
    return TransformerEncoder(
        vocabulary,
        features=features,
        blocks=layers,
        heads=heads,
        context=context,
        types=types,
        hidden=hidden,
        dropout=dropout,
        scan=scan,
        dtype=dtype,
    )
