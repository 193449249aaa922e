import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnodes as jn
from tests.layers.agreement import draw

X = draw((40, 50), jnp.float32, mean=3.0)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_drops_at_its_rate_and_keeps_the_mean(rate, key):
    y = np.asarray(jn.dropout(key, jnp.ones((1000, 1000)), rate))
    deviation = np.sqrt(rate * (1 - rate) / 1e6)
    assert abs((y == 0).mean() - rate) < 5 * deviation
    assert abs(y.mean() - 1) < 5 * deviation / (1 - rate)
    np.testing.assert_allclose(y[y != 0], 1 / (1 - rate), rtol=1e-6)


def test_neighbors_are_dropped_independently(key):
    dropped = np.asarray(jn.dropout(key, jnp.ones((1000, 1000)), 0.5)) == 0
    for a, b in [(dropped[1:], dropped[:-1]), (dropped[:, 1:], dropped[:, :-1])]:
        assert abs((a & b).mean() - 0.25) < 0.003


def test_equals_the_guides_formula_by_keep_probability(key):
    """mask / keep_prob * x, the mask of ones with probability keep_prob = 1 - rate."""
    mask = np.asarray(jn.dropout(key, jnp.ones_like(X), 0.3)) != 0
    np.testing.assert_allclose(jn.dropout(key, X, 0.3), np.asarray(X) * mask / 0.7, rtol=1e-6)


def test_the_gradient_has_the_same_mask(key):
    weights = np.asarray(draw(X.shape, X.dtype, 1))
    gradient = jax.grad(lambda x: (weights * jn.dropout(key, x, 0.3)).sum())(X)
    mask = np.asarray(jn.dropout(key, X, 0.3)) != 0
    np.testing.assert_allclose(gradient, weights * mask / 0.7, rtol=1e-6)


def test_the_key_decides(key):
    same = jn.dropout(key, X, 0.5), jax.jit(jn.dropout, static_argnums=2)(key, X, 0.5)
    np.testing.assert_array_equal(*same)
    other = np.asarray(jn.dropout(jax.random.key(1), X, 0.5))
    agree = ((np.asarray(same[0]) == 0) == (other == 0)).mean()
    assert abs(agree - 0.5) < 0.06


def test_the_mask_does_not_depend_on_the_dtype(key, x64):
    masks = [
        np.asarray(jn.dropout(key, X.astype(dtype), 0.5)) != 0
        for dtype in (jnp.float16, jnp.bfloat16, jnp.float32, jnp.float64)
    ]
    for mask in masks[1:]:
        np.testing.assert_array_equal(mask, masks[0])


def test_half_precision_is_scaled_in_float32(key):
    """100 / 0.9 is 111 in bfloat16; divided by a 0.9 rounded first, 0.8984, it is 111.5."""
    y = np.asarray(jn.dropout(key, jnp.full(100, 100.0, jnp.bfloat16), 0.1), np.float32)
    assert set(y) == {0.0, 111.0}


def test_a_rate_of_zero_is_the_identity(key):
    assert jn.dropout(key, X, 0) is X
    np.testing.assert_array_equal(jax.jit(jn.dropout)(key, X, 0.0), X)


def test_the_rate_may_be_traced(key):
    rates = jnp.array([0.0, 0.25, 0.5])
    batched = jax.vmap(lambda rate: jn.dropout(key, X, rate))(rates)
    for y, rate in zip(batched, rates, strict=True):
        np.testing.assert_allclose(y, jn.dropout(key, X, float(rate)), rtol=1e-6)


def test_shared_axes_drop_together(key):
    dropped = np.asarray(jn.dropout(key, jnp.ones((20, 30, 40)), 0.5, shared_axes=(1, -1))) == 0
    assert (dropped == dropped[:, :1, :1]).all()
    assert 0 < dropped[:, 0, 0].sum() < 20


def test_channel_dropout_drops_whole_channels_of_single_samples(key):
    dropped = np.asarray(jn.channel_dropout(key, jnp.ones((30, 4, 5, 40)), 0.25)) == 0
    assert (dropped == dropped[:, :1, :1]).all()
    assert abs(dropped[:, 0, 0].mean() - 0.25) < 0.06
    assert len({row.tobytes() for row in dropped[:, 0, 0]}) == 30


@pytest.mark.parametrize(
    "rate", [1.5, -0.5, 1.0, True, float("nan"), "0.5", None, (0.5,), np.ones(2), jnp.ones(1)]
)
def test_a_rate_outside_of_0_to_1_is_refused(rate, key):
    problem = r"expected a rate to drop in \[0, 1\), got "
    for function in (jn.dropout, jn.channel_dropout):
        with pytest.raises(jn.JaxNodesError, match=problem):
            function(key, jnp.ones((2, 3, 4)), rate)
    for layer in (jn.Dropout, jn.ChannelDropout):
        with pytest.raises(jn.JaxNodesError, match=rf"^{layer.__name__}: {problem}"):
            layer(rate)


def test_wrong_arguments_are_refused(key):
    with pytest.raises(jn.JaxNodesError, match="expected floating inputs, got int32"):
        jn.dropout(key, jnp.ones(3, jnp.int32), 0.5)
    with pytest.raises(jn.JaxNodesError, match="expected a typed PRNG key"):
        jn.dropout(jax.random.PRNGKey(0), X, 0.5)
    with pytest.raises(jn.JaxNodesError, match=r"expected shared_axes of .*, got \(2,\)"):
        jn.dropout(key, X, 0.5, shared_axes=(2,))
    with pytest.raises(jn.JaxNodesError, match=r"with space to drop channels over, got .*\(40, 50"):
        jn.channel_dropout(key, X, 0.5)
    with pytest.raises(jn.JaxNodesError, match="expected shared_axes to be a tuple"):
        jn.Dropout(0.5, shared_axes="all")


@pytest.mark.parametrize("kind", [jn.Dropout, jn.ChannelDropout])
def test_layers_drop_in_training_alone(kind, key):
    x = jnp.ones((2, 3, 4))
    y, state = kind(0.5).apply({}, {}, x, key=key)
    assert y is x
    assert state == {}
    assert (kind(0.5).apply({}, {}, x, key=key, training=True)[0] == 0).any()
    with pytest.raises(jn.JaxNodesError, match="needs key="):
        kind(0.5).apply({}, {}, x, training=True)
    assert kind(0).apply({}, {}, x, training=True)[0] is x


def test_each_layer_of_a_network_has_a_mask_of_its_own(key):
    x = jnp.ones((1, 1000))
    net = jn.Parallel(jn.Dropout(0.5), jn.Dropout(0.5))
    y, _ = net.apply({}, {}, x, key=key, training=True)
    a, b = np.split(np.asarray(y[0]) == 0, 2)
    assert abs((a == b).mean() - 0.5) < 0.08
    y, _ = jn.Sequential(jn.Dropout(0.5), jn.Dropout(0.5)).apply({}, {}, x, key=key, training=True)
    assert abs((y == 4).mean() - 0.25) < 0.07


def test_each_step_of_repeat_has_a_mask_of_its_own(key):
    """Shared masks would leave half of the values, not an eighth."""
    y, _ = jn.Repeat(jn.Dropout(0.5), 3).apply({}, {}, jnp.ones((50, 100)), key=key, training=True)
    assert abs((y == 8).mean() - 1 / 8) < 0.02
    assert ((y == 0) | (y == 8)).all()
