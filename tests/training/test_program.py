"""One epoch and one evaluation against loops written out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnodes as jn
from jaxnodes import JaxNodesError
from jaxnodes.training.batches import epoch_order
from jaxnodes.training.program import (
    Recipe,
    TrainState,
    check_freeze,
    run_epoch,
    run_predict,
    sample_weights,
)
from tests.training.problems import blobs, classifier, line


def started(net, x, optimizer, seed=0):
    params, state = net.init(jax.random.key(seed), x)
    return TrainState(params, state, optimizer.init(params))


@pytest.mark.parametrize("n", [16, 19])
@pytest.mark.parametrize("make", [jn.adam, optax.adam], ids=["ours", "optax"])
def test_an_epoch_equals_a_loop_of_optax_steps(key, n, make):
    """Each batch's loss is the mean over its real samples, whatever fills the last one."""
    x, y = blobs(n)
    net, optimizer = classifier(), make(0.01)
    recipe = Recipe(net=net, loss=jn.cross_entropy, update=optimizer.update, batch_size=8)
    with jax.numpy_dtype_promotion("standard"):  # optax mixes floats and counts
        after, measures = run_epoch(recipe, started(net, x, optimizer), (x, y, None), key)

    reference = optax.adam(0.01)
    params, state = net.init(jax.random.key(0), x)
    opt_state = reference.init(params)
    order, weights = epoch_order(jax.random.split(key)[0], n, 8, shuffle=True, ragged="fill")
    total = 0.0
    for indices, kept in zip(order, np.asarray(weights) == 1, strict=True):
        batch = indices[kept]

        def loss(params, batch=batch):
            logits = net.apply(params, state, x[batch], training=True, key=key)[0]
            return optax.softmax_cross_entropy_with_integer_labels(logits, y[batch]).mean()

        value, grads = jax.value_and_grad(loss)(params)
        total += float(value) * len(batch)
        with jax.numpy_dtype_promotion("standard"):
            updates, opt_state = reference.update(grads, opt_state, params)
        params = optax.apply_updates(params, updates)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), after.params, params)
    np.testing.assert_allclose(measures["loss"], total / n, rtol=1e-5)


def test_batch_norm_sees_real_samples_in_the_last_batch(key):
    """A batch filled with zeros would pull the running mean of all-ones inputs below one."""
    x, y = jnp.ones((5, 2)), jnp.zeros((5, 1))
    net = jn.Sequential(jn.BatchNorm(momentum=1.0), jn.Dense(1))
    optimizer = jn.sgd(0.0)
    recipe = Recipe(net=net, loss=jn.mse, update=optimizer.update, batch_size=4)
    after, _ = run_epoch(recipe, started(net, x, optimizer), (x, y, None), key)
    np.testing.assert_allclose(after.state["batch_norm1"]["mean"], 1.0)


def test_metrics_are_of_all_predictions_at_once_not_a_mean_of_batches(key):
    x, y = blobs(19)
    net, optimizer = classifier(), jn.sgd(0.0)  # nothing learned: predictions stay the same

    def worst(logits, labels):
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return jnp.max(losses)

    recipe = Recipe(
        net=net,
        loss=jn.cross_entropy,
        update=optimizer.update,
        batch_size=8,
        metrics=(("worst", worst), ("accuracy", jn.accuracy)),
    )
    start = started(net, x, optimizer)
    _, measures = run_epoch(recipe, start, (x, y, None), key)
    logits = net.predict((start.params, start.state), x)
    np.testing.assert_allclose(measures["worst"], worst(logits, y), rtol=1e-5)
    np.testing.assert_allclose(measures["accuracy"], np.mean(np.argmax(logits, 1) == y), rtol=1e-6)


