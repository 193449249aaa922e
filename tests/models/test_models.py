"""Whole networks: their sizes as counted by hand, their outputs, and what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnodes as jn
from jaxnodes.models import cnn, linear, mlp


def count(net, shape):
    x = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    params, state = jax.eval_shape(lambda: net.init(jax.random.key(0), x))
    assert not state
    return sum(p.size for p in jax.tree.leaves(params))


@pytest.mark.parametrize(
    ("net", "shape", "parameters"),
    [
        (mlp((784,), 10), (784,), 784 * 256 + 256 * 128 + 128 * 10 + 256 + 128 + 10),
        (mlp((28, 28, 1), 10), (28, 28, 1), 235_146),
        (mlp((4,), 3, (5,), "tanh"), (4,), 4 * 5 + 5 + 5 * 3 + 3),
        (linear((3,), 1), (3,), 4),
        (linear((8, 8, 1), 10), (8, 8, 1), 650),
        # 9 * 32 + 32, 9 * 32 * 64 + 64, 7 * 7 * 64 * 128 + 128, 128 * 10 + 10
        (cnn((28, 28, 1), 10), (28, 28, 1), 320 + 18_496 + 401_536 + 1_290),
        # Two poolings of 8 x 8 leave 2 x 2.
        (cnn((64,), 10), (64,), 320 + 18_496 + 2 * 2 * 64 * 128 + 128 + 1_290),
        (cnn((9, 13, 3), 2, (4,), (6, 5)), (9, 13, 3), 27 * 4 + 4 + 4 * 6 * 4 * 6 + 6 + 35 + 12),
        (cnn((4, 4, 2), 3, (7,), ()), (4, 4, 2), 18 * 7 + 7 + 2 * 2 * 7 * 3 + 3),
    ],
)
def test_parameters(net, shape, parameters):
    assert count(net, shape) == parameters
    outputs = net.layers[-1][1].features
    x = jax.ShapeDtypeStruct((5, *shape), jnp.float32)
    made = jax.eval_shape(lambda x: net.predict(net.init(jax.random.key(0), x), x), x)
    assert made.shape == (5, outputs)


def test_an_mlp_is_its_equation():
    net = mlp((3, 2), 2, (4,), "tanh")
    params, state = net.init(jax.random.key(0), jnp.ones((1, 3, 2)))
    x = np.random.default_rng(0).normal(size=(5, 3, 2)).astype(np.float32)
    h = np.tanh(x.reshape(5, 6) @ params["dense1"]["w"] + params["dense1"]["b"])
    expected = h @ params["dense2"]["w"] + params["dense2"]["b"]
    np.testing.assert_allclose(net.predict((params, state), x), expected, rtol=1e-5, atol=1e-6)


def test_a_linear_model_starts_at_nothing():
    params, _ = linear((2, 3), 4).init(jax.random.key(0), jnp.ones((1, 2, 3)))
    np.testing.assert_array_equal(params["dense1"]["w"], np.zeros((6, 4)))
    with pytest.raises(jn.JaxNodesError, match=r"linear: expected each size of input_shape"):
        linear((2, -3), 4)


def test_flat_images_are_images():
    x = jax.random.uniform(jax.random.key(1), (3, 8, 8, 1))
    image, flat = cnn((8, 8, 1), 10, (4, 5), (6,)), cnn((64,), 10, (4, 5), (6,))
    variables = jax.jit(image.init)(jax.random.key(0), x)
    np.testing.assert_array_equal(
        jn.predict(flat, variables, x.reshape(3, 64)), jn.predict(image, variables, x)
    )


def test_dropout_follows_each_hidden_layer():
    names = [name for name, _ in mlp((4,), 2, (5, 6), dropout=0.3).layers]
    assert names == ["dense1", "dropout1", "dense2", "dropout2", "dense3"]
    layers = dict(cnn((8, 8, 1), 2, (3,), (4,), dropout=0.3).layers)
    assert layers["dropout1"] == jn.Dropout(0.3)
    assert list(layers)[-3:] == ["dense1", "dropout1", "dense2"]


@pytest.mark.parametrize("net", [mlp((64,), 3, dropout=0.1), cnn((64,), 3), linear((3, 3), 2)])
def test_they_are_plain_data(net):
    assert jn.from_config(jn.to_config(net)) == net


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mlp((0,), 3), r"mlp: expected each size of input_shape to be a whole number"),
        (lambda: mlp((3,), 3, (4, 0)), r"expected each size to be a whole number"),
        (lambda: mlp((3,), 3, activation="rel"), r"expected .*relu.*, got 'rel'; did you mean"),
        (lambda: mlp((3,), 3, dropout=1.5), r"1\.5"),
        (lambda: cnn((10,), 3), r"cnn: expected images .*, got samples of shape \(10,\)"),
        (lambda: cnn((49,), 3), r"cnn: expected images"),
        (lambda: cnn((8, 8), 3), r"cnn: expected images"),
        (lambda: cnn((3, 8, 1), 3), r"expected images of 4 x 4 pixels or more .*got 3 x 8"),
        (lambda: cnn((8, 8, 1), 0), r"cnn: expected outputs"),
    ],
)
def test_what_they_refuse(make, message):
    with pytest.raises(jn.JaxNodesError, match=message):
        make()
