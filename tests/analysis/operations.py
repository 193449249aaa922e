"""Functions of a node's value, operation by operation, for the tests of ablation to walk."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.scipy import special

import jaxnodes as jn

N = 5
RNG = np.random.default_rng(0)


def weight(*shape):
    return RNG.uniform(-1, 1, shape)


X, V, W, CUBE, TABLE = weight(N, 4), weight(4), weight(4, 3), weight(2, 4, 3), weight(6, 2)


class Case(NamedTuple):
    """A function of a node's value, (N, ...) -> (N, ...), and what it costs.

    Attributes:
      f: the function.
      whole: the operations before which a change in a few places is made a whole value.
    """

    f: Callable
    whole: str = ""


def kernel(*shape):
    return np.cos(np.arange(np.prod(shape))).reshape(shape)


def conv(h, *shape, numbers=("NHWC", "HWIO", "NHWC"), stride=1, padding="SAME", **options):
    """A convolution of any library, with a kernel of this shape."""
    w = jnp.asarray(kernel(*shape)).astype(h.dtype)
    strides = (stride,) * (h.ndim - 2)
    return lax.conv_general_dilated(h, w, strides, padding, dimension_numbers=numbers, **options)


def twice(h):
    return jnp.broadcast_to(h, (2, *h.shape)).reshape(2 * N, *h.shape[1:])


def pool(h, how, start, window, strides, padding="VALID"):
    return lax.reduce_window(h, np.array(start, h.dtype), how, window, strides, padding)


@jax.custom_vjp
def double(x):
    return 2 * x


double.defvjp(lambda x: (2 * x, None), lambda _, ct: (ct,))

UNARY = (
    (jnp.arccos, jnp.arcsin, jnp.arcsinh, jnp.arctan, jnp.arctanh, jnp.cbrt, jnp.copy, jnp.cos)
    + (jnp.cosh, jnp.exp, jnp.exp2, jnp.expm1, jnp.log, jnp.log1p, jnp.negative, jnp.sin, jnp.sinh)
    + (jnp.sqrt, jnp.square, jnp.tan, jnp.tanh, lax.rsqrt, lax.stop_gradient, special.digamma)
    + (special.erf, special.erfc, special.erfinv, special.gammaln, special.i0e, special.i1e)
    + (jax.nn.sigmoid, jax.nn.softplus, jax.nn.gelu, jax.nn.silu, jax.nn.elu, double)
)

VECTOR = {
    **{f"elementwise-{f.__name__}": Case(f) for f in UNARY},
    "abs-sign": Case(lambda h: jnp.abs(h - 0.5) + jnp.sign(h - 0.5)),
    "acosh": Case(lambda h: jnp.arccosh(h + 1)),
    "relu": Case(lambda h: jax.nn.relu(h - 0.5)),
    "rounding": Case(lambda h: jnp.ceil(4 * h) + 8 * jnp.floor(4 * h) + 64 * jnp.round(4 * h)),
    "two-operands": Case(lambda h: jnp.arctan2(h / V, h - V) * jnp.maximum(h, V) ** 3),
    "scalars": Case(lambda h: jnp.minimum(h, 0.5) + jnp.fmod(h, 0.25) ** 0.3),
    "comparisons": Case(lambda h: ((h > 0.3) & (h < 0.6)) | (h == V) ^ (h >= 0.8) | (h <= 0.1)),
    "not": Case(lambda h: ~((h > 0.5) & (h != 0))),
    "finite": Case(lambda h: jnp.isfinite(1 / jnp.floor(2 * h))),
    "clamp": Case(lambda h: lax.clamp(0.3, h, 0.6) + lax.clamp(h - V, h, h * V)),
    "precision": Case(lambda h: lax.reduce_precision(lax.nextafter(h, 2 + 0 * h), 8, 10)),
    "complex": Case(lambda h: jnp.abs(jnp.conj(1j * h.astype(np.complex128)).imag)),
    "real": Case(lambda h: (h.astype(np.complex128) ** 2).real),
    "select": Case(lambda h: jnp.where(h > V, h, V) + jnp.where(V > 0, h, -1.0)),
    "select-one": Case(lambda h: lax.select(V[0] > 0, h, 2 * h)),
    "node": Case(lambda h: checkpoint_name(jn.node(2 * h, "inner"), "kept")),
    "integers": Case(lambda h: (10 * h).astype(np.int32) * 2 % 5),
    "float32": Case(lambda h: h.astype(np.float32) * np.float32(2)),
    # Programs inside programs.
    "jit": Case(jax.jit(lambda h: jnp.tanh(h) @ W)),
    "remat": Case(jax.checkpoint(lambda h: jnp.sin(jnp.exp(h)) @ W)),
    "gradient": Case(jax.grad(lambda h: jnp.sum(h**3 + h * jnp.tanh(h)))),
    "cond": Case(lambda h: lax.cond(V[0] > 0, jnp.sin, jnp.cos, h), "cond"),
    "scan": Case(lambda h: lax.scan(lambda c, w: (jnp.tanh(c * w), c), h, V)[0], "scan"),
    "scan-over-nodes": Case(
        lambda h: lax.scan(lambda c, u: (jnp.tanh(c + u), c), h[:, 0], h.T)[1].T, "slice scan"
    ),
    "while": Case(
        lambda h: lax.while_loop(lambda c: c[1] < 3, lambda c: (c[0] * V, c[1] + 1), (h, 0))[0],
        "while",
    ),
    # Shapes.
    "broadcast": Case(lambda h: jnp.broadcast_to(h[:, None], (N, 2, 4)) * TABLE[0][:, None]),
    "transpose": Case(lambda h: (2 * h.T).T),
    "reshape": Case(lambda h: h.reshape(N, 2, 2) * 2, "reshape"),
    "reshape-and-back": Case(lambda h: (2 * h.reshape(N, 1, 4)).reshape(N, 4)),
    "concatenate": Case(lambda h: jnp.concatenate([jnp.ones((N, 2)), h, jnp.ones((N, 1))], 1) ** 2),
    "concatenate-differently": Case(
        lambda h: (
            jnp.concatenate([h, jnp.ones_like(h)], 1) + jnp.concatenate([jnp.ones_like(h), h], 1)
        ),
        "add",
    ),
    "concatenate-twice": Case(lambda h: jnp.concatenate([h, 2 * h], 1), "concatenate"),
    "concatenate-elsewhere": Case(
        lambda h: jnp.concatenate([h[:, None], np.ones((N, 1, 4))], 1), "concatenate"
    ),
    "pad": Case(lambda h: jnp.pad(h[:, None], ((0, 0), (1, 2), (0, 0)), constant_values=7.0)),
    "pad-nodes": Case(lambda h: jnp.pad(h, ((0, 0), (1, 0))), "pad"),
    "pad-by-node": Case(
        lambda h: jax.vmap(lambda r: jnp.pad(V, 1, constant_values=r[0]))(h), "slice"
    ),
    "slice": Case(lambda h: h[:, 1:3], "slice"),
    "flip": Case(lambda h: h + h[:, ::-1], "rev add"),
    "roll": Case(lambda h: jnp.roll(h, 1, 1), "slice slice"),
    "split": Case(lambda h: jnp.multiply(*jnp.split(h, 2, 1)), "split"),
    "dynamic-slice": Case(lambda h: lax.dynamic_slice(h, (0, 1), (N, 2)), "dynamic_slice"),
    "dynamic-update": Case(
        lambda h: lax.dynamic_update_slice(h, jnp.ones((N, 1)), (0, 2)), "dynamic_update_slice"
    ),
    "take": Case(lambda h: jnp.take(h, np.array([3, 0, 3]), 1, mode="clip"), "gather"),
    "scatter": Case(lambda h: h.at[:, np.array([1, 2])].add(V[:2]), "scatter-add"),
    "look-up": Case(lambda h: jnp.take(TABLE, (6 * h).astype(np.int32), 0, mode="clip"), "gather"),
    "one-hot": Case(lambda h: jax.nn.one_hot((6 * h).astype(np.int32), 6)),
    # Over the nodes.
    "sum": Case(lambda h: jnp.tanh(jnp.sum(h, 1))),
    "integer-sum": Case(lambda h: jnp.sum((10 * h).astype(np.int32), 1)),
    "small-integer-sum": Case(lambda h: lax.reduce_sum((199 * h - 99).astype(np.int8), (1,))),
    "mean": Case(lambda h: jnp.mean(h, 1)),
    "variance": Case(lambda h: jnp.var(h, 1), "sub"),
    "max-over-nodes": Case(lambda h: jnp.max(h, 1), "reduce_max"),
    "argmax-over-nodes": Case(lambda h: jnp.argmax(h, 1), "argmax"),
    "all": Case(lambda h: jnp.all(h > 0.1, 1), "reduce_and"),
    "softmax": Case(jax.nn.softmax, "reduce_max sub"),
    "cumsum": Case(lambda h: jnp.cumsum(h, 1), "cumsum"),
    "cumlogsumexp": Case(lambda h: lax.cumlogsumexp(h, 1), "cumlogsumexp"),
    "sort": Case(lambda h: jnp.sort(h, 1), "sort"),
    "top": Case(lambda h: lax.top_k(h, 2)[0], "top_k"),
    "dot": Case(lambda h: jnp.tanh(h @ W)),
    "dot-from-the-left": Case(lambda h: (W.T @ h.T).T),
    "dot-vector": Case(lambda h: h @ V),
    "dot-cube": Case(lambda h: jnp.einsum("bi,kio->bko", h, CUBE)),
    "dot-transposed-cube": Case(lambda h: jnp.einsum("kio,bi->bko", CUBE, h)),
    "dot-with-itself": Case(lambda h: jnp.einsum("bi,bi->b", h, h), "dot_general"),
    "dot-twice": Case(lambda h: jnp.tanh(h @ W) @ W.T),
    "dot-batched": Case(lambda h: jnp.einsum("bi,bio->bo", h, np.stack([i * W for i in range(N)]))),
    "dot-integers": Case(
        lambda h: jnp.matmul(
            (99 * h).astype(np.int8), (3 * W).astype(np.int8), preferred_element_type=np.int32
        )
    ),
    "dot-half": Case(
        lambda h: jnp.matmul(
            h.astype(jnp.bfloat16), W.astype(jnp.bfloat16), preferred_element_type=np.float32
        )
    ),
    "dot-logical": Case(lambda h: jnp.matmul(h > 0.5, W > 0), "dot_general"),
    "residual": Case(lambda h: h + jnp.tanh(h) * V),
    "residual-dense": Case(lambda h: (h + (h @ W) @ W.T) * V, "add"),
}

ONE = {
    "spread-over-others": Case(lambda h: h * X, "mul"),
    "spread-by-broadcast": Case(lambda h: jnp.broadcast_to(h, (N, 4)) * 2, "broadcast_in_dim"),
    "squeeze": Case(lambda h: h[:, 0] * V[0], "squeeze"),
    "squeeze-other": Case(lambda h: jnp.squeeze(h[:, None] * 2, 1)),
    "dot-one": Case(lambda h: h @ V[None]),
}

NCHW, SPREAD = ("NCHW", "OIHW", "NCHW"), "conv_general_dilated"

IMAGE = {
    "conv": Case(lambda h: conv(h, 3, 3, 4, 2)),
    "conv-layer": Case(lambda h: jn.conv({"w": kernel(3, 3, 4, 2)}, h, stride=2)),
    "conv-stride-padding": Case(lambda h: conv(h, 2, 3, 4, 2, stride=2, padding=((1, 2), (0, 3)))),
    "conv-dilation": Case(lambda h: conv(h, 2, 2, 4, 2, padding="VALID", rhs_dilation=(1, 2))),
    "conv-cropped": Case(lambda h: conv(h, 2, 3, 4, 2, padding=((-1, 1), (1, 1))), SPREAD),
    "conv-transposed": Case(
        lambda h: lax.conv_transpose(h, kernel(3, 3, 4, 2), (2, 2), "SAME"), SPREAD
    ),
    "conv-transposed-layer": Case(
        lambda h: jn.conv_transpose({"w": kernel(2, 2, 4, 2)}, h, stride=2), "node_convolution"
    ),
    "conv-groups": Case(lambda h: conv(h, 3, 3, 2, 6, feature_group_count=2), SPREAD),
    "conv-depthwise": Case(
        lambda h: conv(jax.nn.relu(conv(h, 3, 3, 1, 4, feature_group_count=4)), 1, 1, 4, 2)
    ),
    "conv-depthwise-layer": Case(
        lambda h: jn.conv({"w": kernel(3, 3, 1, 4)}, h, groups=4, stride=2)
    ),
    "conv-depthwise-wide": Case(lambda h: conv(h, 3, 3, 1, 8, feature_group_count=4), SPREAD),
    "conv-half": Case(
        lambda h: conv(h.astype(jnp.bfloat16), 3, 3, 4, 2, preferred_element_type=np.float32)
    ),
    "conv-integers": Case(lambda h: conv((9 * h).astype(np.int32), 3, 3, 4, 2), SPREAD),
    "conv-over-space": Case(
        lambda h: conv(h, 2, 3, 4, 3, numbers=("NHCW", "HWIO", "NHWC")), SPREAD
    ),
    "conv-one-axis": Case(
        lambda h: conv(h[:, 0], 3, 4, 2, numbers=("NWC", "WIO", "NWC"), padding="VALID")
    ),
    "conv-batch-groups": Case(lambda h: conv(twice(h), 3, 3, 4, 2, batch_group_count=2), SPREAD),
    "conv-by-node": Case(
        jax.vmap(lambda h: lax.conv(np.ones((1, 2, 3, 5)), h[None], (1, 1), "SAME")), SPREAD
    ),
    "max-pool": Case(lambda h: pool(h, lax.max, -np.inf, (1, 2, 2, 1), (1, 2, 2, 1))),
    "min-pool": Case(lambda h: pool(h, lax.min, np.inf, (1, 2, 2, 1), (1, 1, 1, 1), "SAME")),
    "average-pool": Case(lambda h: pool(h, lax.add, 0.0, (1, 2, 3, 1), (1, 1, 2, 1)) / 6),
    "pool-over-nodes": Case(
        lambda h: pool(h, lax.max, -np.inf, (1, 1, 1, 2), (1, 1, 1, 2)), "reduce_window_max"
    ),
    "strided-over-nodes": Case(
        lambda h: pool(h, lax.add, 0.0, (1, 1, 1, 1), (1, 1, 1, 2)), "reduce_window_sum"
    ),
    "own-pool": Case(
        lambda h: pool(h, lambda a, b: a + b - a * b, 0.0, (1, 2, 2, 1), (1, 2, 2, 1)),
        "reduce_window",
    ),
    "pool-layers": Case(lambda h: jn.max_pool(h, 2) + jn.avg_pool(h, 2)),
    "means": Case(lambda h: jnp.mean(h, (1, 2)) + jnp.max(h, (1, 2)) * jnp.min(h, (1, 2))),
    "means-kept": Case(lambda h: (jnp.prod(h, 1, keepdims=True) + h) * np.float64(2)),
    "any": Case(lambda h: jnp.any(h > 0.9, 1) | jnp.all(h > 0.1, 1)),
    "arguments": Case(lambda h: jnp.argmax(h, 1) + 2 * jnp.argmin(h, 1)),
    "sum-of-all": Case(lambda h: jnp.sum(h, (1, 2, 3))),
    "flatten": Case(lambda h: jnp.tanh(h.reshape(N, -1)) @ kernel(32, 2)),
    "flatten-and-more": Case(
        lambda h: jnp.concatenate([np.ones((N, 2)), h.reshape(N, -1)], 1) @ kernel(34, 2)
    ),
    "flatten-some": Case(lambda h: jnp.sum(h.reshape(N, 2, 16), 1) ** 2),
    "flatten-differently": Case(lambda h: lax.reshape(h, (N, 32), (0, 3, 1, 2)), "reshape"),
    "samples-together": Case(lambda h: (h.reshape(-1, 4) @ W).reshape(N, 2, 4, 3)),
    "slice-of-space": Case(lambda h: h[:, ::2, 1:3] * 2),
    "pad-space": Case(
        lambda h: jnp.pad(h, ((0, 0), (1, 0), (0, 2), (0, 0)), mode="edge"), "concatenate"
    ),
    "pad-space-evenly": Case(
        lambda h: lax.pad(h, jnp.max(X), ((0, 0, 0), (1, 1, 1), (0, -1, 0), (0, 0, 0)))
    ),
    "crosswise": Case(lambda h: h + jnp.swapaxes(h, 2, 3), "add"),
    "contract-two": Case(lambda h: jnp.tensordot(h, kernel(4, 4, 2), 2)),
    "per-place": Case(lambda h: jnp.einsum("bhwc,hwcf->bhwf", h, kernel(2, 4, 4, 2))),
    "per-sample": Case(lambda h: jnp.einsum("bhwc,bkh->bwkc", h, np.ones((N, 2, 2)))),
}

CHANNELS_FIRST = {
    "conv": Case(lambda h: conv(h, 2, 3, 3, 3, numbers=NCHW, padding="SAME_LOWER")),
    "conv-depthwise": Case(
        lambda h: conv(h, 3, 1, 2, 2, numbers=NCHW, feature_group_count=3, stride=2)
    ),
    "conv-flipped": Case(lambda h: conv(h, 2, 3, 3, 2, numbers=("NCHW", "OIHW", "HWNC"))[0, 0]),
    "max-pool": Case(lambda h: pool(h, lax.max, -np.inf, (1, 1, 2, 2), (1, 1, 2, 2))),
    "normalized": Case(lambda h: (h - V[:3, None, None]) * jnp.exp(V[:3, None, None])),
    "flatten": Case(lambda h: jax.nn.relu(h.reshape(N, -1) - 0.5) @ kernel(24, 2)),
    "flatten-first": Case(lambda h: h.reshape(N, 6, 4) * 2),
}

HEADS = {  # (N, steps, heads, features), the nodes being the heads
    "weighted-by-head": Case(lambda h: jnp.einsum("bthd,hdf->bthf", h, CUBE)),
    "weighted-from-the-left": Case(lambda h: jnp.einsum("hdf,bthd->hbtf", CUBE, h).swapaxes(0, 1)),
    "attended": Case(lambda h: jnp.einsum("bhts,bshd->bthd", jnp.ones((N, 2, 3, 3)) / 3, h)),
    "put-together": Case(lambda h: h.reshape(N, 3, 8) @ kernel(8, 2)),
    "put-together-by-product": Case(lambda h: jnp.einsum("bthd,hdf->btf", h, CUBE)),
    "keys": Case(lambda h: jnp.einsum("bqd,bkhd->bqhk", X[:, None], h)),
    "scores": Case(lambda h: jnp.einsum("bthd,bshd->bhts", h, h), "dot_general"),
    "softmax-over-steps": Case(lambda h: jax.nn.softmax(h, 1) * jax.nn.softmax(h, 3)),
    "steps": Case(
        lambda h: lax.scan(
            lambda c, u: (c + u, jnp.tanh(c + u)), h[:, 0] * 0, jnp.moveaxis(h, 1, 0)
        )[0],
        "scan",
    ),
    "mapped": Case(jax.vmap(lambda h: h[0] * jnp.sum(h, 0))),
}

GROUPS = {  # the shape of a node's value, its axis, and what is made of it
    "vector": ((4,), 1, VECTOR),
    "one": ((1,), 1, ONE),
    "image": ((2, 4, 4), 3, IMAGE),
    "channels-first": ((3, 2, 4), 1, CHANNELS_FIRST),
    "heads": ((3, 2, 4), 2, HEADS),
}
