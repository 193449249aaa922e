"""The numbers that guides, introductions to what a single node does, give, item by item."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnodes as jn


def test_a_single_node_is_a_weighted_sum_and_an_activation(key):
    """z = 0.5 * 2 + -1 * 1 + 0.25 = 0.25; its gradient by hand equals jax.grad's."""
    params = {"w": jnp.array([0.5, -1.0]), "b": jnp.array(0.25)}
    x, target = jnp.array([2.0, 1.0]), 1.0
    a = jn.neuron(params, x, jn.sigmoid)
    np.testing.assert_allclose(a, 1 / (1 + np.exp(-0.25)), rtol=1e-6)
    grads = jax.grad(lambda p: (jn.neuron(p, x, jn.sigmoid) - target) ** 2)(params)
    delta = 2 * (a - target) * a * (1 - a)
    np.testing.assert_allclose(grads["w"], delta * x, rtol=1e-5)
    np.testing.assert_allclose(grads["b"], delta, rtol=1e-5)


def test_the_three_layer_classifier_has_1178_nodes_and_235146_parameters(key):
    net = jn.Sequential(
        jn.Dense(256, jn.relu),
        jn.Dropout(0.5),
        jn.Dense(128, jn.relu),
        jn.Dropout(0.5),
        jn.Dense(10),
    )
    x = jax.ShapeDtypeStruct((64, 784), jnp.float32)
    params, state = net.init(key, x)
    assert state == {}
    sites = jn.node_sites(net.predict, (params, state), x)
    assert [(site.name, site.size) for site in sites] == [
        ("dense1", 256),
        ("dense2", 128),
        ("dense3", 10),
    ]
    assert 784 + sum(site.size for site in sites) == 1178
    weights = sum(layer["w"].size for layer in params.values())
    assert weights == 784 * 256 + 256 * 128 + 128 * 10 == 234_752
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 235_146


def test_fully_connected_shows_the_activations_of_every_layer(key):
    net = jn.fully_connected([784, 256, 128, 10], output="softmax")
    x = jax.random.uniform(key, (5, 784))
    variables = net.init(key, x)
    y, nodes = jn.record(net.predict)(variables, x)
    assert {name: value.shape for name, value in nodes.items()} == {
        "dense1": (5, 256),
        "dense2": (5, 128),
        "dense3": (5, 10),
    }
    assert np.all(nodes["dense1"] >= 0)
    np.testing.assert_allclose(np.sum(y, axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(nodes["dense3"], y)


def test_the_digit_readers_step_in_matrix_form(key):
    """784-16-16-10: a' = sigma(W a + b), written out in NumPy."""
    net = jn.fully_connected([784, 16, 16, 10], activation="sigmoid", output="sigmoid")
    x = jax.random.uniform(key, (3, 784))
    variables = net.init(key, x)
    a = np.asarray(x)
    _, nodes = jn.record(net.predict)(variables, x)
    for name in ("dense1", "dense2", "dense3"):
        layer = variables[0][name]
        a = 1 / (1 + np.exp(-(a @ np.asarray(layer["w"]) + np.asarray(layer["b"]))))
        np.testing.assert_allclose(nodes[name], a, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("bias", "answers"), [(-2, [0, 0, 2]), (0, [0, 2, 4]), (2, [0, 4, 6])])
def test_a_bias_shifts_the_activation(bias, answers):
    params = {"w": jnp.array([2.0]), "b": jnp.array(float(bias))}
    x = jnp.array([[-1.0], [1.0], [2.0]])
    np.testing.assert_array_equal(jn.neuron(params, x, jn.relu), answers)


@pytest.mark.parametrize(
    ("rate", "grows"), [(1.1, True), (0.1, False), (1e-4, False)], ids=["large", "right", "small"]
)
def test_a_rate_too_large_diverges_and_too_small_crawls(rate, grows):
    """Descent on p^2 multiplies p by 1 - 2 rate."""
    optimizer, p = jn.sgd(rate), jnp.array(1.0)
    state = optimizer.init(p)
    for _ in range(20):
        updates, state = optimizer.update(jax.grad(lambda p: p**2)(p), state, p)
        p = p + updates
    np.testing.assert_allclose(p, (1 - 2 * rate) ** 20, rtol=1e-4)
    assert (abs(p) > 1) == grows


def test_the_and_gate_learns_with_the_guides_settings():
    """2-3-1 sigmoid, MSE, rate 0.1, 10,000 full-batch steps, in one compiled program."""
    x = jnp.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    y = jnp.array([[0.0], [0.0], [0.0], [1.0]])
    net = jn.Sequential(jn.Dense(3, "sigmoid"), jn.Dense(1, "sigmoid"))
    train = jn.make_train(
        net, loss=jn.mse, optimizer=jn.sgd, epochs=10_000, batch_size=4, shuffle=False
    )
    result = train(jax.random.key(0), (x, y), 0.1)
    made = net.predict(result.variables, x)
    np.testing.assert_array_equal(made > 0.5, y == 1)
    losses = result.history["loss"][::1000]
    assert np.all(np.diff(losses) < 0)


def test_logistic_regression_is_a_one_layer_network():
    from sklearn.linear_model import LogisticRegression

    data = jn.data.breast_cancer()
    x = ((data.x - data.x.mean(0)) / data.x.std(0))[:, [1, 4, 8]]  # three that differ much
    exact = LogisticRegression(C=1e8, max_iter=5000).fit(x, data.y)
    net = jn.binary_head()
    result = jn.fit(
        net,
        (x, data.y[:, None]),
        key=jax.random.key(0),
        loss=jn.binary_cross_entropy,
        optimizer=jn.momentum(1.0),
        epochs=300,
        batch_size=len(x),
    )
    p = jn.sigmoid(jn.predict(net, result.variables, x))[:, 0]
    np.testing.assert_allclose(p, exact.predict_proba(x)[:, 1], atol=0.01)
