import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnodes as jn
from tests.layers.agreement import (
    assert_agrees_with_jax,
    assert_agrees_with_torch,
    channels_first,
    channels_last,
    draw,
)

both_dtypes = pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
both_modes = pytest.mark.parametrize("training", [True, False])
shapes = pytest.mark.parametrize("shape", [(7, 3), (2, 4, 3, 3)])


def arguments(shape, dtype):
    """Scale, bias, running mean, running variance, and a batch."""
    return (
        draw(3, dtype, 1, mean=1.0),
        draw(3, dtype, 2),
        draw(3, dtype, 3),
        draw(3, dtype, 4) ** 2 + 0.5,
        draw(shape, dtype, 5, mean=2.0),
    )


def ours(training, **options):
    def function(scale, bias, mean, var, x):
        params, state = {"scale": scale, "bias": bias}, {"mean": mean, "var": var}
        return jn.batch_norm(params, state, x, training=training, **options)

    return function


def joined(function):
    """The output and the state after it as one array."""

    def run(*args):
        y, state = function(*args)
        return jnp.concatenate([y.ravel(), state["mean"], state["var"]])

    return run


@both_dtypes
@both_modes
@shapes
def test_equals_flax_where_the_running_variance_is_biased(shape, training, dtype, x64):
    flax_norm = nn.BatchNorm(
        use_running_average=not training, momentum=0.7, epsilon=1e-3, use_fast_variance=False
    )

    def theirs(scale, bias, mean, var, x):
        variables = {
            "params": {"scale": scale, "bias": bias},
            "batch_stats": {"mean": mean, "var": var},
        }
        y, new = flax_norm.apply(variables, x, mutable=["batch_stats"])
        return y, new["batch_stats"]

    function = ours(training, momentum=0.3, epsilon=1e-3)
    assert_agrees_with_jax(joined(function), joined(theirs), *arguments(shape, dtype))


@both_dtypes
@both_modes
@shapes
def test_equals_torch_where_the_running_variance_is_unbiased(shape, training, dtype, x64):
    torch = pytest.importorskip("torch")
    *leading, mean, var, x = arguments(shape, dtype)
    running = [torch.tensor(np.asarray(value)) for value in (mean, var)]

    def theirs(scale, bias, x):
        y = torch.nn.functional.batch_norm(
            channels_first(x), *running, scale, bias, training, momentum=0.3, eps=1e-3
        )
        return channels_last(y)

    function = ours(training, momentum=0.3, epsilon=1e-3, unbiased=True)
    assert_agrees_with_torch(
        torch, lambda scale, bias, x: function(scale, bias, mean, var, x)[0], theirs, *leading, x
    )
    _, state = function(*leading, mean, var, x)
    tolerance = 1e-5 if dtype == jnp.float32 else 1e-12
    for name, expected in zip(("mean", "var"), running, strict=True):
        np.testing.assert_allclose(state[name], expected.numpy(), rtol=tolerance)


def test_by_hand():
    """Batch 1, 2, 6: mean 3, variance 14/3, or 7 unbiased; a tenth of the way to them."""
    params, state = jn.batch_norm_init(1)
    x = jnp.array([[1.0], [2.0], [6.0]])
    y, biased = jn.batch_norm(params, state, x, training=True, epsilon=0.0)
    _, unbiased = jn.batch_norm(params, state, x, training=True, unbiased=True)
    np.testing.assert_allclose(y[:, 0], np.array([-2, -1, 3]) / np.sqrt(14 / 3), rtol=1e-6)
    np.testing.assert_allclose(biased["mean"], [0.3], rtol=1e-6)
    np.testing.assert_allclose(biased["var"], [0.9 + 0.1 * 14 / 3], rtol=1e-6)
    np.testing.assert_allclose(unbiased["var"], [0.9 + 0.7], rtol=1e-6)


def test_running_statistics_approach_those_of_the_data():
    params, state = jn.batch_norm_init(2)
    for seed in range(200):
        x = draw((64, 2), jnp.float32, seed, mean=5.0) * jnp.array([1.0, 3.0])
        _, state = jn.batch_norm(params, state, x, training=True)
    np.testing.assert_allclose(state["mean"], [5, 15], rtol=0.05)
    np.testing.assert_allclose(state["var"], [1, 9], rtol=0.2)


