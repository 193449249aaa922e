import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import jaxnodes as jn
from tests.layers.agreement import (
    assert_agrees_with_jax,
    assert_agrees_with_torch,
    channels_first,
    channels_last,
    draw,
)

pytestmark = pytest.mark.usefixtures("quick")

# Space, window, stride, padding: tiled, with leftovers, overlapping, padded, large.
CASES = [
    ((8,), (2,), None, "VALID"),
    ((9,), (3,), (2,), "SAME"),
    ((7, 6), (2, 3), None, "VALID"),
    ((7, 8), (3, 2), (2, 1), "SAME"),
    ((6, 6), (3, 3), (1, 2), ((1, 2), (0, 1))),
    ((13, 14), (6, 7), None, "VALID"),
    ((12, 9), (7, 5), (2, 3), ((3, 0), (2, 2))),
    ((4, 5, 4), (2, 2, 3), None, "VALID"),
    ((4, 4, 5), (2, 3, 1), (2, 1, 2), "SAME"),
]
cases = pytest.mark.parametrize(("space", "window", "stride", "padding"), CASES)
both_dtypes = pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])


@cases
@pytest.mark.parametrize("kind", ["max", "avg"])
def test_equals_flax(kind, space, window, stride, padding, x64):
    dtype = jnp.float64 if len(space) == 2 else jnp.float32
    ours = {"max": jn.max_pool, "avg": jn.avg_pool}[kind]
    theirs = {
        "max": nn.max_pool,
        "avg": lambda *args: nn.avg_pool(*args, count_include_pad=False),
    }[kind]
    assert_agrees_with_jax(
        lambda x: ours(x, window, stride=stride, padding=padding),
        lambda x: theirs(x, window, stride or window, padding),
        draw((2, *space, 3), dtype),
    )


@both_dtypes
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(("window", "stride", "padding"), [(2, 2, 0), (3, 2, 1), (4, 3, 2)])
def test_equals_torch(rank, window, stride, padding, dtype, x64):
    """With many equal values: the gradient of the maximum must go to the same one."""
    torch = pytest.importorskip("torch")
    values = np.random.default_rng(0).integers(0, 3, (2, *(7, 8, 6)[:rank], 2))
    x = jnp.asarray(values, dtype)
    max_pool = getattr(torch.nn.functional, f"max_pool{rank}d")
    assert_agrees_with_torch(
        torch,
        lambda x: jn.max_pool(x, window, stride=stride, padding=padding),
        lambda x: channels_last(max_pool(channels_first(x), window, stride, padding)),
        x,
    )
    module = getattr(torch.nn, f"AvgPool{rank}d")(window, stride, padding, count_include_pad=False)
    assert_agrees_with_torch(
        torch,
        lambda x: jn.avg_pool(x, window, stride=stride, padding=padding),
        lambda x: channels_last(module(channels_first(x))),
        x,
    )


def test_by_hand():
    x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    np.testing.assert_array_equal(jn.max_pool(x, 2).reshape(2, 2), [[5, 7], [13, 15]])
    np.testing.assert_array_equal(jn.avg_pool(x, 2).reshape(2, 2), [[2.5, 4.5], [10.5, 12.5]])


@pytest.mark.parametrize("window", [(2, 2), (2, 3), (6, 7)])
@pytest.mark.parametrize("stride", [None, 1])
def test_the_gradient_of_equal_values_goes_to_the_first(window, stride):
    """However the taps are taken: side by side or overlapping, at once or axis by axis."""
    x = jnp.ones((1, *window, 1))
    gradient = jax.grad(lambda x: jn.max_pool(x, window, stride=stride).sum())(x)
    expected = np.zeros((1, *window, 1))
    expected[0, 0, 0, 0] = 1
    np.testing.assert_array_equal(gradient, expected)


