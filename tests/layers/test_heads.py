import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

import jaxnodes as jn
from tests.layers.agreement import draw

X = draw((5, 4), jnp.float32)


def predict(layer, key):
    """The layer's output, and the weighted sums of its `Dense` by hand."""
    variables = layer.init(key, X)
    params = variables[0].get("dense1", variables[0])
    return np.asarray(layer.predict(variables, X)), np.asarray(X) @ params["w"]


@pytest.mark.parametrize(
    ("make", "outputs", "activation"),
    [
        (lambda **k: jn.multiclass_head(3, **k), 3, lambda z: scipy.special.softmax(z, axis=-1)),
        (jn.two_class_head, 2, lambda z: scipy.special.softmax(z, axis=-1)),
        (jn.binary_head, 1, scipy.special.expit),
    ],
)
def test_classification_heads_end_in_logits_or_probabilities(make, outputs, activation, key):
    y, z = predict(make(), key)
    assert y.shape == (5, outputs)
    np.testing.assert_allclose(y, z, rtol=1e-5, atol=1e-6)
    y, z = predict(make(as_probabilities=True), key)
    np.testing.assert_allclose(y, activation(z), rtol=1e-5)


def test_two_softmax_nodes_are_one_sigmoid_node_of_their_difference(key):
    y, z = predict(jn.two_class_head(as_probabilities=True), key)
    np.testing.assert_allclose(y[:, 1], scipy.special.expit(z[:, 1] - z[:, 0]), rtol=1e-5)


def test_a_regression_head_is_linear(key):
    y, z = predict(jn.regression_head(2), key)
    np.testing.assert_allclose(y, z, rtol=1e-5, atol=1e-6)
    assert predict(jn.regression_head(), key)[0].shape == (5, 1)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-1, 1), (-3, 40.5)])
def test_a_bounded_head_stretches_its_activation_to_the_bounds(low, high, key):
    y, z = predict(jn.bounded_head(low, high, 2), key)
    np.testing.assert_allclose(y, low + (high - low) * scipy.special.expit(z), rtol=1e-4)
    y, z = predict(jn.bounded_head(low, high, activation="tanh"), key)
    np.testing.assert_allclose(y, low + (high - low) * (np.tanh(z) + 1) / 2, rtol=1e-4)


@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
def test_a_bounded_head_stays_within_its_bounds(activation):
    layer = jn.bounded_head(2.0, 5.0, activation=activation)
    variables = ({"dense1": {"w": jnp.ones((1, 1)), "b": jnp.zeros(1)}}, {})
    y = layer.predict(variables, jnp.array([[-1e9], [0.0], [1e9]]))
    np.testing.assert_allclose(y[:, 0], [2.0, 3.5, 5.0])


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: jn.multiclass_head(1), "classes to be a whole number of at least 2, got 1"),
        (lambda: jn.multiclass_head(2.5), "classes to be a whole number"),
        (lambda: jn.regression_head(0), "outputs to be a whole number of at least 1"),
        (lambda: jn.bounded_head(1, 1), "low < high, got 1 and 1"),
        (lambda: jn.bounded_head(0, float("inf")), "high to be a finite number"),
        (lambda: jn.bounded_head("0", 1), "low to be a finite number"),
        (lambda: jn.bounded_head(0, 1, 0), "outputs to be a whole number"),
        (lambda: jn.bounded_head(0, 1, activation="relu"), r"an activation \(sigmoid, tanh\)"),
        (lambda: jn.Rescale(float("nan")), "scale to be a finite number"),
        (lambda: jn.binary_head(w_init="huge"), "name of an initializer"),
        (lambda: jn.fully_connected([3]), "sizes of the input, the hidden layers and the output"),
        (lambda: jn.fully_connected("32"), "sizes of the input"),
        (lambda: jn.fully_connected([3, 0, 2]), "each size to be a whole number"),
        (lambda: jn.fully_connected([3, 2, 2], "rely"), "did you mean 'relu'"),
        (lambda: jn.fully_connected([3, 2, 2], dropout=1.0), r"a rate to drop in \[0, 1\)"),
    ],
)
def test_wrong_arguments_are_refused(make, problem):
    with pytest.raises(jn.JaxNodesError, match=problem):
        make()


def test_the_guides_classifier_has_235146_parameters(key):
    """784*256 + 256*128 + 128*10 = 234,752 weights and 394 biases."""
    net = jn.fully_connected([784, 256, 128, 10])
    params, state = jax.eval_shape(net.init, key, jnp.ones((1, 784)))
    assert sum(p["w"].size for p in params.values()) == 234_752
    assert sum(p["b"].size for p in params.values()) == 394
    assert state == {}


def test_fully_connected_by_hand(key):
    net = jn.fully_connected([4, 3, 5, 2], "tanh", "softmax")
    params, state = net.init(key, X)
    h = np.asarray(X)
    for name in ("dense1", "dense2"):
        h = np.tanh(h @ params[name]["w"] + params[name]["b"])
    expected = scipy.special.softmax(h @ params["dense3"]["w"] + params["dense3"]["b"], axis=-1)
    np.testing.assert_allclose(net.predict((params, state), X), expected, rtol=1e-5)
    assert list(params) == ["dense1", "dense2", "dense3"]


def test_fully_connected_without_hidden_layers_is_linear(key):
    net = jn.fully_connected([4, 2])
    variables = net.init(key, X)
    expected = jn.dense(variables[0]["dense1"], X)
    np.testing.assert_array_equal(net.predict(variables, X), expected)


def test_fully_connected_takes_its_options(key):
    net = jn.fully_connected([4, 3, 2], "elu", dropout=0.3, w_init="xavier_uniform")
    assert net == jn.Sequential(
        jn.Dense(3, jn.elu, in_features=4, w_init=jn.xavier_uniform),
        jn.Dropout(0.3),
        jn.Dense(2, in_features=3, w_init=jn.xavier_uniform),
    )
    plain = jn.fully_connected([4, 3, 2], "elu", w_init="xavier_uniform")
    jax.tree.map(np.testing.assert_array_equal, net.init(key, X), plain.init(key, X))


def test_fully_connected_refuses_inputs_of_another_size(key):
    net = jn.fully_connected([5, 3, 2])
    with pytest.raises(jn.JaxNodesError, match=r"^dense1: expected 5 features .* got 4 .*\(5, 4\)"):
        net.init(key, X)
    params, state = net.init(key, jnp.ones((1, 5)))
    with pytest.raises(jn.JaxNodesError, match=r"^dense1: expected 5 features .* got 4"):
        net.predict((params, state), X)
    params["dense1"]["w"] = params["dense1"]["w"][:4]
    with pytest.raises(jn.JaxNodesError, match=r"^dense1: expected 'w' of shape \(5, 3\), got"):
        net.predict((params, state), X)


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.int32, jnp.bfloat16, jnp.float32])
def test_rescale(dtype):
    y = jn.Rescale(0.5, 1.0).predict(({}, {}), jnp.array([0, 2, 200], dtype))
    np.testing.assert_array_equal(y, [1, 2, 101])
    assert y.dtype == (dtype if dtype == jnp.bfloat16 else jnp.float32)
