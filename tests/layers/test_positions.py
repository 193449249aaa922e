"""Positions: the formulas in NumPy's float64, and rotations as complex numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnodes as jn


@pytest.mark.parametrize("features", [1, 6, 7])
@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_sinusoidal_positions_are_the_formula(features, kind):
    expected = np.zeros((5000, features))
    for i in range(features):
        wave = np.sin if i % 2 == 0 else np.cos
        expected[:, i] = wave(np.arange(5000) / 10000 ** ((i - i % 2) / features))
    with jax.enable_x64(kind == "float64"):
        ours = jn.sinusoidal_positions(5000, features, dtype=kind)
        assert ours.dtype == kind
        np.testing.assert_allclose(ours, expected, atol=1e-7 if kind == "float32" else 1e-15)


@pytest.mark.parametrize("kind", ["float32", "float64", "bfloat16"])
def test_rotary_turns_complex_numbers(kind):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 5, 3, 8))
    positions = rng.integers(0, 100, (2, 5))
    turned = (x[..., :4] + 1j * x[..., 4:]) * np.exp(
        1j * positions[..., None, None] * 10000.0 ** (-np.arange(4) / 4)
    )
    expected = np.concatenate([turned.real, turned.imag], axis=-1)
    tolerance = {"float32": 1e-4, "float64": 1e-12, "bfloat16": 3e-2}[kind]
    with jax.enable_x64(kind == "float64"):
        ours = jn.rotary(jnp.asarray(x, kind), positions)
        assert ours.dtype == kind
        np.testing.assert_allclose(
            ours.astype("float64" if kind == "float64" else "float32"), expected, atol=tolerance
        )
        one_by_one = jn.rotary(jnp.asarray(x[0], kind), positions[0])
        np.testing.assert_array_equal(ours[0], one_by_one)


def test_rotary_products_depend_on_the_distance_alone():
    q, k = jax.random.normal(jax.random.key(0), (2, 1, 1, 16))

    def product(t, s):
        return jnp.sum(jn.rotary(q, jnp.array([t])) * jn.rotary(k, jnp.array([s])))

    np.testing.assert_allclose(product(3, 1), product(13, 11), rtol=1e-4)
    assert abs(product(3, 1) - product(3, 2)) > 1e-3


def test_positional_encoding_adds_them():
    x = jax.random.normal(jax.random.key(0), (2, 5, 6))
    expected = x + jn.sinusoidal_positions(5, 6)
    layer = jn.PositionalEncoding()
    assert layer.init(jax.random.key(0), x) == ({}, {})
    np.testing.assert_array_equal(layer.predict(({}, {}), x), expected)
    mask = jnp.ones((2, 5), bool)
    y, given = layer.predict(({}, {}), (x, mask))
    np.testing.assert_array_equal(y, expected)
    assert given is mask
    assert layer.predict(({}, {}), x.astype(jnp.bfloat16)).dtype == jnp.bfloat16


def test_learned_positions(key):
    x = jax.random.normal(key, (2, 5, 6))
    layer = jn.LearnedPositions(400)
    params, state = layer.init(key, x)
    assert state == {}
    assert params["w"].shape == (400, 6)
    assert abs(float(params["w"].std()) - 0.02) < 0.002
    variables = (params, state)
    np.testing.assert_allclose(layer.predict(variables, x), x + params["w"][:5], atol=1e-7)
    y, _ = layer.predict(variables, (x, jnp.ones((2, 5), bool)))
    np.testing.assert_allclose(y, x + params["w"][:5], atol=1e-7)
    gradient = jax.grad(lambda p: layer.predict((p, {}), x).sum())(params)["w"]
    np.testing.assert_array_equal(
        gradient, np.where(np.arange(400) < 5, 2, 0)[:, None] + np.zeros(6)
    )
    assert (
        jn.LearnedPositions(9, dtype="bfloat16").predict(({"w": params["w"][:9]}, {}), x).dtype
        == jnp.bfloat16
    )


def test_learned_positions_go_on_from_batch_to_batch(key):
    x = jax.random.normal(key, (2, 5, 6))
    net = jn.Sequential(jn.LearnedPositions(5, stateful=True))
    params, state = net.init(key, x)
    whole = jn.LearnedPositions(5).predict((params["learned_positions1"], {}), x)
    first, after = net.apply(params, state, x[:, :2])
    second, full = jax.jit(net.apply)(params, after, x[:, 2:])
    np.testing.assert_array_equal(jnp.concatenate([first, second], axis=1), whole)
    trained, same = net.apply(params, after, x, training=True)
    np.testing.assert_array_equal(trained, whole)
    assert int(same["learned_positions1"]["index"]) == 2
    again, _ = net.apply(params, jn.reset_state(full), x[:, :2])
    np.testing.assert_array_equal(again, first)
    with pytest.raises(jn.JaxNodesError, match="^learned_positions1: expected at most 5 .*got 6"):
        net.apply(params, full, x[:, :1])
    with pytest.raises(jn.JaxNodesError, match="^learned_positions1: expected the state"):
        net.apply(params, {}, x)
    beyond, _ = jax.jit(net.apply)(params, after, x[:, :4])
    np.testing.assert_array_equal(np.isnan(beyond).all(axis=(0, 2)), [False] * 3 + [True])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: jn.sinusoidal_positions(-1, 4), "length to be a whole number"),
        (lambda: jn.sinusoidal_positions(4, 0), "features to be a whole number"),
        (lambda: jn.rotary(jnp.ones((2, 3, 5)), jnp.arange(2)), "an even dim"),
        (lambda: jn.rotary(jnp.ones((2, 3, 4), int), jnp.arange(2)), "expected floats"),
        (lambda: jn.rotary(jnp.ones((2, 3, 4)), jnp.arange(3)), r"expected positions \(2,\)"),
        (lambda: jn.LearnedPositions(0), "length to be a whole number"),
        (
            lambda: jn.LearnedPositions(3).predict(
                ({"w": jnp.ones((3, 6))}, {}), jnp.ones((2, 5, 6))
            ),
            "expected at most 3 steps, got 5",
        ),
        (
            lambda: jn.LearnedPositions(3).predict(
                ({"w": jnp.ones((3, 5))}, {}), jnp.ones((2, 3, 6))
            ),
            r"expected 'w' of shape \(3, 6\), got \(3, 5\)",
        ),
        (
            lambda: jn.PositionalEncoding().predict(({}, {}), jnp.ones((2, 5, 6), int)),
            "put an Embedding before it",
        ),
        (
            lambda: jn.PositionalEncoding().predict(({}, {}), jnp.ones(6)),
            "expected sequences",
        ),
    ],
)
def test_errors(make, message):
    with pytest.raises(jn.JaxNodesError, match=message):
        make()
