"""Parameters that don't fit, given to layers as plain functions."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

import jaxnodes as jn

ROWS, IMAGES = jnp.ones((1, 4)), jnp.ones((1, 3, 3, 4))
W, KERNEL, FOUR = jnp.ones((4, 2)), jnp.ones((2, 2, 4, 2)), jnp.ones(4)
GROUPS = functools.partial(jn.group_norm, groups=2)
STATE = jn.batch_norm_init(4)[1]


def batch_norm(params, x):
    return jn.batch_norm(params, STATE, x, training=False)[0]


@pytest.mark.parametrize(
    ("layer", "params", "message"),
    [
        (jn.dense, W, r"dense: expected the parameters \['b', 'w'\], got ArrayImpl"),
        (jn.dense, {"kernel": W}, r"dense: expected the parameters .* got \['kernel'\]"),
        (jn.dense, {"w": W, "bias": FOUR}, r"dense: expected the parameters"),
        (jn.dense, {"w": W, "b": jnp.ones(1)}, r"dense: expected 'b' of shape \(2,\), got \(1,\)"),
        (jn.dense, {"w": W, "b": jnp.ones((5, 2))}, r"dense: expected 'b' .* got \(5, 2\)"),
        (jn.dense, {"w": FOUR}, r"dense: expected 'w' of shape \(D, H\), got \(4,\)"),
        (jn.conv, {"b": jnp.ones(2)}, r"conv: expected the parameters .* got \['b'\]"),
        (jn.conv_transpose, {}, r"conv_transpose: expected the parameters .* got \[\]"),
        (jn.layer_norm, {"bias": FOUR}, r"layer_norm: expected the parameters"),
        (jn.layer_norm, {"scale": FOUR, "bias": jnp.ones(1)}, r"layer_norm: expected 'bias' of"),
        (jn.rms_norm, {"scale": FOUR, "bias": FOUR}, r"rms_norm: expected the parameters"),
        (GROUPS, {"scale": FOUR, "bias": W.T}, r"group_norm: expected 'bias' .* got \(2, 4\)"),
        (batch_norm, {"scale": FOUR, "bias": jnp.ones(1)}, r"batch_norm: expected 'bias' of"),
    ],
)
def test_parameters_that_do_not_fit_are_named(layer, params, message):
    x = IMAGES if layer in (jn.conv, jn.conv_transpose) else ROWS
    with pytest.raises(jn.JaxNodesError, match=message):
        layer(params, x)


def test_parameters_may_be_numpy_or_written_by_hand():
    assert jn.neuron({"w": [1.0, 1.0], "b": -1.5}, jnp.ones(2)) == 0.5
    assert jn.dense({"w": [[1.0], [2.0]], "b": [3]}, jnp.ones(2)) == 6
    # NumPy's float64 becomes float32, as everywhere in JAX, and warns of nothing.
    params = {"w": np.ones((2, 3)), "b": np.zeros(3)}
    assert jn.dense(params, np.ones((4, 2))).dtype == jnp.float32
    y = jn.layer_norm({"scale": np.ones(2), "bias": np.zeros(2)}, np.ones((4, 2)))
    assert y.dtype == jnp.float32


@pytest.mark.parametrize(
    ("layer", "params"),
    [
        (jn.dense, {"w": W, "b": jnp.zeros(2)}),
        (jn.conv, {"w": KERNEL, "b": jnp.zeros(2)}),
        (jn.conv_transpose, {"w": KERNEL, "b": jnp.zeros(2)}),
        (jn.layer_norm, {"scale": FOUR, "bias": jnp.zeros(4)}),
        (GROUPS, {"scale": FOUR, "bias": jnp.zeros(4)}),
        (batch_norm, {"scale": FOUR, "bias": jnp.zeros(4)}),
    ],
)
def test_a_bias_may_be_left_out(layer, params):
    x = IMAGES if layer in (jn.conv, jn.conv_transpose) else ROWS
    whole, *_ = params.items()
    assert jnp.array_equal(layer(dict([whole]), x), layer(params, x))
