"""Batches that come one by one train as arrays do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnodes as jn
from jaxnodes import JaxNodesError
from tests.training.problems import blobs, classifier


def batches(data, size):
    arrays = [np.asarray(a) for a in data]
    return [tuple(a[i : i + size] for a in arrays) for i in range(0, len(arrays[0]), size)]


def fitted(data, net=None, **options):
    options = {"epochs": 4, "batch_size": 16} | options
    return jn.fit(
        net or classifier(),
        data,
        key=jax.random.key(0),
        loss=jn.cross_entropy,
        optimizer=jn.adam(0.01),
        metrics={"accuracy": jn.accuracy},
        **options,
    )


@pytest.mark.parametrize("n", [48, 50])
def test_a_stream_trains_as_the_same_arrays_do(n):
    data, net = blobs(n), classifier(rate=0.3)
    whole = fitted(data, net, shuffle=False)
    for source in (batches(data, 16), lambda epoch: iter(batches(data, 16))):
        streamed = fitted(source, net)
        for name, values in whole.history.items():
            np.testing.assert_allclose(streamed.history[name], values, rtol=1e-5, err_msg=name)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
            streamed.variables,
            whole.variables,
        )


def test_each_epoch_may_bring_other_batches():
    data = blobs(32)
    seen = []

    def source(epoch):
        seen.append(epoch)
        return iter(batches(data, 16)[: 1 + epoch % 2])

    fitted(source, epochs=3)
    assert seen == [0, 0, 1, 2]  # once more at first, for the shapes


def test_short_batches_can_be_dropped_and_class_weights_count():
    x, y = blobs(40)
    dropped = fitted(batches((x, y), 16), ragged="drop")
    whole = fitted((x[:32], y[:32]), shuffle=False)
    np.testing.assert_allclose(dropped.history["loss"], whole.history["loss"], rtol=1e-5)
    weighted = fitted(batches((x, y), 16), class_weights=[1.0, 2.0, 0.5])
    by_arrays = fitted((x, y), class_weights=[1.0, 2.0, 0.5], shuffle=False)
    np.testing.assert_allclose(weighted.history["loss"], by_arrays.history["loss"], rtol=1e-5)


def test_bad_labels_are_found_in_any_batch():
    x, y = blobs(48)
    with pytest.raises(JaxNodesError, match="expected labels from 0 to 2, got 3"):
        fitted(batches((x, y.at[40].set(3)), 16))


def test_a_batch_that_weighs_nothing_is_passed_over():
    x, y = blobs(48)
    weights = jnp.ones(48).at[16:32].set(0)
    streamed = fitted(batches((x, y, weights), 16))
    whole = fitted((x, y, weights), shuffle=False)
    np.testing.assert_allclose(streamed.history["loss"], whole.history["loss"], rtol=1e-5)


def test_what_is_no_stream_is_refused():
    with pytest.raises(JaxNodesError, match="an iterator"):
        fitted(iter(batches(blobs(), 16)))
    with pytest.raises(JaxNodesError, match="at least one batch"):
        fitted([])
    with pytest.raises(JaxNodesError, match="an iterable of such batches"):
        fitted(3)
    x, y = blobs(32)
    with pytest.raises(JaxNodesError, match="at most 16 samples, got 32"):
        fitted([(x[:16], y[:16]), (x, y)])
    assert jnp.ndim(x) == 2
