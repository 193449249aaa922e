"""The numbers behind dropout: those of the equation, and as random as tests can tell."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxnodes.layers.random_bits import uniform


def by_the_equation(words, size):
    def mix(h):
        h ^= h >> 16
        h = h * 0x21F0AAAD & mask
        h ^= h >> 15
        h = h * 0xD35A2D97 & mask
        return h ^ h >> 15

    mask = 2**32 - 1
    numbers = []
    for i in range(size):
        h = 0x9E3779B9 * i & mask
        for word in map(int, words):
            h = mix(h + word & mask)
        numbers.append((mix(h) >> 8) / 2**24)
    return np.array(numbers)


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_equals_the_equation(impl):
    key = jax.random.key(7, impl=impl)
    expected = by_the_equation(jax.random.key_data(key), 60)
    np.testing.assert_array_equal(uniform(key, (60,)), expected)
    np.testing.assert_array_equal(uniform(key, (3, 1, 20)).ravel(), expected)
    assert uniform(key, ()) == expected[0]


def test_jit_scan_and_vmap_give_the_same_numbers(key):
    keys = jax.random.split(key, 5)
    one_by_one = np.stack([uniform(k, (4, 6)) for k in keys])
    np.testing.assert_array_equal(
        jax.jit(uniform, static_argnums=1)(keys[0], (4, 6)), one_by_one[0]
    )
    np.testing.assert_array_equal(jax.vmap(lambda k: uniform(k, (4, 6)))(keys), one_by_one)
    np.testing.assert_array_equal(jax.lax.map(lambda k: uniform(k, (4, 6)), keys), one_by_one)


@pytest.mark.parametrize("bits", [slice(0, 8), slice(8, 16), slice(16, 24)])
def test_each_byte_is_uniform(bits, key):
    """Chi-square of 2**20 numbers of one key, and of 2**20 first numbers of as many keys."""
    of_keys = jax.jit(jax.vmap(lambda k: uniform(k, ())))(jax.random.split(key, 2**20))
    for numbers in (uniform(key, (2**20,)), of_keys):
        whole = (np.asarray(numbers, np.float64) * 2**24).astype(np.int64)
        byte = whole >> bits.start & 255
        assert 0.001 < stats.chisquare(np.bincount(byte, minlength=256)).pvalue < 0.999


@pytest.mark.parametrize("lag", [1, 2, 3, 10, 64, 256, 784, 1024, 2**15])
def test_numbers_at_a_distance_are_independent(lag, key):
    """Chi-square of the pairs in a table of 32 x 32."""
    numbers = np.asarray(uniform(key, (2**19,)))
    pairs = (numbers[:-lag] * 32).astype(int) * 32 + (numbers[lag:] * 32).astype(int)
    assert 0.0005 < stats.chisquare(np.bincount(pairs, minlength=1024)).pvalue < 0.9995


def test_masks_of_related_keys_are_independent(key):
    """Keys of successive steps (fold_in), of one split, and that differ in a single bit."""
    folded = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(16))
    data = jax.random.key_data(key)
    flipped = [
        data.at[word].set(data[word] ^ np.uint32(1 << b)) for word in (0, 1) for b in range(32)
    ]
    near = jax.random.wrap_key_data(jnp.stack(flipped))
    make = jax.jit(jax.vmap(lambda k: uniform(k, (2**14,)) < 0.5))
    for keys in (folded, jax.random.split(key, 16), near):
        masks = np.asarray(make(keys)) * 2.0 - 1
        correlations = masks @ masks.T / masks.shape[1]
        off = correlations[np.triu_indices(len(masks), 1)]
        assert np.abs(off).max() < 5.5 / np.sqrt(masks.shape[1])
        assert abs(np.mean(off)) < 5 / np.sqrt(off.size * masks.shape[1])


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5, 0.9])
def test_counts_are_binomial(rate, key):
    """How many of 100 fall below the rate, for 20,000 keys: mean, variance and shape."""
    make = jax.jit(jax.vmap(lambda k: (uniform(k, (10, 10)) < rate).sum()))
    counts = np.asarray(make(jax.random.split(key, 20_000)))
    law = stats.binom(100, rate)
    edges = np.unique(law.ppf([0.05, 0.2, 0.4, 0.6, 0.8, 0.95]))
    shares = np.diff(np.concatenate([[0], law.cdf(edges), [1]]))
    found = np.bincount(np.searchsorted(edges, counts), minlength=len(shares))
    assert stats.chisquare(found, shares * counts.size).pvalue > 0.0005
    assert abs(counts.var() / law.var() - 1) < 5 * np.sqrt(2 / counts.size)


def test_beyond_32_bits_the_numbers_do_not_begin_again():
    """Such an array's are jax.random's own; seen in the program, which is not run."""

    def program(*shape):
        return str(jax.make_jaxpr(lambda k: uniform(k, shape))(jax.random.key(0)))

    assert "random_bits" not in program(2**31)
    assert "random_bits" in program(2**16, 2**16)
