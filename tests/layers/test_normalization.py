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
ALL = [
    (jn.layer_norm, jn.layer_norm_init),
    (jn.rms_norm, jn.rms_norm_init),
    (lambda params, x: jn.group_norm(params, x, 2), jn.group_norm_init),
]


def weights(features, dtype):
    return draw(features, dtype, 1, mean=1.0), draw(features, dtype, 2)


@both_dtypes
@pytest.mark.parametrize("shape", [(5,), (2, 4, 5)])
def test_layer_norm_equals_flax(shape, dtype, x64):
    theirs = nn.LayerNorm(epsilon=1e-5, use_fast_variance=False)
    assert_agrees_with_jax(
        lambda s, b, x: jn.layer_norm({"scale": s, "bias": b}, x),
        lambda s, b, x: theirs.apply({"params": {"scale": s, "bias": b}}, x),
        *weights(5, dtype),
        draw(shape, dtype),
    )


@both_dtypes
def test_layer_norm_equals_torch(dtype, x64):
    torch = pytest.importorskip("torch")
    assert_agrees_with_torch(
        torch,
        lambda s, b, x: jn.layer_norm({"scale": s, "bias": b}, x, epsilon=1e-3),
        lambda s, b, x: torch.nn.functional.layer_norm(x, (5,), s, b, eps=1e-3),
        *weights(5, dtype),
        draw((3, 2, 5), dtype),
    )


@both_dtypes
def test_layer_norm_without_bias_is_one_with_a_bias_of_zero(dtype, x64):
    scale, x = draw(5, dtype, 1), draw((3, 5), dtype)
    expected = jn.layer_norm({"scale": scale, "bias": jnp.zeros(5, dtype)}, x)
    np.testing.assert_array_equal(jn.layer_norm({"scale": scale}, x), expected)


@both_dtypes
def test_rms_norm_equals_flax(dtype, x64):
    assert_agrees_with_jax(
        lambda s, x: jn.rms_norm({"scale": s}, x),
        lambda s, x: nn.RMSNorm(epsilon=1e-6).apply({"params": {"scale": s}}, x),
        draw(5, dtype, 1),
        draw((3, 4, 5), dtype),
    )


@both_dtypes
@pytest.mark.parametrize(
    ("groups", "space"), [(1, (3, 4)), (2, ()), (2, (5,)), (6, (3, 4)), (6, ())]
)
def test_group_norm_equals_flax_and_torch(groups, space, dtype, x64):
    def ours(s, b, x):
        return jn.group_norm({"scale": s, "bias": b}, x, groups)

    args = *weights(6, dtype), draw((2, *space, 6), dtype)
    theirs = nn.GroupNorm(groups, epsilon=1e-5, use_fast_variance=False)
    assert_agrees_with_jax(
        ours, lambda s, b, x: theirs.apply({"params": {"scale": s, "bias": b}}, x), *args
    )
    if space or groups < 6:  # torch refuses a group of one value
        torch = pytest.importorskip("torch")
        assert_agrees_with_torch(
            torch,
            ours,
            lambda s, b, x: channels_last(
                torch.nn.functional.group_norm(channels_first(x), groups, s, b, eps=1e-5)
            ),
            *args,
        )


@pytest.mark.parametrize(("norm", "init"), [ALL[0], ALL[2]])
def test_a_large_mean_costs_no_digits(norm, init):
    """E[x^2] - E[x]^2 is off by hundreds here."""
    x = jnp.asarray([[9999.0, 10001.0, 10001.0, 9999.0]], jnp.float32)
    np.testing.assert_allclose(norm(init(4), x), [[-1, 1, 1, -1]], rtol=2e-5)


@pytest.mark.parametrize(("norm", "init"), ALL)
def test_half_precision_is_normalized_in_float32(norm, init):
    x = draw((4, 8), jnp.float32, mean=30.0).astype(jnp.float16)
    params = init(8, jnp.float16)
    y = norm(params, x)
    wide = norm(init(8), x.astype(jnp.float32))
    assert y.dtype == jnp.float16
    np.testing.assert_array_equal(y, wide.astype(jnp.float16))


@pytest.mark.parametrize(("norm", "init"), ALL)
def test_values_larger_than_float16_squares_stay_finite(norm, init):
    x = jnp.asarray([[-60000.0, 60000.0, 3.0, 7.0]], jnp.float16)
    assert np.isfinite(norm(init(4, jnp.float16), x)).all()


@pytest.mark.parametrize(("norm", "init"), ALL)
def test_wrong_inputs_are_refused(norm, init):
    with pytest.raises(jn.JaxNodesError, match=r"expected 4 features .* got 5 \(input \(2, 5\)\)"):
        norm(init(4), jnp.ones((2, 5)))
    with pytest.raises(jn.JaxNodesError, match="expected float32 inputs, got int32 .*scale it"):
        norm(init(4), jnp.ones((2, 4), jnp.int32))
    with pytest.raises(jn.JaxNodesError, match="features to be a whole number"):
        init(0)


def test_groups_divide_the_channels():
    with pytest.raises(jn.JaxNodesError, match=r"divides the 4 channels, got 3"):
        jn.group_norm(jn.group_norm_init(4), jnp.ones((2, 4)), 3)
    with pytest.raises(jn.JaxNodesError, match=r"group_norm1: .* divides the 4 channels, got 3"):
        jn.Sequential(jn.GroupNorm(3)).init(jax.random.key(0), jnp.ones((2, 4)))
    with pytest.raises(jn.JaxNodesError, match=r"expected a batch \(B, \.\.\., C\), got \(4,\)"):
        jn.group_norm(jn.group_norm_init(4), jnp.ones(4), 2)


@pytest.mark.parametrize("kind", [jn.LayerNorm, jn.RMSNorm, lambda **k: jn.GroupNorm(2, **k)])
@pytest.mark.parametrize("epsilon", [-1e-5, float("nan"), "small", True])
def test_epsilon_is_a_number_of_at_least_zero(kind, epsilon):
    with pytest.raises(jn.JaxNodesError, match="expected epsilon to be a finite number"):
        kind(epsilon=epsilon)


@pytest.mark.parametrize("groups", [0, 1.5, "2"])
def test_groups_is_a_count(groups):
    with pytest.raises(jn.JaxNodesError, match="expected groups to be a whole number"):
        jn.GroupNorm(groups)


@pytest.mark.parametrize("layer", [jn.LayerNorm(0.1), jn.RMSNorm(0.1), jn.GroupNorm(2, 0.1)])
def test_layers_are_their_functions(layer, key):
    x = draw((3, 4), jnp.float32)
    params, state = layer.init(key, x)
    assert state == {}
    params = {name: draw(p.shape, p.dtype, i) for i, (name, p) in enumerate(params.items())}
    y, _ = layer.apply(params, state, x, training=True)
    function = {
        jn.LayerNorm: lambda: jn.layer_norm(params, x, epsilon=0.1),
        jn.RMSNorm: lambda: jn.rms_norm(params, x, epsilon=0.1),
        jn.GroupNorm: lambda: jn.group_norm(params, x, 2, epsilon=0.1),
    }[type(layer)]
    np.testing.assert_array_equal(y, function())
    with pytest.raises(jn.JaxNodesError, match="expected the parameters .*'scale'.* got .*'extra'"):
        layer.apply({**params, "extra": x}, state, x)


def test_without_bias_there_is_none(key):
    params, _ = jn.LayerNorm(use_bias=False).init(key, jnp.ones((2, 3)))
    assert list(params) == ["scale"]
