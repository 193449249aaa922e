"""The convolution primitive against `lax.conv_general_dilated`, under every transformation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jax.test_util import check_grads

from jaxnodes.conv_primitive import _PRODUCTS, _XLA, Geometry, convolve, convolve_transpose

# Each geometry with its numbers of input channels and of filters.
CASES = {
    "1d": (Geometry((9,), (3,), (2,), ((1, 0),), (1,), 1), 3, 4),
    "1d, causal, dilated": (Geometry((7,), (2,), (1,), ((3, 0),), (3,), 1), 2, 3),
    "2d": (Geometry((5, 6), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1), 2, 3),
    "all uneven": (Geometry((7, 5), (3, 2), (2, 3), ((0, 2), (1, 0)), (2, 1), 1), 3, 2),
    "stride over the end": (Geometry((6, 8), (2, 2), (4, 3), ((0, 0), (0, 0)), (1, 1), 1), 1, 3),
    "one channel": (Geometry((4, 4), (3, 3), (1, 1), ((0, 1), (1, 0)), (1, 1), 1), 1, 4),
    "1 x 1": (Geometry((3, 4), (1, 1), (2, 1), ((0, 0), (0, 0)), (1, 1), 1), 3, 2),
    "all of the input": (Geometry((3, 4), (3, 4), (1, 1), ((0, 0), (0, 0)), (1, 1), 1), 2, 3),
    "groups": (Geometry((5, 4), (2, 3), (1, 2), ((1, 1), (0, 1)), (1, 1), 2), 4, 6),
    "depthwise": (Geometry((5, 5), (3, 2), (2, 1), ((1, 1), (0, 1)), (1, 2), 3), 3, 3),
    "depthwise, two each": (Geometry((4, 5), (2, 2), (1, 1), ((0, 0), (1, 1)), (1, 1), 3), 3, 6),
    "3d": (Geometry((3, 4, 5), (2, 1, 3), (1, 2, 2), ((0, 1),) * 3, (1, 1, 1), 1), 2, 3),
    "3d, groups": (Geometry((3, 3, 3), (2, 2, 2), (1, 1, 1), ((1, 0),) * 3, (1, 1, 1), 2), 4, 2),
}
every_case = pytest.mark.parametrize("case", CASES)
few_cases = pytest.mark.parametrize("case", ["all uneven", "groups", "depthwise", "3d"])
two_cases = pytest.mark.parametrize("case", ["groups", "depthwise"])

# Compiling is all the time these tests take, so XLA need not try hard.
quick_jit = functools.partial(
    jax.jit,
    compiler_options={
        "xla_backend_optimization_level": 0,
        "xla_llvm_disable_expensive_passes": True,
    },
)


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    with jax.enable_x64(request.param == "float64"):
        yield jnp.dtype(request.param)


def arrays(case, dtype=np.float32, batch=(2,), kernels=()):
    """The geometry, an input and a kernel, or batches of them."""
    geometry, channels, features = CASES[case]
    rng = np.random.default_rng(0)
    x = rng.normal(size=(*batch, *geometry.inputs, channels))
    w = rng.normal(size=(*kernels, *geometry.kernel, channels // geometry.groups, features))
    return geometry, jnp.asarray(x, dtype), jnp.asarray(w, dtype)


def reference(x, w, geometry):
    spatial = "DHW"[3 - len(geometry.kernel) :]
    return lax.conv_general_dilated(
        x,
        w,
        geometry.strides,
        geometry.padding,
        rhs_dilation=geometry.dilation,
        dimension_numbers=(f"N{spatial}C", f"{spatial}IO", f"N{spatial}C"),
        feature_group_count=geometry.groups,
    )


def close(actual, expected, tolerance=None):
    actual, expected = jax.tree.leaves(actual), jax.tree.leaves(expected)
    for a, b in zip(actual, expected, strict=True):
        limit = tolerance or {4: 1e-5, 8: 1e-11}[a.dtype.itemsize]
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=limit, atol=limit)


def loss(function):
    """A number of which every output is a part, and no derivative is zero."""
    return lambda x, w: jnp.sum(jnp.sin(function(x, w)))


def both(case, **sizes):
    """Ours, theirs, and arguments for them."""
    geometry, x, w = arrays(case, **sizes)
    ours = functools.partial(convolve, geometry=geometry)
    return ours, functools.partial(reference, geometry=geometry), x, w


@every_case
def test_values_and_gradients(case, dtype):
    """By the primitive, and by both ways to compute a side, whichever this machine takes."""
    ours, theirs, x, w = both(case, dtype=dtype)
    geometry = CASES[case][0]
    assert jax.eval_shape(ours, x, w) == jax.eval_shape(theirs, x, w)

    @quick_jit
    def run(x, w):
        y, backward = jax.vjp(theirs, x, w)
        ct = jnp.cos(y)
        operands = {"y": (x, w), "x": (ct, w), "w": (x, ct)}
        products, xla = (
            [table[side](*operands[side], geometry) for side in "yxw"]
            for table in (_PRODUCTS, _XLA)
        )
        y_ours, backward_ours = jax.vjp(ours, x, w)
        return [[y, *backward(ct)], [y_ours, *backward_ours(ct)], products, xla]

    expected, *results = run(x, w)
    for result in results:
        close(result, expected)


@two_cases
def test_transpose(case, x64):
    """`convolve_transpose` is the linear transpose of `convolve`, and the other way round."""
    _, theirs, x, w = both(case, dtype=jnp.float64)
    transposed = functools.partial(convolve_transpose, w=w, geometry=CASES[case][0])
    y = jnp.cos(theirs(x, w))
    close(transposed(y), jax.linear_transpose(lambda x: theirs(x, w), x)(y)[0])
    close(jax.linear_transpose(transposed, y)(x)[0], theirs(x, w))


def test_second_derivatives_in_both_modes(x64):
    geometry, x, w = arrays("1d", jnp.float64, batch=(1,))
    y = jnp.cos(reference(x, w, geometry))

    @jax.jit
    def f(x, y, w):
        return jnp.sin(convolve(x, w, geometry)), jnp.sin(convolve_transpose(y, w, geometry))

    check_grads(f, (x, y, w), order=2, modes=["fwd", "rev"])


@two_cases
def test_jvp_and_hessian(case, x64):
    ours, theirs, x, w = both(case, dtype=jnp.float64, batch=(1,))

    def forward(f):
        return jax.jvp(loss(f), (x, w), (jnp.cos(x), jnp.sin(w)))

    close(quick_jit(lambda: forward(ours))(), quick_jit(lambda: forward(theirs))())
    close(*[quick_jit(jax.hessian(loss(f), (0, 1)))(x, w) for f in (ours, theirs)])


MAPPED = {"inputs": (0, None), "kernels": (None, 0), "both": (0, 0), "inner axes": (2, 1)}


@pytest.mark.parametrize("in_axes", MAPPED.values(), ids=MAPPED)
@two_cases
def test_vmap_mixed_with_grad(case, in_axes):
    """vmap of the value, vmap of the gradients, gradients of the vmapped."""
    batch = (2,) if in_axes[0] is None else (3, 2)
    ours, theirs, x, w = both(case, batch=batch, kernels=() if in_axes[1] is None else (3,))
    pairs = zip((x, w), in_axes, strict=True)
    args = [a if axis is None else jnp.moveaxis(a, 0, axis) for a, axis in pairs]

    def run(f, *args):
        many = jax.vmap(f, in_axes)
        each, whole = jax.vmap(jax.grad(loss(f), (0, 1)), in_axes), jax.grad(loss(many), (0, 1))
        return many(*args), each(*args), whole(*args)

    close(*[quick_jit(functools.partial(run, f))(*args) for f in (ours, theirs)])


def test_vmap_twice():
    ours, theirs, x, w = both("groups", batch=(2, 2), kernels=(3,))

    def every_pair(f):
        return jax.vmap(jax.vmap(jax.grad(loss(f), (0, 1)), (None, 0)), (0, None))

    close(*[quick_jit(every_pair(f))(x, w) for f in (ours, theirs)])


def descend(f, x, w, steps, loop):
    """Gradient descent on the kernel and the input."""

    def step(carry, scale):
        value, gradients = jax.value_and_grad(lambda c: scale * loss(f)(*c))(carry)
        return jax.tree.map(lambda c, g: c - 0.1 * g, carry, gradients), value

    return loop(step, (x, w), jnp.linspace(0.5, 1.0, steps, dtype=x.dtype))


def unrolled(step, carry, xs):
    values = []
    for x in xs:
        carry, value = step(carry, x)
        values.append(value)
    return carry, jnp.stack(values)


@two_cases
def test_training_in_a_scan(case):
    ours, theirs, x, w = both(case)
    scanned = quick_jit(lambda x, w: descend(ours, x, w, 3, lax.scan))(x, w)
    close(scanned, quick_jit(lambda x, w: descend(theirs, x, w, 3, unrolled))(x, w))


def convolutions(f, x, w, platform="cpu"):
    """How many convolutions of XLA's a descent in a scan is lowered to."""
    traced = jax.jit(lambda x, w: descend(f, x, w, 3, lax.scan)).trace(x, w)
    return traced.lower(lowering_platforms=(platform,)).as_text().count("stablehlo.convolution")