@pytest.mark.parametrize(("size", "window"), [(8, 2), (9, 2), (9, 3), (300, 290)])
def test_the_gradient_of_windows_side_by_side_by_hand(size, window):
    """It is spread over each window, whose largest value, or last NaN, alone gets it."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 4, (2, size, 3)).astype(np.float32)
    x[rng.random(x.shape) < 0.1] = np.nan
    count = size // window
    weights = rng.normal(size=(2, count, 3)).astype(np.float32)
    expected = np.zeros_like(x)
    for b, i, c in np.ndindex(2, count, 3):
        values = x[b, i * window : (i + 1) * window, c]
        nans = np.flatnonzero(np.isnan(values))
        place = nans[-1] if nans.size else np.argmax(values)
        expected[b, i * window + place, c] = weights[b, i, c]

    def pooled(x):
        return jn.max_pool(x, window)

    (gradient,) = jax.jit(lambda x: jax.vjp(pooled, x)[1](jnp.asarray(weights)))(jnp.asarray(x))
    np.testing.assert_array_equal(gradient, expected)
    _, tangent = jax.jvp(pooled, (jnp.asarray(x),), (jnp.asarray(expected),))
    np.testing.assert_array_equal(tangent, weights)


@pytest.mark.parametrize("pool", [jn.max_pool, jn.avg_pool])
def test_the_gradient_of_windows_side_by_side_pads_nothing(pool):
    x = jnp.ones((2, 8, 8, 3))
    gradient = jax.make_jaxpr(jax.grad(lambda x: jnp.sum(pool(x, 2) ** 2)))(x)
    assert " pad[" not in str(gradient)
    overlapping = jax.make_jaxpr(jax.grad(lambda x: jnp.sum(pool(x, 2, stride=1) ** 2)))(x)
    assert " pad[" in str(overlapping)


@pytest.mark.parametrize("place", [0, 5, 8])
def test_nan_is_not_hidden(place):
    x = jnp.zeros(9).at[place].set(jnp.nan).reshape(1, 3, 3, 1)
    for pooled in (
        jn.max_pool(x, 3),
        jn.max_pool(x, 3, stride=1, padding=1),
        jn.global_max_pool(x),
        jn.global_avg_pool(x),
    ):
        assert np.isnan(pooled).any()


def test_rows_left_over_are_dropped():
    x = jnp.arange(7.0).reshape(1, 7, 1)
    np.testing.assert_array_equal(jn.max_pool(x, 3).ravel(), [2, 5])
    np.testing.assert_array_equal(jn.avg_pool(x, 3).ravel(), [1, 4])


def test_padding_counts_neither_as_largest_nor_in_the_mean():
    x = -jnp.ones((1, 5, 5, 1))
    for pool in (jn.max_pool, jn.avg_pool):
        for padding in ("SAME", 1, ((1, 0), 1)):
            y = pool(x, 3, stride=2, padding=padding)
            np.testing.assert_allclose(y, -np.ones(y.shape), rtol=1e-6)


def test_means_of_half_precision_are_summed_in_float32():
    x = jnp.full((1, 4096, 1), 1.0, jnp.bfloat16)
    assert jn.avg_pool(x, 4096).item() == jn.global_avg_pool(x).item() == 1.0


@pytest.mark.parametrize("pool", [jn.max_pool, jn.avg_pool])
@pytest.mark.parametrize("options", [{"window": 2}, {"window": 2, "stride": 1, "padding": "SAME"}])
def test_derivatives_of_second_order(pool, options, x64):
    x = draw((1, 4, 4, 1), jnp.float64)
    check_grads(lambda x: jnp.sin(pool(x, **options)), (x,), order=2, modes=["fwd", "rev"])


@both_dtypes
@pytest.mark.parametrize("space", [(5,), (3, 4), (2, 3, 2)])
def test_global_pools_equal_numpy(space, dtype, x64):
    x = draw((2, *space, 3), dtype)
    axes = tuple(range(1, 1 + len(space)))
    np.testing.assert_array_equal(jn.global_max_pool(x), np.asarray(x).max(axes))
    np.testing.assert_allclose(jn.global_avg_pool(x), np.asarray(x).mean(axes), rtol=1e-5)
    largest = x == x.max(axes, keepdims=True)
    np.testing.assert_array_equal(jax.grad(lambda x: jn.global_max_pool(x).sum())(x), largest)


def test_the_gradient_of_a_global_maximum_goes_to_the_first_of_equal_ones():
    gradient = jax.grad(lambda x: jn.global_max_pool(x).sum())(jnp.zeros((1, 2, 2, 1)))
    np.testing.assert_array_equal(gradient.ravel(), [1, 0, 0, 0])


@pytest.mark.parametrize(
    ("x", "options", "problem"),
    [
        (np.ones((1, 4, 4, 1)), {"window": 5}, r"windows within .* \(5, 5\) over \(4, 4\)"),
        (np.ones((1, 4, 4, 1)), {"window": 2, "padding": 2}, "larger than its padding"),
        (np.ones((1, 4, 4, 1)), {"window": (2,)}, "expected window for 2 spatial axes"),
        (np.ones((1, 4, 4, 1)), {"window": (2, 2, 2)}, "expected window for 2 spatial axes"),
        (np.ones((1, 4, 4, 1)), {"window": 2, "stride": (1,)}, "expected stride for 2 spatial"),
        (np.ones((1, 4, 4, 1)), {"window": 0}, "window to be a whole number of at least 1"),
        (np.ones((1, 4, 4, 1)), {"window": 2, "stride": 0}, "stride to be a whole number"),
        (np.ones((1, 4, 4, 1)), {"window": 2, "padding": "FULL"}, "expected padding 'SAME'"),
        (np.ones((1, 4, 4, 1)), {"window": 2, "padding": -1}, "padding to be a whole number"),
        (np.ones((4, 4)), {"window": 2}, "expected a batch"),
        (np.ones((1, 0, 4, 1)), {"window": 2}, "none empty"),
        (np.ones((1, 4, 4, 1), np.int32), {"window": 2}, "floating inputs, got int32"),
    ],
)
@pytest.mark.parametrize("pool", [jn.max_pool, jn.avg_pool])
def test_wrong_arguments_are_refused(pool, x, options, problem):
    with pytest.raises(jn.JaxNodesError, match=rf"^{pool.__name__}: .*{problem}"):
        pool(jnp.asarray(x), **options)


@pytest.mark.parametrize("pool", [jn.global_max_pool, jn.global_avg_pool])
def test_global_pools_refuse_what_has_no_space(pool):
    with pytest.raises(jn.JaxNodesError, match=rf"^{pool.__name__}: expected a batch"):
        pool(jnp.ones((2, 3)))


@pytest.mark.parametrize("kind", [jn.MaxPool, jn.AvgPool])
@pytest.mark.parametrize(
    "options",
    [
        {"window": 0},
        {"window": 2.5},
        {"window": ()},
        {"window": (2, 0)},
        {"window": (2, 2), "stride": (1, 1, 1)},
        {"window": 2, "stride": -1},
        {"window": 2, "padding": "NONE"},
        {"window": 2, "padding": ((1, 1, 1),)},
    ],
)
def test_the_constructor_validates(kind, options):
    with pytest.raises(jn.JaxNodesError, match=rf"^{kind.__name__}: expected "):
        kind(**options)


def test_layers_are_their_functions():
    x = draw((2, 6, 6, 3), jnp.float32)
    options = {"stride": (2, 1), "padding": ((1, 0), (1, 1))}
    for kind, pool in ((jn.MaxPool, jn.max_pool), (jn.AvgPool, jn.avg_pool)):
        y = kind([3, 2], **options).predict(({}, {}), x)
        np.testing.assert_array_equal(y, pool(x, (3, 2), **options))
        assert kind([3, 2], padding=[[1, 1], [0, 1]]) == kind((3, 2), padding=((1, 1), (0, 1)))
    for kind, pool in (
        (jn.GlobalMaxPool, jn.global_max_pool),
        (jn.GlobalAvgPool, jn.global_avg_pool),
    ):
        np.testing.assert_array_equal(kind().predict(({}, {}), x), pool(x))
