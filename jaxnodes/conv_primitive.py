"""Convolution as a primitive whose gradients are matrix products.

XLA on CPU chooses good layouts for a convolution only in a program's entry
computation. Inside a loop body (a `lax.scan` over batches, say) the gradient of
`lax.conv_general_dilated` for the kernel falls into its naive loop, tens of times
slower (https://github.com/jax-ml/jax/issues/12868). Here every form is fast
wherever it stands.

With the kernel sliding over x, `y = conv(x, w)` is one contraction of a fixed
pattern. Written as the trilinear form T(x, w, y) it has three sides, each
bilinear in the other two, and each is the transpose of the others:

    side "y":  y  from (x, w)     the convolution
    side "x":  x' from (y', w)    its gradient for the input; a transposed convolution
    side "w":  w' from (x, y')    its gradient for the kernel

So one primitive with a `side` is closed under jvp, transposition and vmap, to any
order, and keeps forward mode and second derivatives, which a custom VJP loses.
"""

import functools
import math
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxnodes.stored import stored
from jaxnodes.varying import vary_alike

Side = Literal["y", "x", "w"]


class Geometry(NamedTuple):
    """How the kernel slides: sizes per spatial axis, channels aside."""

    inputs: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int

    @property
    def outputs(self) -> tuple[int, ...]:
        """Spatial sizes of y; an axis that the kernel does not fit in has none."""
        return tuple(
            max(0, (size + low + high - (k - 1) * dilation - 1) // stride + 1)
            for size, k, stride, (low, high), dilation in zip(*self[:5], strict=True)
        )


def convolve(x: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
    """Cross-correlation. x (N, *inputs, C), w (*kernel, C / groups, F) -> (N, *outputs, F)."""
    return _bind(x, w, "y", geometry)


def convolve_transpose(y: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
    """The transpose of `convolve` for its input: (N, *outputs, F) -> (N, *inputs, C)."""
    return _bind(y, w, "x", geometry)


# The three sides as products: one for each row of the kernel (its places along the last
# axis), with the matrix of what that row sees. One matrix of all that the kernel sees is
# no faster, and takes the room of x once for each place in the kernel.


def _product_y(x, w, geo: Geometry):
    if w.shape[-2] == 1:  # too narrow for matrices
        terms = map(jnp.multiply, _views(_wide(x), geo), _by_place(_wide(w), geo))
    else:
        contract = functools.partial(_by_group, "mgi,igf->mgf")
        terms = map(contract, _patches(x, geo), _kernel_rows(w, geo))
    return functools.reduce(jnp.add, terms).reshape(_shape((x, w), "y", geo)).astype(x.dtype)


def _product_x(y, w, geo: Geometry):
    ct = _by_feature(y, geo)
    patches = [_by_group("mgf,igf->mgi", ct, row) for row in _kernel_rows(w, geo)]
    return _scatter_patches(patches, geo).astype(y.dtype)


def _product_w(x, y, geo: Geometry):
    ct = _by_feature(y, geo)
    if _is_depthwise(x, geo):  # on CPU a product with ones sums rows faster than a reduction
        ones = jnp.ones(ct.shape[0], _wide(ct).dtype)
        views = (view.reshape(-1, geo.groups, 1) for view in _views(_wide(x), geo))
        terms = [ones @ (view * _wide(ct)).reshape(-1, y.shape[-1]) for view in views]
    else:
        terms = [_by_group("mgi,mgf->igf", patch, ct) for patch in _patches(x, geo)]
    return jnp.stack(terms).reshape(_shape((x, y), "w", geo)).astype(x.dtype)


_PRODUCTS = {"y": _product_y, "x": _product_x, "w": _product_w}


def _is_depthwise(x, geo: Geometry) -> bool:
    """Each channel alone in its group: matrices of one row, for which products are slow."""
    return geo.groups == x.shape[-1] > 1


def _by_group(equation: str, a, b):
    """The contraction; with one group a plain matrix product, which XLA does faster."""
    contract = functools.partial(jnp.einsum, preferred_element_type=_wide(a).dtype)
    if a.shape[1] == 1:
        return contract(equation.replace("g", ""), a[:, 0], b[:, 0])[:, None]
    return contract(equation, a, b)


def _wide(x):
    """Half precision in single precision, in which its products are summed."""
    return x.astype(np.promote_types(x.dtype, np.float32))


def _by_feature(y, geo: Geometry):
    """(N, *outputs, F) -> (rows, groups, F / groups)."""
    return y.reshape(-1, geo.groups, y.shape[-1] // geo.groups)


def _by_place(w, geo: Geometry):
    """(*kernel, C / groups, F) -> (places C / groups, groups, F / groups)."""
    return w.reshape(-1, geo.groups, w.shape[-1] // geo.groups)


def _kernel_rows(w, geo: Geometry):
    """What multiplies each of `_patches`: (k C / groups, groups, F / groups)."""
    return jnp.split(_by_place(w, geo), math.prod(geo.kernel[:-1]))


def _patches(x, geo: Geometry):
    """For each row of the kernel what it sees: (rows, groups, k C / groups)."""
    views = list(_views(x, geo))
    for i in range(0, len(views), geo.kernel[-1]):
        patch = jnp.concatenate(views[i : i + geo.kernel[-1]], axis=-1)
        yield patch.reshape(-1, geo.groups, patch.shape[-1])


def _views(x, geo: Geometry):
    """For each place in the kernel what it sees: (N, *outputs, groups, C / groups)."""
    x = jnp.pad(x, ((0, 0), *geo.padding, (0, 0)))
    x = x.reshape(*x.shape[:-1], geo.groups, x.shape[-1] // geo.groups)
    for start, limit in _offsets(geo):
        limits = (x.shape[0], *limit, *x.shape[-2:])
        yield lax.slice(x, (0, *start, 0, 0), limits, (1, *geo.strides, 1, 1))


def _scatter_patches(patches, geo: Geometry):
    """The transpose of `_patches`: each view added back where it was taken from."""
    padded = [size + low + high for size, (low, high) in zip(geo.inputs, geo.padding, strict=True)]
    views = [view for patch in patches for view in jnp.split(patch, geo.kernel[-1], axis=-1)]
    zero = total = jnp.zeros((), views[0].dtype)
    for view, (start, limit) in zip(views, _offsets(geo), strict=True):
        edges = [
            (low, size - high, stride - 1)
            for low, high, size, stride in zip(start, limit, padded, geo.strides, strict=True)
        ]
        view = view.reshape(-1, *geo.outputs, view.shape[-2] * view.shape[-1])
        total += lax.pad(view, zero, ((0, 0, 0), *edges, (0, 0, 0)))
    inner = [slice(low, low + size) for size, (low, _) in zip(geo.inputs, geo.padding, strict=True)]
    return total[:, *inner]


def _offsets(geo: Geometry):
    """For each place in the kernel, where its strided view of the padded input starts and ends."""
    for place in np.ndindex(*geo.kernel):
        start = tuple(i * d for i, d in zip(place, geo.dilation, strict=True))
        limit = tuple(
            s + (n - 1) * stride + 1
            for s, n, stride in zip(start, geo.outputs, geo.strides, strict=True)
        )
        yield start, limit


# The three sides as XLA's own convolution.


def _xla_y(x, w, geo: Geometry):
    spatial = "DHW"[-len(geo.kernel) :]
    return lax.conv_general_dilated(
        x,
        w,
        geo.strides,
        geo.padding,
        rhs_dilation=geo.dilation,
        dimension_numbers=(f"N{spatial}C", f"{spatial}IO", f"N{spatial}C"),
        feature_group_count=geo.groups,
    )


def _xla_x(y, w, geo: Geometry):
    x = jax.ShapeDtypeStruct(_shape((y, w), "x", geo), y.dtype)
    return jax.linear_transpose(lambda x: _xla_y(x, w, geo), x)(y)[0]


def _xla_w(x, y, geo: Geometry):
    w = jax.ShapeDtypeStruct(_shape((x, y), "w", geo), x.dtype)
    return jax.linear_transpose(lambda w: _xla_y(x, w, geo), w)(y)[0]


_XLA = {"y": _xla_y, "x": _xla_x, "w": _xla_w}


# When patches are small: rows of the kernel, channels, bytes.
_FEW_ROWS, _FEW_CHANNELS, _CACHED = 3, 4, 2**23


def _on_cpu(a, b, *, side: Side, geometry: Geometry, derived: bool):
    products = side != "y" or _is_faster_as_products(a, geometry, derived)
    made = (_PRODUCTS if products else _XLA)[side](a, b, geometry)
    # A sum of as many padded arrays as the kernel has places.
    return stored(made) if side == "x" and math.prod(geometry.kernel) > 1 else made


def _is_faster_as_products(x, geo: Geometry, derived: bool) -> bool:
    """XLA's convolution is the fastest in one and two dimensions, in a loop too, but for some.

    A kernel of one place is a matrix product. With few channels or, where the gradient for the
    kernel needs the patches too, with any, small patches are as well: those that stay in the
    cache, and of a kernel with few rows, for each of them reads and writes all of y.
    """
    if len(geo.kernel) == 3 or _is_depthwise(x, geo):
        return True
    if geo.groups > 1:
        return False
    if math.prod(geo.kernel) == 1:
        return True
    patch = x.shape[0] * math.prod(geo.outputs) * geo.kernel[-1] * x.shape[-1]
    small = len(geo.kernel) == 2 and geo.kernel[0] <= _FEW_ROWS and 4 * patch <= _CACHED
    return small and (derived or x.shape[-1] <= _FEW_CHANNELS)


def _elsewhere(a, b, *, side: Side, geometry: Geometry, derived: bool):
    return _XLA[side](a, b, geometry)


# The primitive.

conv_p = Primitive("node_convolution")


def _shape(operands, side: Side, geo: Geometry) -> tuple[int, ...]:
    a, b = operands
    if side == "y":
        return (a.shape[0], *geo.outputs, b.shape[-1])
    if side == "x":
        return (a.shape[0], *geo.inputs, b.shape[-2] * geo.groups)
    return (*geo.kernel, a.shape[-1] // geo.groups, b.shape[-1])


def _bind(a, w, side: Side, geometry: Geometry) -> jax.Array:
    """Binds the primitive with operands of one sharding type, as its rules suppose.

    Within `shard_map` a kernel that is the same everywhere is cast to one that varies
    as the data do; the cast's transpose sums its gradient. Under a mesh of explicit
    axes XLA shards what happens in between: only the batch stays as it was sharded.
    """
    a, w = vary_alike((a, w))
    bind = functools.partial(conv_p.bind, side=side, geometry=geometry, derived=False)
    shardings = [jax.typeof(operand).sharding for operand in (a, w)]
    meshes = [s.mesh for s in shardings if AxisType.Explicit in s.mesh.axis_types]
    if not meshes:
        return bind(a, w)
    batch = NamedSharding(meshes[0], PartitionSpec(shardings[0].spec[0]))
    return jax.sharding.auto_axes(bind, out_sharding=batch)(a, w)  # pyright: ignore[reportCallIssue]


def _abstract_eval(a, b, *, side: Side, geometry: Geometry, derived: bool):
    return a.update(shape=_shape((a, b), side, geometry), weak_type=False)


@functools.partial(jax.jit, static_argnames=("side", "geometry", "derived"))
def _eager(a, b, *, side: Side, geometry: Geometry, derived: bool):
    return conv_p.bind(a, b, side=side, geometry=geometry, derived=derived)


def _jvp(primals, tangents, *, side: Side, geometry: Geometry, derived: bool):
    """`derived`: the patches of this convolution are also wanted for the kernel's gradient."""
    (a, b), (da, db) = primals, tangents
    bind = functools.partial(conv_p.bind, side=side, geometry=geometry)
    of_kernel = not isinstance(db, ad.Zero)
    terms = [] if isinstance(da, ad.Zero) else [bind(da, b, derived=False)]
    if of_kernel:
        terms.append(bind(a, db, derived=False))
    return bind(a, b, derived=derived or of_kernel), functools.reduce(ad.add_tangents, terms)


# By which side each operand's cotangent is made, and from what, in order.
_OTHERS: dict[Side, tuple[Side, Side]] = {"y": ("x", "w"), "x": ("y", "w"), "w": ("x", "y")}


def _transpose_left(ct, _, b, *, side: Side, geometry: Geometry, derived: bool):
    left, right = _OTHERS[side]
    return _bind_sides(left, {side: ct, right: b}, geometry)


def _transpose_right(ct, a, _, *, side: Side, geometry: Geometry, derived: bool):
    left, right = _OTHERS[side]
    return _bind_sides(right, {side: ct, left: a}, geometry)


def _bind_sides(side: Side, operands: dict[Side, jax.Array], geometry: Geometry):
    others = (operands[name] for name in _OTHERS[side])
    return conv_p.bind(*others, side=side, geometry=geometry, derived=False)


def _batch(args, dims, *, side: Side, geometry: Geometry, derived: bool):
    """A batch of inputs joins the samples; a batch of kernels makes batched products.

    (XLA's own rule makes a grouped convolution of a batch of kernels: slow everywhere.)
    """
    (a, b), (a_axis, b_axis) = args, dims
    if side != "w" and b_axis is None:
        a = jnp.moveaxis(a, a_axis, 0)
        merged = a.reshape(-1, *a.shape[2:])
        out = conv_p.bind(merged, b, side=side, geometry=geometry, derived=derived)
        return out.reshape(*a.shape[:2], *out.shape[1:]), 0
    product = _PRODUCTS[side]
    return jax.vmap(lambda a, b: product(a, b, geometry), in_axes=tuple(dims))(a, b), 0


conv_p.def_impl(_eager)
conv_p.def_abstract_eval(_abstract_eval)
ad.defbilinear(conv_p, _transpose_left, _transpose_right)
ad.primitive_jvps[conv_p] = _jvp
batching.primitive_batchers[conv_p] = _batch
mlir.register_lowering(conv_p, mlir.lower_fun(_elsewhere, multiple_results=False))
mlir.register_lowering(conv_p, mlir.lower_fun(_on_cpu, multiple_results=False), platform="cpu")
