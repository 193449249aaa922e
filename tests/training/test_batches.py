"""Orders, weights and what may go to the device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnodes import JaxNodesError
from jaxnodes.training.batches import (
    count_samples,
    count_steps,
    epoch_order,
    filled,
    to_device,
    with_weights,
)


@pytest.mark.parametrize("n", [1, 5, 8, 9, 16])
@pytest.mark.parametrize("shuffle", [True, False])
def test_filled_order_meets_every_sample_once_at_weight_one(key, n, shuffle):
    order, weights = epoch_order(key, n, 8, shuffle=shuffle, ragged="fill")
    assert order.shape == weights.shape == (-(-n // 8), 8)
    kept = np.asarray(order)[np.asarray(weights) == 1]
    assert sorted(kept) == list(range(n))
    assert set(np.asarray(order).ravel()) <= set(range(n))  # what fills is real samples
    if not shuffle:
        assert list(kept) == list(range(n))


def test_dropped_order_has_whole_batches_of_distinct_samples(key):
    order, weights = epoch_order(key, 21, 8, shuffle=True, ragged="drop")
    assert order.shape == (2, 8)
    assert len(set(np.asarray(order).ravel())) == 16
    np.testing.assert_array_equal(weights, 1)


def test_shuffled_orders_are_uniform(key):
    """Each sample is in the first batch a fair share of the time (binomial, 5 sigma)."""
    draw = jax.vmap(lambda k: epoch_order(k, 12, 4, shuffle=True, ragged="fill")[0][0])
    first = np.asarray(draw(jax.random.split(key, 3000)))
    counts = np.bincount(first.ravel(), minlength=12)
    assert np.all(np.abs(counts - 1000) < 5 * np.sqrt(3000 * (1 / 3) * (2 / 3)))


def test_drop_refuses_less_than_one_batch():
    assert count_steps(8, 8, "drop", "fit") == 1
    with pytest.raises(JaxNodesError, match="at least one batch of 8 samples, got 7"):
        count_steps(7, 8, "drop", "fit")
    with pytest.raises(JaxNodesError, match="'fill' or 'drop'"):
        count_steps(8, 8, "pad", "fit")  # pyright: ignore[reportArgumentType]


def test_count_samples_refuses_unequal_and_empty():
    assert count_samples((jnp.ones((3, 2)), {"a": jnp.ones(3)}), "fit") == 3
    with pytest.raises(JaxNodesError, match="one length"):
        count_samples((jnp.ones((3, 2)), jnp.ones(4)), "fit")
    with pytest.raises(JaxNodesError, match="at least one sample"):
        count_samples((jnp.ones((0, 2)), jnp.ones(0)), "fit")
    with pytest.raises(JaxNodesError, match="one length"):
        count_samples((jnp.ones((3, 2)), jnp.float32(1)), "fit")


def test_to_device_cuts_no_whole_number_short():
    kept = to_device({"a": np.arange(3), "b": np.ones(2), "c": [True, False]})
    np.testing.assert_array_equal(kept["a"], [0, 1, 2])
    assert kept["b"].dtype == jnp.float32
    with pytest.raises(JaxNodesError, match=r"fit in int32.*8589934597"):
        to_device(np.array([2**33 + 5]))
    with pytest.raises(JaxNodesError, match="arrays of numbers"):
        to_device(np.array(["a"]))


def test_to_device_keeps_wide_numbers_under_x64(x64):
    kept = to_device((np.array([2**33 + 5]), np.array([0.1])))
    assert int(kept[0][0]) == 2**33 + 5
    assert kept[1].dtype == jnp.float64


def test_filled_repeats_real_rows():
    (x, y), weights = filled((np.arange(6).reshape(3, 2), np.arange(3)), 5, "fit")
    np.testing.assert_array_equal(y, [0, 1, 2, 0, 1])
    np.testing.assert_array_equal(x[:, 0], [0, 2, 4, 0, 2])
    np.testing.assert_array_equal(weights, [1, 1, 1, 0, 0])
    with pytest.raises(JaxNodesError, match="at most 2 samples, got 3"):
        filled((np.zeros((3, 1)), np.zeros(3)), 2, "fit")


def test_with_weights_takes_pairs_triples_and_data_sets():
    from jaxnodes.data import iris

    assert with_weights((1, 2)) == (1, 2, None)
    assert with_weights([1, 2, 3]) == (1, 2, 3)
    x, y, weights = with_weights(iris())
    assert x.shape == (150, 4)
    assert y.shape == (150,)
    assert weights is None
    with pytest.raises(JaxNodesError, match="got 4 parts"):
        with_weights((1, 2, 3, 4))