@pytest.mark.parametrize(
    ("case", "in_scan"), [("1d", 1), ("2d", 0), ("groups", 1), ("depthwise", 0), ("3d", 0)]
)
def test_gradients_in_a_scan_are_matrix_products_on_cpu(case, in_scan):
    """XLA on CPU runs the gradient of a convolution in a loop body by its naive loop."""
    ours, theirs, x, w = both(case)
    assert convolutions(theirs, x, w) == 3
    assert convolutions(ours, x, w) == in_scan
    assert convolutions(ours, x, w, "cuda") == 3
    text = jax.jit(lambda x, w: descend(ours, x, w, 3, lax.scan)).lower(x, w).compile().as_text()
    assert text.count(" convolution(") <= in_scan


@pytest.mark.parametrize(
    ("sizes", "kernel", "forward", "derived"),
    [
        ((2, 8, 8, 8), (3, 3), 1, 0),  # patches are worth their while for two
        ((2, 8, 8, 3), (3, 3), 0, 0),  # few channels
        ((2, 8, 8, 8), (5, 3), 1, 1),  # many rows
        ((64, 60, 60, 8), (3, 3), 1, 1),  # more than the cache holds
        ((64, 60, 60, 8), (1, 1), 0, 0),
    ],
)
def test_which_are_products_on_cpu(sizes, kernel, forward, derived):
    geometry = Geometry(sizes[1:3], kernel, (1, 1), ((0, 0), (0, 0)), (1, 1), 1)
    x, w = jnp.zeros(sizes), jnp.zeros((*kernel, sizes[-1], 5))

    def lowered(f):
        traced = jax.jit(f).trace(x, w)
        return traced.lower(lowering_platforms=("cpu",)).as_text().count("stablehlo.convolution")

    def run(x, w):
        return convolve(x, w, geometry)

    assert lowered(run) == forward
    assert lowered(jax.value_and_grad(loss(run), argnums=1)) == derived
    assert lowered(jax.value_and_grad(loss(run))) == forward


