"""Multi-head attention as pure functions: projections around `dot_product_attention`.

The nodes are the heads: each head's context, before the output projection mixes them.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxnodes.errors import check, check_count, check_key
from jaxnodes.initializers import xavier_uniform, zeros
from jaxnodes.layers.arrays import Params, cast_inputs, check_params
from jaxnodes.layers.dot_product import dot_product_attention, dot_product_weights
from jaxnodes.layers.positions import rotary as rotate
from jaxnodes.primitive import node


def attention_init(
    key: jax.Array,
    features: int,
    heads: int,
    *,
    head_features: int | None = None,
    kv_heads: int | None = None,
    kv_features: int | None = None,
    out_features: int | None = None,
    use_bias: bool = True,
    w_init: Callable = xavier_uniform,
    b_init: Callable = zeros,
    out_init: Callable | None = None,
    dtype: Any = jnp.float32,
) -> dict[str, jax.Array]:
    """Parameters of multi-head attention.

    Args:
      key: a typed PRNG key.
      features: size D of the last axis of the inputs.
      heads: number of nodes, H.
      head_features: size dim of each head; D / H by default.
      kv_heads: heads K of keys and values, a divisor of H; H by default.
      kv_features: size E of the last axis of the memory; D by default.
      out_features: size O of the last axis of the outputs; D by default.
      use_bias: whether each projection has a bias.
      w_init, b_init: initializers `(key, shape, dtype)`. Each projection is drawn as one
        matrix of all heads, (D, H dim) for the queries.
      out_init: initializer of w_o; `w_init` by default.
      dtype: of all arrays.

    Returns:
      `{"w_q": (D, H, dim), "w_k": (E, K, dim), "w_v": (E, K, dim), "w_o": (H, dim, O)}` and
      the biases `{"b_q": (H, dim), "b_k": (K, dim), "b_v": (K, dim), "b_o": (O,)}`: flax's
      arrays as they are. Of torch's `in_proj_weight`, each third, transposed and reshaped
      to (D, H, dim); of `out_proj.weight`, the transpose, reshaped to (H, dim, D).

    Raises:
      JaxNodesError: numbers that aren't whole, or D or H that can't be divided.
    """
    check_key(key, "attention")
    head_features, kv_heads = head_sizes(features, heads, head_features, kv_heads)
    kv_features = features if kv_features is None else kv_features
    out_features = features if out_features is None else out_features
    check_count(kv_features, "kv_features", "attention")
    check_count(out_features, "out_features", "attention")
    sizes = (features, heads, head_features, kv_heads, kv_features, out_features)
    shapes = attention_shapes(*sizes, use_bias=True)
    params = {}
    for name, subkey in zip("qkvo", jax.random.split(key, 4), strict=True):
        w_key, b_key = jax.random.split(subkey)
        w_shape, b_shape = shapes[f"w_{name}"], shapes[f"b_{name}"]
        matrix = (math.prod(w_shape) // math.prod(b_shape), math.prod(b_shape))
        draw = (name == "o" and out_init) or w_init
        params[f"w_{name}"] = draw(w_key, matrix, dtype).reshape(w_shape)
        if use_bias:
            params[f"b_{name}"] = b_init(b_key, b_shape, dtype)
    return params


def attention(
    params: Params,
    x: Any,
    *,
    memory: Any = None,
    causal: bool = False,
    mask: Any = None,
    rotary: bool = False,
    rate: float = 0.0,
    key: jax.Array | None = None,
) -> jax.Array:
    """Multi-head attention of `x` to itself, or to a memory.

        q, k, v = x w_q + b_q, memory w_k + b_k, memory w_v + b_v
        y = softmax(q k^T / sqrt(dim)) v w_o + b_o

    Args:
      params: as `attention_init` makes them; the biases may be left out, all of them.
      x: (..., T, D).
      memory: (..., S, E), what to attend to; `x` by default.
      causal: whether a step sees only the steps up to its own, as in
        `dot_product_attention`.
      mask: boolean, True where a step may look: (..., S) says which steps of the memory
        count, (..., T, S) is for each step of x its own, (..., heads or 1, T, S) for each
        head. Repeat a (T, S) that holds for a whole batch: where S = B = T it would read
        as (B, S). A step that may look nowhere gives b_o.
      rotary: whether queries and keys are rotated by their positions (`rotary`);
        for self-attention only.
      rate: of dropout on the weights.
      key: a typed PRNG key, for dropout.

    Returns:
      (..., T, O).

    Raises:
      JaxNodesError: shapes or dtypes that don't fit.

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.2.

    Example:

    >>> import jax, jax.numpy as jnp, jaxnodes as jn
    >>> params = jn.attention_init(jax.random.key(0), 32, heads=4)
    >>> jn.attention(params, jnp.ones((2, 7, 32)), causal=True).shape
    (2, 7, 32)
    """
    q, k, v, params = projected(params, x, memory, rotary)
    context = dot_product_attention(q, k, v, causal=causal, mask=mask, rate=rate, key=key)
    return mixed(params, context)


def attention_weights(
    params: Params,
    x: Any,
    *,
    memory: Any = None,
    causal: bool = False,
    mask: Any = None,
    rotary: bool = False,
) -> jax.Array:
    """How much each step attends to each step, in each head.

    Args:
      params, x, memory, causal, mask, rotary: as in `attention`.

    Returns:
      (..., heads, T, S), in float32 at least. The rows sum to one, or are zero where a step
      may look nowhere.

    Example:

    >>> import jax, jax.numpy as jnp, jaxnodes as jn
    >>> params = jn.attention_init(jax.random.key(0), 32, heads=4)
    >>> weights = jn.attention_weights(params, jnp.ones((2, 3, 32)), causal=True)
    >>> weights[0, 0].round(2)
    Array([[1.  , 0.  , 0.  ],
           [0.5 , 0.5 , 0.  ],
           [0.33, 0.33, 0.33]], dtype=float32)
    """
    q, k, _, _ = projected(params, x, memory, rotary)
    return dot_product_weights(q, k, causal=causal, mask=mask)


def projected(
    params: Params, x: Any, memory: Any = None, rotary: bool = False, positions: Any = None
) -> tuple[jax.Array, jax.Array, jax.Array, Params]:
    """Queries, keys and values in heads, and the parameters, all in one dtype.

    If `rotary`, queries and keys are rotated by the `positions` of x, 0 to T - 1 by default.
    """
    _check_attention(params)
    params, x = cast_inputs(params, x, None, "attention")
    _check_features(x, params["w_q"], "inputs")
    if memory is None:
        memory = x
    else:
        check(not rotary, "expected self-attention for rotary=True, got a memory", "attention")
        _, memory = cast_inputs(params, memory, None, "attention")
        check(
            memory.shape[:-2] == x.shape[:-2],
            f"expected a memory with the batch axes of x, {x.shape[:-2]}, got {memory.shape}",
            "attention",
        )
    _check_features(memory, params["w_k"], "memory")
    q, k, v = (_project(params, name, of) for name, of in (("q", x), ("k", memory), ("v", memory)))
    if rotary:
        positions = jnp.arange(x.shape[-2]) if positions is None else positions
        q, k = rotate(q, positions), rotate(k, positions)
    return q, k, v, params


def mixed(params: Params, context: jax.Array) -> jax.Array:
    """The output projection of the heads' contexts, (..., T, H, dim), which are nodes."""
    context = node(context, axis=-2)
    y = jnp.einsum("...hd,hdo->...o", context, params["w_o"])
    return y + params["b_o"] if "b_o" in params else y


