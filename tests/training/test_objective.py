"""How losses and metrics are called, and the endings that `fit` refuses."""

import functools

import flax.linen
import flax.nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnodes as jn
from jaxnodes import JaxNodesError
from jaxnodes.training.objective import (
    as_network,
    check_ending,
    check_measures,
    measure,
    weighted_loss,
)


def per_sample(predictions, targets):
    return jnp.sum((predictions - targets) ** 2, axis=-1)


def test_a_loss_of_one_value_a_sample_is_averaged_with_weights():
    p, t = jnp.array([[1.0], [2.0], [5.0]]), jnp.zeros((3, 1))
    weights = jnp.array([1.0, 1.0, 0.0])
    assert weighted_loss(per_sample, p, t, None, True) == 10.0
    assert weighted_loss(per_sample, p, t, weights, True) == 2.5
    assert weighted_loss(jn.mse, p, t, weights, True) == 2.5


def test_a_loss_that_only_returns_a_mean_is_refused_with_weights():
    def mean(p, t):
        return jnp.mean((p - t) ** 2)

    p = t = jnp.zeros((3, 1))
    assert weighted_loss(mean, p, t, None, True) == 0
    with pytest.raises(JaxNodesError, match="mean to take weights= or to return one value"):
        weighted_loss(mean, p, t, jnp.ones(3), True)


def test_from_logits_reaches_losses_and_metrics_that_know_it():
    p, labels = jnp.array([[0.9, 0.1], [0.2, 0.8]]), jnp.array([0, 1])
    value = weighted_loss(jn.cross_entropy, p, labels, None, False)
    np.testing.assert_allclose(value, -np.mean(np.log([0.9, 0.8])), rtol=1e-6)
    assert measure(jn.accuracy, p, labels, False) == 1.0
    assert weighted_loss(jn.mse, p, p, None, False) == 0  # for a metric alone
    net = jn.Dense(1, "sigmoid")
    check_measures(net, jn.mse, {"accuracy": jn.binary_accuracy}, False, "fit")
    with pytest.raises(JaxNodesError, match="takes from_logits= .* got mse, mae"):
        check_measures(net, jn.mse, {"error": jn.mae}, False, "fit")


def test_a_metric_of_one_value_a_sample_is_averaged():
    p, t = jnp.array([1, 2, 3, 4]), jnp.array([1, 2, 0, 0])
    assert measure(jnp.equal, p, t, True) == 0.5
    with pytest.raises(JaxNodesError, match="scalar or one value a sample"):
        measure(lambda p, t: p[None] * t, jnp.ones(2), jnp.ones(2), True)


endings = {
    "dense": jn.Sequential(jn.Dense(4), out=jn.Dense(2, "softmax")),
    "lifted": jn.Sequential(jn.Dense(2), jn.softmax),
    "nested": jn.Sequential(jn.Sequential(jn.Dense(2), jax.nn.sigmoid)),
    "alone": jn.Dense(2, jn.softmax),
    "partial": jn.Dense(2, functools.partial(jax.nn.softmax, axis=-1)),
    "then as it is": jn.Sequential(
        *(jn.Dense(2, "softmax"), jn.Dropout(0.1), jn.Flatten(), jn.Reshape((2,)), jn.identity)
    ),
    "bounded": jn.bounded_head(0, 1),
    "repeated": jn.Repeat(jn.Dense(2, "softmax"), 2),
    "beside": jn.Sequential(jn.Parallel(jn.Dense(1), jn.Dense(1, "sigmoid"))),
}


@pytest.mark.parametrize("net", endings.values(), ids=endings)
def test_probabilities_meet_no_loss_on_logits(net):
    for loss in (jn.cross_entropy, functools.partial(jn.cross_entropy, label_smoothing=0.1)):
        with pytest.raises(JaxNodesError, match="expected logits for cross_entropy, but .* ends"):
            check_ending(net, loss, True, "fit")
        check_ending(net, loss, False, "fit")
    check_ending(net, functools.partial(jn.cross_entropy, from_logits=False), True, "fit")
    check_ending(net, jn.mse, True, "fit")


def test_probabilities_meet_no_metric_on_logits():
    net = jn.Dense(1, "sigmoid")
    with pytest.raises(JaxNodesError, match="expected logits for binary_accuracy, but .* sigmoid"):
        check_measures(net, jn.mse, {"accuracy": jn.binary_accuracy}, True, "fit")
    for options in ({"threshold": 0.5}, {"from_logits": False}):
        metric = functools.partial(jn.binary_accuracy, **options)
        check_measures(net, jn.mse, {"accuracy": metric}, True, "fit")


@pytest.mark.parametrize(
    ("loss", "metrics", "problem"),
    [
        ("mse", {}, r"expected loss\(predictions, targets\), got 'mse'"),
        (jn.mse, [jn.mae], r"expected metrics \{name: metric"),
        (jn.mse, {"error": "mae"}, r"expected metrics \{name: metric"),
        (jn.mse, {"loss": jn.mae}, r"other names for metrics than \['loss'\]"),
        (jn.mse, {"val_error": jn.mae}, r"other names for metrics than \['val_error'\]"),
    ],
)
def test_what_is_no_measure_is_refused(loss, metrics, problem):
    with pytest.raises(JaxNodesError, match=problem):
        check_measures(jn.Dense(1), loss, metrics, True, "fit")


def test_logits_meet_no_loss_on_probabilities():
    net = jn.Sequential(jn.Dense(2))
    check_ending(net, jn.cross_entropy, True, "fit")
    with pytest.raises(JaxNodesError, match="dense1 ends without a softmax"):
        check_ending(net, jn.cross_entropy, False, "fit")


@pytest.mark.parametrize(
    "module", [flax.linen.Dense(3), flax.nnx.Linear(2, 3, rngs=flax.nnx.Rngs(0))]
)
def test_modules_of_flax_are_refused_with_the_advice_to_wrap_them(module):
    with pytest.raises(JaxNodesError, match=r"flax module .* wrap it: jn.from_functions"):
        as_network(module, "fit")


def test_other_objects_are_refused():
    with pytest.raises(JaxNodesError, match="init.*apply"):
        as_network(lambda x: x, "fit")
    with pytest.raises(JaxNodesError, match="init.*apply"):
        as_network(jn.Dense, "fit")


def test_an_unhashable_network_is_refused():
    class Listed:
        __hash__ = None  # pyright: ignore[reportAssignmentType]

        def init(self, key, x):
            return {}, {}

        def apply(self, params, state, x, *, key=None, training=False):
            return x, state

    with pytest.raises(JaxNodesError, match="hashable network, got Listed"):
        as_network(Listed(), "fit")
