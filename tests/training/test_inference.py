"""`predict` and `evaluate` on many samples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import accuracy_score, log_loss

import jaxnodes as jn
from jaxnodes import JaxNodesError
from tests.training.problems import blobs, classifier


@pytest.fixture
def trained(key):
    x, y = blobs(70)
    return classifier(0.5), classifier(0.5).init(key, x), x, y


@pytest.mark.parametrize("batch_size", [1, 32, 70, 1000])
def test_measures_are_of_all_samples_at_once(trained, batch_size):
    net, variables, x, y = trained
    measured = jn.evaluate(
        net,
        variables,
        (x, y),
        loss=jn.cross_entropy,
        metrics={"accuracy": jn.accuracy},
        batch_size=batch_size,
    )
    p = jax.nn.softmax(net.predict(variables, x))
    np.testing.assert_allclose(measured["loss"], log_loss(y, p), rtol=1e-5)
    assert measured["accuracy"] == pytest.approx(accuracy_score(y, jnp.argmax(p, 1)))
    assert all(isinstance(value, float) for value in measured.values())


def test_weights_count_for_the_loss(trained):
    net, variables, x, y = trained
    weights = jnp.arange(70.0)
    measured = jn.evaluate(net, variables, (x, y, weights), loss=jn.cross_entropy)
    p = jax.nn.softmax(net.predict(variables, x))
    np.testing.assert_allclose(measured["loss"], log_loss(y, p, sample_weight=weights), rtol=1e-5)


def test_predict_refuses_ids_out_of_range():
    net = jn.Sequential(jn.Embedding(5, 3), jn.Flatten(), jn.Dense(2))
    variables = net.init(jax.random.key(0), jnp.array([[0]]))
    assert jnp.isfinite(jn.predict(net, variables, np.array([[4], [0]]))).all()
    with pytest.raises(JaxNodesError, match="embedding1: expected ids from 0 to 4, got -1"):
        jn.predict(net, variables, np.array([[4], [-1], [3]]))


def test_predict_keeps_the_order_and_takes_numpy(trained):
    net, variables, x, _ = trained
    made = jn.predict(net, variables, np.asarray(x, np.float64), batch_size=8)
    np.testing.assert_allclose(made, net.predict(variables, x), rtol=1e-5, atol=1e-6)


def test_wrong_options_are_refused(trained):
    net, variables, x, y = trained
    with pytest.raises(JaxNodesError, match="batch_size to be a whole number"):
        jn.predict(net, variables, x, batch_size=0)
    with pytest.raises(JaxNodesError, match="one length"):
        jn.evaluate(net, variables, (x, y[:-1]), loss=jn.cross_entropy)
    with pytest.raises(JaxNodesError, match="at least one sample"):
        jn.predict(net, variables, x[:0])
