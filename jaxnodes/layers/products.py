"""A matrix product whose weight gradient is fast on CPU, for one network and for many at once.

The gradient of `x w` for the weights is `x^T dy`, a product that contracts the first axes of
both factors. XLA on CPU reads the columns of such an x where they lie, which can take several
times as long as asking for the same numbers otherwise:

    (dy^T x)^T    where x is wide and dy narrow;
    x^T, written to memory first, where columns lie a multiple of 256 bytes apart, so that they
                  meet in the cache; and for the many small products of networks that are trained
                  at once, each with weights of its own, which shows only under `jax.vmap`.

Both are said in the tangent, `x dw`, by identities that keep XLA from folding a transposition
into the product; transposed, they say it of the gradient.

The gradient for the inputs, `dy w^T`, contracts the last axes of both. Of XLA's two libraries for
products YNNPACK is as fast with such a w as with any; Eigen is where w^T was written to memory
first, if there are rows enough and w is not too large. So it is written, whichever library there
is: by YNNPACK, and in forward mode, which has no use for it, it costs little.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

_SMALL = 2**14  # weights; of larger ones the products are no faster for being many
_MANY_ROWS = 512  # from these on, writing x^T pays for itself
_APART = 64  # float32 numbers in 256 bytes
_ENOUGH_ROWS = 64  # from these on, writing w^T pays for itself,
_LIGHT = 2**17  # for a w of this many numbers at most

# When a value is written to memory, and nothing folded through it.
_ALWAYS, _BATCHED, _ALONE = "always", "batched", "alone"


@jax.custom_jvp
def product(x: jax.Array, w: jax.Array) -> jax.Array:
    """`x @ w`, x (..., D) by w (D, H)."""
    return x @ w


@functools.partial(product.defjvp, symbolic_zeros=True)
def _derived(primals, tangents):
    (x, w), (dx, dw) = primals, tangents
    terms = []
    if not isinstance(dx, SymbolicZero):
        terms.append(_by_inputs(dx, w))
    if not isinstance(dw, SymbolicZero):
        terms.append(_by_weights(x, dw))
    y = x @ w
    return y, functools.reduce(jnp.add, terms) if terms else jnp.zeros_like(y)


def _by_inputs(dx: jax.Array, w: jax.Array) -> jax.Array:
    """`dx @ w`, a tangent, such that its transpose for dx is fast, by either library."""
    rows = math.prod(dx.shape[:-1])
    if rows >= _ENOUGH_ROWS and w.size <= _LIGHT:
        w = _turned(w, _ALONE)
    return dx @ w


def _by_weights(x: jax.Array, dw: jax.Array) -> jax.Array:
    """`x @ dw`, a tangent, such that its transpose for dw is fast; `benchmarks.parts` has times."""
    inputs, nodes = dw.shape
    narrow, small = inputs >= 2 * nodes, inputs * nodes <= _SMALL
    if inputs >= 4 * nodes:
        dw = _turned(dw, _ALWAYS)
    elif narrow and small:
        dw = _turned(dw)
    elif inputs % _APART == 0 and math.prod(x.shape[:-1]) >= _MANY_ROWS:
        x = _turned(x, _ALWAYS)
    elif small:
        x = _turned(x)
    y = x @ dw
    return _turned(y) if narrow and small else y


def _turned(x, when=_BATCHED):
    """x; on CPU written to memory with the last axis first, always, if batched or if not."""
    return jnp.moveaxis(laid_out_p.bind(jnp.moveaxis(x, -1, 0), when=when), 0, -1)


#: The identity; on CPU, when it says so, one that nothing is folded through.
laid_out_p = Primitive("laid_out")


def _batch(args, dims, *, when):
    if when == _ALONE:
        return args[0], dims[0]
    (x,), (axis,) = args, dims
    return laid_out_p.bind(jnp.moveaxis(x, axis, 0), when=_ALWAYS), 0


def _on_cpu(x, *, when):
    return x if when == _BATCHED else jax.lax.optimization_barrier(x)


laid_out_p.def_impl(lambda x, **_: x)
laid_out_p.def_abstract_eval(lambda x, **_: x)
ad.deflinear2(laid_out_p, lambda ct, _, **params: [laid_out_p.bind(ct, **params)])
batching.primitive_batchers[laid_out_p] = _batch
mlir.register_lowering(laid_out_p, lambda ctx, x, **_: [x])
mlir.register_lowering(laid_out_p, mlir.lower_fun(_on_cpu, multiple_results=False), platform="cpu")
