"""The order of samples: its equation in NumPy, and what one asks of a shuffle."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxnodes.training.shuffling import shuffled


def many(n, count, seed=0):
    """Orders of keys that follow each other, as those of a run's epochs do."""
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), jnp.arange(count))
    return np.asarray(jax.jit(jax.vmap(lambda key: shuffled(key, n)))(keys))


def chance(counts):
    """The chance of counts as uneven as these, were all equally likely."""
    return stats.chisquare(np.ravel(counts)).pvalue


def mix(h):
    h = ((h ^ (h >> 16)) * 0x21F0AAAD) % 2**32
    h = ((h ^ (h >> 15)) * 0xD35A2D97) % 2**32
    return h ^ (h >> 15)


@pytest.mark.parametrize("n", [1, 2, 3, 10, 100])
def test_is_its_equation(key, n):
    order = list(range(n))
    words = jax.random.bits(key, (6 * math.ceil(math.log2(n)), 2), jnp.uint32).tolist()
    for k, s in words:
        for place, i in enumerate(order):
            j = (k - i) % n
            hashed = mix((mix((max(i, j) * 0x9E3779B9 + s) % 2**32) + k) % 2**32)
            order[place] = j if hashed >> 31 else i
    np.testing.assert_array_equal(shuffled(key, n), order)


@pytest.mark.parametrize("n", [1, 2, 7, 64, 257, 1797, 4096])
def test_every_number_once(key, n):
    order = jax.jit(shuffled, static_argnums=1)(key, n)
    assert order.dtype == jnp.int32
    np.testing.assert_array_equal(np.sort(order), np.arange(n))


@pytest.mark.parametrize("n", [2, 3, 4, 5, 6])
def test_all_orders_are_equally_likely(n):
    numbers = {order: i for i, order in enumerate(itertools.permutations(range(n)))}
    drawn = many(n, 100 * len(numbers), seed=n)
    counts = np.bincount([numbers[tuple(order)] for order in drawn.tolist()])
    assert len(counts) == math.factorial(n)
    assert chance(counts) > 1e-3


def test_every_number_is_at_every_place_as_often():
    n, drawn = 61, many(61, 20_000)
    counts = [np.bincount(drawn[:, place], minlength=n) for place in range(n)]
    # The counts of a place add up, and so do those of a number: fewer degrees of freedom.
    statistic = ((np.array(counts) - 20_000 / n) ** 2).sum() / (20_000 / n)
    assert 1e-3 < stats.chi2((n - 1) ** 2).sf(statistic) < 1 - 1e-3


@pytest.mark.parametrize("apart", [1, 2, 30])
def test_neighbors_are_any_two(apart):
    n, drawn = 61, many(61, 20_000, seed=1)
    steps = (drawn[:, apart:] - drawn[:, :-apart]) % n
    assert chance(np.bincount(steps[:, 0], minlength=n)[1:]) > 1e-3
    assert chance(np.bincount(steps[:, 17], minlength=n)[1:]) > 1e-3


def test_epochs_know_nothing_of_each_other():
    drawn = many(16, 40_000, seed=2)
    pairs = drawn[:-1:2, 3] * 16 + drawn[1::2, 3]
    assert chance(np.bincount(pairs, minlength=256)) > 1e-3


def test_as_many_stay_and_follow_as_by_chance():
    n, drawn = 1797, many(1797, 2000, seed=3)
    stay = (drawn == np.arange(n)).sum()
    follow = (np.diff(drawn) == 1).sum()
    for count in (stay, follow):  # Poisson of mean 2,000 each, 5 sigma
        assert abs(count - 2000) < 5 * math.sqrt(2000)
