"""The product with its own weight gradient, against `@` under every transformation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from jax.test_util import check_grads

from jaxnodes.layers.products import product

pytestmark = pytest.mark.usefixtures("quick")

SHAPES = [
    ((4,), (4, 3)),
    ((5, 4), (4, 3)),
    ((2, 5, 4), (4, 1)),
    ((1, 1), (1, 6)),
    ((0, 4), (4, 3)),
    ((6, 9), (9, 2)),
    ((6, 6), (6, 2)),
]
every_shape = pytest.mark.parametrize(("x_shape", "w_shape"), SHAPES)


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    with jax.enable_x64(request.param == "float64"):
        yield jnp.dtype(request.param)


def drawn(*shapes, dtype, seed=0):
    rng = np.random.default_rng(seed)
    return [jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes]


def everything(multiply):
    """Value, tangents, gradients, and the gradients of a sum of squared gradients."""

    def loss(x, w):
        return jnp.sum(jnp.sin(multiply(x, w)))

    def squares(x, w):
        return sum(jnp.sum(g**2) for g in jax.grad(loss, argnums=(0, 1))(x, w))

    def compute(x, w, dx, dw):
        return (
            jax.jvp(multiply, (x, w), (dx, dw)),
            jax.jvp(lambda x: multiply(x, w), (x,), (dx,)),
            jax.jvp(lambda w: multiply(x, w), (w,), (dw,)),
            jax.grad(loss, argnums=(0, 1))(x, w),
            jax.grad(squares, argnums=(0, 1))(x, w),
            jax.jacfwd(jax.grad(loss, argnums=1), argnums=1)(x, w),
        )

    return compute


def assert_alike(make, *arguments):
    ours, theirs = jax.jit(lambda *a: [make(everything(f))(*a) for f in (product, jnp.matmul)])(
        *arguments
    )
    tolerance = 1e-12 if arguments[0].dtype == jnp.float64 else 2e-5
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert a.dtype == b.dtype == arguments[0].dtype
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@every_shape
def test_is_the_product(x_shape, w_shape, dtype):
    assert_alike(lambda f: f, *drawn(x_shape, w_shape, x_shape, w_shape, dtype=dtype))


@pytest.mark.parametrize(("x_shape", "w_shape"), SHAPES[:3] + SHAPES[-2:])
@pytest.mark.parametrize("axes", [(0, 0), (0, None), (None, 0), (-1, 1)])
def test_batched(x_shape, w_shape, axes, x64):
    def batched(shape, axis):
        where = None if axis is None else axis % (len(shape) + 1)
        return shape if where is None else (*shape[:where], 3, *shape[where:])

    shapes = [batched(s, a) for s, a in zip((x_shape, w_shape) * 2, axes * 2, strict=True)]
    assert_alike(lambda f: jax.vmap(f, in_axes=axes * 2), *drawn(*shapes, dtype="float64"))


def test_batched_twice_and_in_a_scan():
    (w,) = drawn((2, 3, 4, 4), dtype="float32")
    (x,) = drawn((2, 3, 5, 4), dtype="float32", seed=1)

    def trained(multiply):
        def one(w, x):
            def step(w, _):
                return w - 0.1 * jax.grad(lambda w: jnp.sum(jnp.tanh(multiply(x, w))))(w), None

            return jax.lax.scan(step, w, None, length=3)[0]

        return jax.jit(jax.vmap(jax.vmap(one)))(w, x)

    np.testing.assert_allclose(trained(product), trained(jnp.matmul), rtol=1e-5, atol=1e-5)


def test_gradients_are_slopes():
    check_grads(product, drawn((5, 4), (4, 3), dtype="float32"), order=2, atol=1e-2, rtol=1e-2)


def test_in_bfloat16():
    x, w = drawn((5, 4), (4, 3), dtype=jnp.bfloat16)
    gradients = jax.vmap(jax.grad(lambda w, x: jnp.sum(product(x, w))))(w[None], x[None])
    assert gradients.dtype == jnp.bfloat16
    expected = jnp.broadcast_to(x.astype(jnp.float32).sum(0)[:, None], w.shape)
    np.testing.assert_allclose(gradients[0].astype(jnp.float32), expected, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("rows", [5, 64])
@pytest.mark.parametrize("kind", AxisType)
def test_over_a_mesh(kind, rows):
    manual = kind == AxisType.Manual
    mesh = jax.make_mesh((1,), ("i",), axis_types=(AxisType.Auto if manual else kind,))
    by_rows, all_alike = (NamedSharding(mesh, P(*axes)) for axes in (("i",), ()))
    x, w = drawn((rows, 4), (4, 3), dtype="float32")
    w_placed, x_placed = jax.device_put(w, all_alike), jax.device_put(x, by_rows)

    def slope(multiply, reduced):
        return jax.grad(lambda w, x: reduced(jnp.sum(jnp.tanh(multiply(x, w)))))

    ours = slope(product, lambda loss: loss)
    if manual:
        ours = slope(product, lambda loss: jax.lax.psum(loss, "i"))
        ours = jax.shard_map(ours, mesh=mesh, in_specs=(P(), P("i")), out_specs=P())
        w_placed, x_placed = w, x
    expected = slope(jnp.matmul, lambda loss: loss)(w, x)
    np.testing.assert_allclose(jax.jit(ours)(w_placed, x_placed), expected, rtol=1e-5, atol=1e-5)


def barriers(f, *arguments, platform="cpu"):
    lowered = jax.jit(f).trace(*arguments).lower(lowering_platforms=(platform,))
    return "optimization_barrier" in lowered.as_text()


@pytest.mark.parametrize(
    ("rows", "inputs", "nodes", "one", "many"),
    [
        (5, 4, 3, False, True),  # small
        (5, 4, 2, False, True),  # and narrow
        (5, 8, 2, True, True),  # so narrow that it shows in one, too
        (512, 64, 300, True, True),  # columns that meet in the cache
        (512, 65, 300, False, False),
        (500, 64, 300, False, False),
    ],
)
def test_when_something_is_laid_out_for_weights(rows, inputs, nodes, one, many):
    x, w = jnp.zeros((2, rows, inputs)), jnp.zeros((2, inputs, nodes))
    gradient = jax.grad(lambda w, x: jnp.sum(jnp.sin(product(x, w))))
    assert barriers(gradient, w[0], x[0]) is one
    assert barriers(jax.vmap(gradient), w, x) is many
    assert not barriers(jax.vmap(gradient), w, x, platform="cuda")


@pytest.mark.parametrize(
    ("x_shape", "w_shape", "expected"),
    [
        ((64, 4), (4, 3), True),
        ((8, 8, 4), (4, 3), True),
        ((63, 4), (4, 3), False),
        ((64, 512), (512, 256), True),
        ((64, 512), (512, 257), False),
    ],
)
def test_when_weights_are_laid_out_for_inputs(x_shape, w_shape, expected):
    x, w = jnp.zeros((2, *x_shape)), jnp.zeros((2, *w_shape))
    gradient = jax.grad(lambda x, w: jnp.sum(jnp.sin(product(x, w))))
    assert barriers(gradient, x[0], w[0]) is expected
    assert not barriers(jax.vmap(gradient), x, w)
    assert not barriers(gradient, x[0], w[0], platform="cuda")


@pytest.mark.parametrize("axes", [None, (0, 0), (0, None), (None, 0)])
def test_is_the_product_where_weights_are_laid_out(axes):
    def batched(axis, *shape):
        return (3, *shape) if axes is not None and axes[axis] is not None else shape

    shapes = [batched(0, 64, 9), batched(1, 9, 5)] * 2
    make = (lambda f: f) if axes is None else (lambda f: jax.vmap(f, in_axes=axes * 2))
    with jax.enable_x64(True):
        assert_alike(make, *drawn(*shapes, dtype="float64"))