def test_sample_weights_multiply_class_weights():
    y = jnp.array([0, 2, 1])
    np.testing.assert_allclose(
        sample_weights(y, None, [1.0, 2.0, 4.0], jn.cross_entropy, None), [1, 4, 2]
    )
    one_hot = jax.nn.one_hot(y, 3)
    np.testing.assert_allclose(
        sample_weights(one_hot, None, [1.0, 2.0, 4.0], jn.cross_entropy, None), [1, 4, 2]
    )
    weights = jnp.array([1.0, 0.5, 0.0])
    np.testing.assert_allclose(
        sample_weights(y, weights, [1.0, 2.0, 4.0], jn.cross_entropy, None), [1, 2, 0]
    )
    steps = jnp.array([[0, 1], [2, 2], [1, 0]])
    np.testing.assert_allclose(
        sample_weights(steps, weights, [1.0, 2.0, 4.0], jn.cross_entropy, None),
        [[1, 2], [2, 2], [0, 0]],
    )
    assert sample_weights(y, None, None, jn.cross_entropy, None) is None
    with pytest.raises(JaxNodesError, match="one weight a class"):
        sample_weights(y, None, jnp.ones((2, 2)), jn.cross_entropy, None)


@pytest.mark.parametrize("batch_size", [3, 7, 10, 64])
def test_prediction_in_batches_equals_all_at_once(key, batch_size):
    x, _ = blobs(10)
    net = jn.Sequential(jn.Dense(5, "tanh"), jn.BatchNorm(), jn.Dense(2))
    variables = net.init(key, x)
    made = run_predict(net, variables, x, batch_size)
    np.testing.assert_allclose(made, net.predict(variables, x), rtol=1e-5, atol=1e-6)


def test_make_step_trains_any_model_on_any_objective():
    """A model of plain functions, with an auxiliary output; the answer is known."""
    x, y = line()
    optimizer = optax.chain(optax.clip_by_global_norm(10.0), jn.sgd(0.3))

    def objective(params, state, batch, key):
        x, y = batch
        predictions = jn.dense(params, x)
        return jn.mse(predictions, y), ({"seen": state["seen"] + len(x)}, predictions)

    params = jn.dense_init(jax.random.key(0), 2, 1)
    carry = TrainState(params, {"seen": jnp.int32(0)}, optimizer.init(params))
    step = jn.make_step(objective, optimizer)
    for i in range(100):
        carry, (_, aux) = step(carry, (x, y), jax.random.key(i))
    np.testing.assert_allclose(carry.params["w"], [[2], [-3]], atol=1e-4)
    np.testing.assert_allclose(carry.params["b"], [1], atol=1e-4)
    assert carry.state["seen"] == 4000
    assert aux.shape == y.shape


def test_frozen_parameters_stay_and_get_no_weight_decay(key):
    x, y = blobs(16)
    net = jn.Sequential(jn.Dense(8, "relu"), jn.Dense(8, "relu"), jn.Dense(3))
    optimizer = jn.adamw(0.1, weight_decay=0.1)
    recipe = Recipe(
        net=net,
        loss=jn.cross_entropy,
        update=optimizer.update,
        batch_size=8,
        freeze=("dense1", "*2/w"),
    )
    start = started(net, x, optimizer)
    after, _ = run_epoch(recipe, start, (x, y, None), key)
    same = jax.tree.map(lambda a, b: bool(jnp.all(a == b)), start.params, after.params)
    assert same == {
        "dense1": {"w": True, "b": True},
        "dense2": {"w": True, "b": False},
        "dense3": {"w": False, "b": False},
    }


def test_freeze_names_what_there_is():
    params = {"dense1": {"w": jnp.ones(2)}, "dense2": {"w": jnp.ones(2)}}
    check_freeze(params, ("dense1",))
    with pytest.raises(JaxNodesError, match=r"dense1/w, dense2/w\), got 'dense3'"):
        check_freeze(params, ("dense3",))
    with pytest.raises(JaxNodesError, match="all of them frozen"):
        check_freeze(params, ("dense*",))