@pytest.mark.parametrize("size", [4, 100_000])
def test_a_large_mean_costs_no_digits(size):
    """The hazard: float32, mean 1e4, spread 1, where E[x^2] - E[x]^2 answers +-316."""
    x = np.tile([9999.0, 10001.0], size // 2).astype(np.float32)[:, None]
    y, state = jn.batch_norm(*jn.batch_norm_init(1), jnp.asarray(x), training=True, momentum=1.0)
    np.testing.assert_allclose(y[:, 0], x[:, 0] - 10000, rtol=2e-3)
    np.testing.assert_allclose(state["var"], [1.0], rtol=1e-3)


def test_inference_leaves_the_state_and_takes_single_samples():
    _, state = jn.batch_norm_init(3)
    params = {"scale": jnp.full(3, 2.0), "bias": jnp.ones(3)}
    y, after = jn.batch_norm(params, state, jnp.ones(3), training=False, epsilon=0.0)
    assert after is state
    np.testing.assert_allclose(y, [3, 3, 3])


def test_half_precision_keeps_statistics_in_float32(key):
    layer, x = jn.BatchNorm(), draw((64, 2), jnp.bfloat16, mean=100.0)
    params, state = layer.init(key, x)
    for _ in range(200):
        y, state = layer.apply(params, state, x, training=True)
    assert params["scale"].dtype == y.dtype == jnp.bfloat16
    assert state["mean"].dtype == state["var"].dtype == jnp.float32
    # In bfloat16 the running mean would stop one rounding step short.
    np.testing.assert_allclose(state["mean"], x.astype(jnp.float32).mean(0), rtol=1e-6)


@pytest.mark.parametrize("unbiased", [False, True])
def test_statistics_over_a_vmapped_axis_are_those_of_the_whole_batch(unbiased):
    x = draw((4, 2, 3), jnp.float32)
    layer = jn.BatchNorm(unbiased=unbiased, axis_name="parts")
    params, state = jn.batch_norm_init(3)

    def part(x):
        return layer.apply(params, state, x, training=True)

    y, after = jax.vmap(part, axis_name="parts")(x)
    whole, expected = jn.batch_norm(
        params, state, x.reshape(8, 3), training=True, unbiased=unbiased
    )
    np.testing.assert_allclose(y.reshape(8, 3), whole, rtol=1e-5, atol=1e-6)
    for name in ("mean", "var"):
        np.testing.assert_allclose(after[name], np.tile(expected[name], (4, 1)), rtol=1e-5)


def test_statistics_over_devices_are_those_of_the_whole_batch():
    P = jax.sharding.PartitionSpec
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    x = draw((16, 3), jnp.float32)
    variables = jn.batch_norm_init(3)
    layer = jn.BatchNorm(axis_name="data")

    @jax.jit
    @jax.shard_map(mesh=mesh, in_specs=(P(), P("data")), out_specs=(P("data"), P()))
    def spread(variables, x):
        return layer.apply(*variables, x, training=True)

    y, after = spread(variables, x)
    whole, expected = jn.batch_norm(*variables, x, training=True)
    np.testing.assert_allclose(y, whole, rtol=1e-5, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), after, expected)


@pytest.mark.parametrize("shape", [(0, 3), (2, 0, 3), (3,)])
def test_a_batch_without_samples_is_refused_in_training(shape, key):
    net = jn.Sequential(jn.BatchNorm())
    variables = net.init(key, jnp.ones((2, 3)))
    with pytest.raises(jn.JaxNodesError, match=r"^batch_norm1: expected a batch .*got \("):
        net.apply(*variables, jnp.ones(shape), training=True)


def test_an_unbiased_variance_of_one_value_is_refused():
    variables, x = jn.batch_norm_init(2), jnp.ones((1, 2))
    with pytest.raises(jn.JaxNodesError, match="expected more than one value .*unbiased=False"):
        jn.batch_norm(*variables, x, training=True, unbiased=True)
    y, _ = jn.batch_norm(*variables, x, training=True)
    np.testing.assert_array_equal(y, [[0, 0]])


def test_parameters_state_and_inputs_must_fit():
    params, state = jn.batch_norm_init(3)
    with pytest.raises(jn.JaxNodesError, match=r"expected 3 features .* got 4"):
        jn.batch_norm(params, state, jnp.ones((2, 4)), training=True)
    with pytest.raises(jn.JaxNodesError, match=r"expected 'mean' of shape \(3,\), got \(2,\)"):
        jn.batch_norm(params, jn.batch_norm_init(2)[1], jnp.ones((2, 3)), training=True)
    with pytest.raises(jn.JaxNodesError, match=r"expected the parameters \['mean', 'var'\]"):
        jn.BatchNorm().apply(params, {}, jnp.ones((2, 3)))
    with pytest.raises(jn.JaxNodesError, match=r"expected the parameters \['bias', 'scale'\]"):
        jn.BatchNorm().apply({}, state, jnp.ones((2, 3)))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"momentum": 1.5}, "momentum to be a finite number between 0 and 1, got 1.5"),
        ({"momentum": -0.1}, "momentum to be a finite number between 0 and 1, got -0.1"),
        ({"epsilon": -1e-5}, "epsilon to be a finite number of at least 0"),
        ({"dtype": "int32"}, "expected a floating dtype .*got 'int32'"),
        ({"dtype": "floaty"}, "expected a floating dtype .*got 'floaty'"),
    ],
)
def test_the_constructor_validates(options, problem):
    with pytest.raises(jn.JaxNodesError, match=rf"^BatchNorm: .*{problem}"):
        jn.BatchNorm(**options)