def test_a_batch_of_kernels_is_lowered_to_products():
    ours, theirs, x, w = both("2d", kernels=(3,))
    ours, theirs = (jax.vmap(f, (None, 0)) for f in (ours, theirs))
    assert convolutions(theirs, x, w) > 0
    assert convolutions(ours, x, w) == convolutions(ours, x, w, "cuda") == 0


@few_cases
def test_half_precision_is_rounded_once(case):
    """In the products sums are kept in single precision."""
    geometry, x, w = arrays(case, jnp.bfloat16)
    y = jnp.ones(reference(x, w, geometry).shape, jnp.bfloat16) / 3

    @quick_jit
    def run(x, w, y):
        operands = {"y": (x, w), "x": (y, w), "w": (x, y)}
        singles = [[a.astype(jnp.float32) for a in operands[side]] for side in "yxw"]
        return (
            [_PRODUCTS[side](*operands[side], geometry) for side in "yxw"],
            [_XLA[side](*ab, geometry) for side, ab in zip("yxw", singles, strict=True)],
        )

    for half, single in zip(*run(x, w, y), strict=True):
        assert half.dtype == jnp.bfloat16
        np.testing.assert_allclose(half.astype(jnp.float32), single, rtol=2**-8, atol=1e-6)
    gradients = jax.eval_shape(jax.grad(loss(both(case)[0]), (0, 1)), x, w)
    assert [g.dtype for g in gradients] == [jnp.bfloat16] * 2


@two_cases
def test_no_samples(case):
    ours, theirs, x, w = both(case, batch=(0,))
    assert ours(x, w).shape == theirs(x, w).shape
    by_x, by_w = jax.grad(loss(ours), (0, 1))(x, w)
    assert by_x.shape == x.shape
    np.testing.assert_array_equal(by_w, np.zeros(w.shape))


