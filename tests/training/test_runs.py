"""`make_train`: a run as a pure function equals `fit`, alone and in numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnodes as jn
from jaxnodes import JaxNodesError
from tests.training.problems import blobs, classifier

OPTIONS = {
    "loss": jn.cross_entropy,
    "epochs": 3,
    "batch_size": 16,
    "metrics": {"accuracy": jn.accuracy},
}


def close(a, b, atol=2e-6):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol, rtol=1e-4), a, b)


def test_a_run_equals_fit():
    data, held_out = blobs(50), blobs(20, seed=3)
    net = classifier(0.3)
    train = jn.make_train(net, optimizer=jn.adam, validation=held_out, **OPTIONS)
    result = train(jax.random.key(4), data, 0.01)
    expected = jn.fit(
        net, data, key=jax.random.key(4), optimizer=jn.adam(0.01), validation=held_out, **OPTIONS
    )
    close(result.variables, expected.variables)
    close(result.history, expected.history)
    assert result.best_epoch == 2


def test_eight_keys_and_eight_rates_in_one_trace_equal_one_by_one():
    data, traces = blobs(50), []

    def counted(x):
        traces.append(x.shape)
        return jnp.tanh(x)

    net = jn.Sequential(jn.Dense(6), counted, jn.Dropout(0.1), jn.Dense(3))
    train = jn.make_train(net, optimizer=jn.adam, **OPTIONS)
    keys, rates = jax.random.split(jax.random.key(0), 8), jnp.logspace(-4, -1, 8)
    many = jax.jit(jax.vmap(train, in_axes=(0, None, 0)))
    results = many(keys, data, rates)
    assert results.history["loss"].shape == (8, 3)
    before = len(traces)
    many(keys, data, 2 * rates)
    assert len(traces) == before
    for i in range(8):
        alone = train(keys[i], data, rates[i])
        close(jax.tree.map(lambda leaf, i=i: leaf[i], results), alone, atol=1e-5)


def test_any_factory_of_an_optax_optimizer_serves():
    def factory(rate):
        return optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate))

    train = jn.make_train(classifier(), optimizer=factory, **OPTIONS)
    with jax.numpy_dtype_promotion("standard"):  # optax mixes floats and counts
        losses = train(jax.random.key(0), blobs(), 0.02).history["loss"]
    assert losses[-1] < losses[0]


def test_a_run_can_be_differentiated_for_its_rate():
    """The learning rate is an argument like any other."""
    net = jn.Sequential(jn.Dense(8, "tanh"), jn.Dense(3))  # smooth, for finite differences
    train = jn.make_train(net, optimizer=jn.sgd, **OPTIONS)

    def final_loss(rate):
        return train(jax.random.key(0), blobs(), rate).history["loss"][-1]

    step = 1e-3
    slope = (final_loss(0.02 + step) - final_loss(0.02 - step)) / (2 * step)
    np.testing.assert_allclose(jax.grad(final_loss)(0.02), slope, rtol=0.02)


def test_a_bad_label_shows_as_a_nan_loss():
    x, y = blobs(32)
    train = jax.jit(jn.make_train(classifier(), optimizer=jn.sgd, **OPTIONS))
    assert np.isnan(train(jax.random.key(0), (x, y.at[0].set(9)), 0.1).history["loss"]).all()


def test_options_are_checked_at_once():
    with pytest.raises(JaxNodesError, match="factory rate -> optimizer such as jn.adam"):
        jn.make_train(classifier(), optimizer=jn.adam(0.1), **OPTIONS)
    with pytest.raises(JaxNodesError, match="expected logits"):
        jn.make_train(jn.Dense(3, "softmax"), optimizer=jn.adam, **OPTIONS)
    train = jn.make_train(classifier(), optimizer=jn.adam, freeze="dense9", **OPTIONS)
    with pytest.raises(JaxNodesError, match="got 'dense9'"):
        train(jax.random.key(0), blobs(), 0.1)


def test_frozen_layers_keep_their_first_weights():
    net = classifier()
    train = jn.make_train(net, optimizer=jn.adam, freeze="dense1", **OPTIONS)
    result = train(jax.random.key(0), blobs(), 0.1)
    first, _ = net.init(jax.random.split(jax.random.key(0))[0], blobs()[0])
    close(result.variables[0]["dense1"], first["dense1"])
    assert not np.allclose(result.variables[0]["dense2"]["w"], first["dense2"]["w"])
