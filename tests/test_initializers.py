"""Initializers: a million draws against the formulas, and JAX's own as a reference."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnodes import initializers
from jaxnodes.errors import JaxNodesError
from jaxnodes.initializers import INITIALIZERS, initializer, initializer_name

# A million weights of a convolution: 4 positions, 125 channels in, 2,000 out.
SHAPE, FAN_IN, FAN_OUT = (4, 125, 2000), 500, 8000
UNIFORM = {  # the limits
    "xavier_uniform": math.sqrt(6 / (FAN_IN + FAN_OUT)),
    "glorot_uniform": math.sqrt(6 / (FAN_IN + FAN_OUT)),
    "he_uniform": math.sqrt(6 / FAN_IN),
    "he_uniform_fan_out": math.sqrt(6 / FAN_OUT),
    "lecun_uniform": math.sqrt(3 / FAN_IN),
}
NORMAL = {  # the standard deviations
    "xavier_normal": math.sqrt(2 / (FAN_IN + FAN_OUT)),
    "glorot_normal": math.sqrt(2 / (FAN_IN + FAN_OUT)),
    "he_normal": math.sqrt(2 / FAN_IN),
    "he_normal_fan_out": math.sqrt(2 / FAN_OUT),
    "lecun_normal": math.sqrt(1 / FAN_IN),
}


@pytest.mark.parametrize("name", UNIFORM)
def test_uniform_draws_have_the_formulas_moments(key, name):
    w, limit = np.asarray(INITIALIZERS[name](key, SHAPE), np.float64), UNIFORM[name]
    variance = limit**2 / 3
    assert abs(w.mean()) < 5 * math.sqrt(variance / w.size)
    assert w.var() == pytest.approx(variance, rel=5 * math.sqrt(0.8 / w.size))
    assert 0.9999 * limit < np.abs(w).max() <= limit * (1 + 1e-6)


@pytest.mark.parametrize("name", NORMAL)
def test_normal_draws_have_the_formulas_moments(key, name):
    w, std = np.asarray(INITIALIZERS[name](key, SHAPE), np.float64), NORMAL[name]
    assert abs(w.mean()) < 5 * std / math.sqrt(w.size)
    assert w.var() == pytest.approx(std**2, rel=5 * math.sqrt(2 / w.size))
    # Not truncated: the tails of a normal distribution are all there.
    beyond = (np.abs(w) > 2 * std).mean()
    assert beyond == pytest.approx(math.erfc(math.sqrt(2)), abs=5 * math.sqrt(0.0435 / w.size))
    assert 4.3 * std < np.abs(w).max() < 6.5 * std


def test_every_random_initializer_was_measured():
    assert set(INITIALIZERS) == set(UNIFORM) | set(NORMAL) | {"orthogonal", "zeros", "ones"}


@pytest.mark.parametrize("shape", [(7, 3), (3, 3, 4, 5)])
@pytest.mark.parametrize("mode", ["fan_in", "fan_out", "fan_avg"])
@pytest.mark.parametrize("distribution", ["normal", "uniform"])
def test_variance_scaling_equals_jax(key, shape, mode, distribution):
    theirs = jax.nn.initializers.variance_scaling(1.7, mode, distribution)
    ours = initializers.variance_scaling(1.7, mode, distribution)
    np.testing.assert_allclose(ours(key, shape), theirs(key, shape, jnp.float32), rtol=2e-6)


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("xavier_uniform", (1, "fan_avg", "uniform")),
        ("xavier_normal", (1, "fan_avg", "normal")),
        ("he_uniform", (2, "fan_in", "uniform")),
        ("he_normal", (2, "fan_in", "normal")),
        ("he_uniform_fan_out", (2, "fan_out", "uniform")),
        ("he_normal_fan_out", (2, "fan_out", "normal")),
        ("lecun_uniform", (1, "fan_in", "uniform")),
        ("lecun_normal", (1, "fan_in", "normal")),
    ],
)
def test_named_ones_are_cases_of_variance_scaling(key, name, setting):
    expected = initializers.variance_scaling(*setting)(key, (3, 4, 5))
    np.testing.assert_allclose(INITIALIZERS[name](key, (3, 4, 5)), expected, rtol=1e-6)


@pytest.mark.parametrize("name", INITIALIZERS)
def test_compiled_in_a_larger_program_it_is_the_same_to_the_last_bit(key, name):
    def scaled(key):
        w = INITIALIZERS[name](key, (33, 65))
        return w, jnp.sqrt(3.0) * w

    w, _ = jax.jit(scaled)(key)
    np.testing.assert_array_equal(w, INITIALIZERS[name](key, (33, 65)))


@pytest.mark.parametrize("name", INITIALIZERS)
def test_the_same_key_gives_the_same_weights(key, name):
    init = INITIALIZERS[name]
    w = init(key, (6, 4))
    np.testing.assert_array_equal(w, init(jax.random.key(0), (6, 4)))
    np.testing.assert_allclose(w, jax.jit(lambda key: init(key, (6, 4)))(key), rtol=1e-6)
    if name not in ("zeros", "ones"):
        assert not np.array_equal(w, init(jax.random.key(1), (6, 4)))


@pytest.mark.parametrize("name", INITIALIZERS)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float16, jnp.bfloat16])
def test_dtype_is_as_asked_for_and_halves_are_rounded(key, name, dtype):
    w = INITIALIZERS[name](key, (6, 4), dtype)
    assert w.dtype == dtype
    np.testing.assert_array_equal(w, INITIALIZERS[name](key, (6, 4)).astype(dtype))


@pytest.mark.parametrize("name", INITIALIZERS)
def test_float64_under_x64(key, name, x64):
    w = INITIALIZERS[name](key, (60, 40), jnp.float64)
    assert w.dtype == jnp.float64
    if name not in ("zeros", "ones"):
        assert not np.array_equal(w, w.astype(jnp.float32).astype(jnp.float64))


def test_float64_is_float32_without_x64(key):
    assert initializers.he_normal(key, (3, 4), np.float64).dtype == jnp.float32


@pytest.mark.parametrize("shape", [(9, 4), (3, 2, 8)])
def test_orthogonal_has_orthonormal_rows_or_columns(key, shape):
    w = np.asarray(initializers.orthogonal(key, shape)).reshape(-1, shape[-1])
    gram = w.T @ w if w.shape[0] >= w.shape[1] else w @ w.T
    np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-6)


def test_constants(key):
    np.testing.assert_array_equal(initializers.zeros(key, (3,)), [0, 0, 0])
    np.testing.assert_array_equal(initializers.ones(key, (3,)), [1, 1, 1])
    np.testing.assert_array_equal(initializers.constant(-2.5)(key, (2,)), [-2.5, -2.5])


@pytest.mark.parametrize(
    ("fill", "value"),
    [(initializers.zeros, 0), (initializers.ones, 1), (initializers.constant(0.1), 0.1)],
)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_one_value_lies_on_the_default_device_and_may_go_elsewhere(fill, value, dtype):
    other = jax.devices()[-1]
    with jax.default_device(other):
        assert fill(KEY, (3,), dtype).devices() == {other}
    eager = fill(KEY, (2, 3), dtype)
    assert not eager.committed
    traced = jax.jit(lambda key: fill(key, (2, 3), dtype))(KEY)
    for filled in (eager, traced):
        assert (filled.shape, filled.dtype) == ((2, 3), dtype)
        np.testing.assert_array_equal(filled, jnp.full((2, 3), value, dtype))


def test_normal_and_uniform_of_a_given_size(key):
    w = np.asarray(initializers.normal(0.02)(key, (100_000,)))
    assert w.std() == pytest.approx(0.02, rel=5 * math.sqrt(0.5 / w.size))
    w = np.asarray(initializers.uniform(0.3)(key, (100_000,)))
    assert 0.2999 < np.abs(w).max() <= 0.3
    assert w.mean() == pytest.approx(0, abs=5 * 0.3 / math.sqrt(3 * w.size))


@pytest.mark.parametrize(
    ("make", "arguments", "name"),
    [
        (initializers.constant, (0.5,), "constant(0.5)"),
        (initializers.normal, (0.02,), "normal(0.02)"),
        (initializers.uniform, (1,), "uniform(1.0)"),
        (
            initializers.variance_scaling,
            (2.0, "fan_avg"),
            "variance_scaling(2.0, 'fan_avg', 'normal')",
        ),
    ],
)
def test_equal_settings_make_one_function_with_a_telling_name(make, arguments, name):
    assert make(*arguments) is make(*arguments)
    assert make(*arguments).__name__ == name
    assert make(3.0) is not make(*arguments)
    assert initializer_name(make(*arguments)) is None


def test_finds_by_name_and_names():
    assert initializer("He Normal") is initializers.he_normal
    assert initializer("glorot-uniform") is initializers.xavier_uniform
    assert initializer_name(initializers.glorot_uniform) == "xavier_uniform"
    for name, function in INITIALIZERS.items():
        assert initializer(initializer_name(function)) is function is getattr(initializers, name)


KEY = jax.random.key(0)
MISTAKES = [
    (lambda: initializer("he_norma"), "did you mean 'he_normal'"),
    (lambda: initializer(0), "expected a function or the name of an initializer"),
    (lambda: initializers.he_normal(jax.random.PRNGKey(0), (2, 3)), "typed PRNG key"),
    (lambda: initializers.zeros(0, (2, 3)), "typed PRNG key"),
    (lambda: initializers.he_normal(KEY, (3,)), "a vector has no fans"),
    (lambda: initializers.orthogonal(KEY, (3,)), "a vector has no fans"),
    (lambda: initializers.he_normal(KEY, (0, 3)), "without zeros"),
    (lambda: initializers.zeros(KEY, (-1, 3)), "expected a shape"),
    (lambda: initializers.he_normal(KEY, 3), "expected a shape"),
    (lambda: initializers.he_normal(KEY, (2.0, 3)), "expected a shape"),
    (lambda: initializers.he_normal(KEY, (2, 3), jnp.int32), "floating dtype, got int32"),
    (lambda: initializers.ones(KEY, (2, 3), bool), "floating dtype, got bool"),
    (lambda: initializers.variance_scaling(-1.0), "scale to be a positive number, got -1.0"),
    (lambda: initializers.variance_scaling(1.0, "fan_inn"), "did you mean 'fan_in'"),
    (lambda: initializers.variance_scaling(1.0, "fan_in", "cauchy"), "got 'cauchy'"),
    (lambda: initializers.normal(0), "std to be a positive number"),
    (lambda: initializers.uniform(math.nan), "limit to be a positive number"),
    (lambda: initializers.constant("1"), "value to be a finite number"),
    (lambda: initializers.constant(jnp.ones(3)), "value to be a finite number"),
]


@pytest.mark.parametrize(("mistake", "problem"), MISTAKES)
def test_mistakes_are_named(mistake, problem):
    with pytest.raises(JaxNodesError, match=problem):
        mistake()