@pytest.mark.parametrize(
    ("geometry", "outputs"),
    [
        (Geometry((7, 7), (3, 3), (2, 3), ((0, 0), (1, 1)), (1, 2), 1), (3, 2)),
        (Geometry((2,), (3,), (1,), ((0, 0),), (1,), 1), (0,)),
        (Geometry((2,), (9,), (4,), ((0, 0),), (1,), 1), (0,)),
    ],
)
def test_outputs(geometry, outputs):
    assert geometry.outputs == outputs


@pytest.mark.parametrize("wrap", [jax.checkpoint, jax.jit, lambda f: jax.jit(jax.jit(f))])
def test_wrapped(wrap):
    ours, theirs, x, w = both("groups")
    close(*[jax.grad(loss(f), (0, 1))(x, w) for f in (wrap(ours), theirs)])


def test_no_tracer_leaks():
    ours, _, x, w = both("groups")
    with jax.checking_leaks():
        jax.jit(jax.grad(loss(jax.vmap(ours, (0, None))), (0, 1)))(x[None], w)
        jax.jit(jax.hessian(loss(ours)))(x[:1], w)


def test_any_number_of_samples_in_one_export():
    ours, theirs, x, w = both("depthwise")
    size = jax.export.symbolic_shape("n")
    sample = jax.ShapeDtypeStruct((*size, *x.shape[1:]), x.dtype)
    gradients = jax.jit(jax.grad(loss(ours), (0, 1)))
    exported = jax.export.export(gradients, platforms=["cpu", "cuda"])(sample, w)
    close(exported.call(x, w), jax.grad(loss(theirs), (0, 1))(x, w))


# Over eight simulated devices.


def meshed(kind):
    assert jax.device_count() == 8
    return jax.make_mesh((8,), ("data",), axis_types=(kind,))


KINDS = [AxisType.Auto, AxisType.Explicit]
KERNEL, SAMPLES = PartitionSpec(), PartitionSpec("data")


@pytest.mark.parametrize("check_vma", [True, False])
@two_cases
def test_gradients_in_shard_map(case, check_vma):
    """The kernel, the same on all devices, gets the sum of what each device's samples say."""
    ours, theirs, x, w = both(case, batch=(8,))

    def local(x, w):
        by_x, by_w = jax.grad(loss(ours), (0, 1))(x, w)
        return by_x, by_w if check_vma else lax.psum(by_w, "data")

    specs = {"in_specs": (SAMPLES, KERNEL), "out_specs": (SAMPLES, KERNEL)}
    mapped = jax.shard_map(local, mesh=meshed(AxisType.Auto), check_vma=check_vma, **specs)
    close(quick_jit(mapped)(x, w), jax.grad(loss(theirs), (0, 1))(x, w))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", ["groups", "3d"])
def test_gradients_of_sharded_samples(case, kind):
    ours, theirs, x, w = both(case, batch=(8,))
    expected = jax.value_and_grad(loss(theirs), (0, 1))(x, w)
    mesh = meshed(kind)
    x, w = jax.device_put((x, w), tuple(NamedSharding(mesh, s) for s in (SAMPLES, KERNEL)))
    actual = quick_jit(jax.value_and_grad(loss(ours), (0, 1)))(x, w)
    close(actual, expected)
    rows = NamedSharding(mesh, SAMPLES)
    assert actual[1][0].sharding.is_equivalent_to(rows, x.ndim)
    assert jax.jit(ours)(x, w).sharding.is_equivalent_to(rows, x.ndim)


def test_a_kernel_sharded_over_its_filters():
    """Under explicit axes the outputs are gathered; the numbers are what they are."""
    mesh = meshed(AxisType.Explicit)
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(2, 5, 3)).astype("f"), rng.normal(size=(3, 3, 16)).astype("f")
    geometry = Geometry((5,), (3,), (1,), ((1, 1),), (1,), 1)
    expected = jax.grad(loss(functools.partial(reference, geometry=geometry)), (0, 1))(x, w)
    with jax.set_mesh(mesh):
        filters = jax.device_put(w, NamedSharding(mesh, PartitionSpec(None, None, "data")))
        ours = loss(functools.partial(convolve, geometry=geometry))
        close(jax.jit(jax.grad(ours, (0, 1)))(x, filters), expected)