def head_sizes(
    features: int, heads: int, head_features: int | None, kv_heads: int | None
) -> tuple[int, int]:
    """`(head_features, kv_heads)` with the defaults filled in, checked."""
    check_count(features, "features", "attention")
    check_heads(heads, head_features, kv_heads, "attention")
    check(
        head_features is not None or features % heads == 0,
        f"expected features that {heads} heads can share, got {features}; "
        "give head_features, or another number of heads",
        "attention",
    )
    return head_features or features // heads, kv_heads or heads


def check_heads(heads: Any, head_features: Any, kv_heads: Any, where: str) -> None:
    """Raises unless these numbers can describe the heads of attention."""
    check_count(heads, "heads", where)
    if head_features is not None:
        check_count(head_features, "head_features", where)
    if kv_heads is not None:
        check_count(kv_heads, "kv_heads", where)
        check(
            heads % kv_heads == 0,
            f"expected kv_heads to divide the {heads} heads, got {kv_heads}",
            where,
        )


def _project(params: Params, name: str, x: jax.Array) -> jax.Array:
    heads = jnp.einsum("...d,dhk->...hk", x, params[f"w_{name}"])
    return heads + params[f"b_{name}"] if f"b_{name}" in params else heads


def attention_shapes(
    features: int | None,
    heads: int | None,
    head_features: int | None,
    kv_heads: int | None,
    kv_features: int | None,
    out_features: int | None,
    *,
    use_bias: bool,
) -> dict[str, tuple[Any, ...]]:
    """The shapes of all parameters; `None` stands for any size."""
    weights = {
        "w_q": (features, heads, head_features),
        "w_k": (kv_features, kv_heads, head_features),
        "w_v": (kv_features, kv_heads, head_features),
        "w_o": (heads, head_features, out_features),
    }
    biases = {
        "b_q": (heads, head_features),
        "b_k": (kv_heads, head_features),
        "b_v": (kv_heads, head_features),
        "b_o": (out_features,),
    }
    return weights | biases if use_bias else weights


def _check_attention(params: Params) -> None:
    """Raises unless the parameters fit each other."""

    def sizes(name):
        shape = jnp.shape(params[name]) if isinstance(params, Mapping) and name in params else ()
        return shape if len(shape) == 3 else (None, None, None)

    features, heads, dim = sizes("w_q")
    kv_features, kv_heads, _ = sizes("w_k")
    use_bias = isinstance(params, Mapping) and "b_q" in params
    shapes = attention_shapes(
        features, heads, dim, kv_heads, kv_features, sizes("w_o")[2], use_bias=use_bias
    )
    check_params(params, shapes, "attention")


def _check_features(x: jax.Array, w: jax.Array, what: str) -> None:
    check(
        x.ndim >= 2 and x.shape[-1] == w.shape[0],
        f"expected {what} (..., steps, {w.shape[0]}), got {x.shape}",
        "attention",
    )
