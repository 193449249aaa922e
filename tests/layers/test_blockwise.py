"""Attention in blocks equals the plain formula, in all derivatives, and in little memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnodes as jn
from jaxnodes.layers import blockwise
from jaxnodes.layers.blockwise import is_long
from jaxnodes.layers.dot_product import dot_product_weights

pytestmark = pytest.mark.usefixtures("quick")

# Two blocks of 32 queries and a rest; three more of keys than of queries where they differ.
ROWS, T, S, H, K, D = 32, 70, 73, 2, 1, 8


@pytest.fixture
def small_blocks(monkeypatch):
    """The same paths as those of sequences eight times as long."""
    monkeypatch.setattr(blockwise, "_ROWS", ROWS)
    monkeypatch.setattr(blockwise, "_SCORES", T * T)


def plain(q, k, v, **options):
    """The equation: all weights, then the mean of the values by them."""
    weights = dot_product_weights(q, k, **options)
    return jnp.einsum("...hts,...shd->...thd", weights, jnp.repeat(v, H // v.shape[-2], axis=-2))


def made(length=T, kv_heads=K, leading=(2,), dtype=jnp.float64, steps=T):
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = [(steps, H), (length, kv_heads), (length, kv_heads)]
    return [
        jax.random.normal(key, (*leading, *shape, D), dtype)
        for key, shape in zip(keys, shapes, strict=True)
    ]


def masks(length):
    some = jax.random.bernoulli(jax.random.key(1), 0.7, (2, H, T, length))
    nowhere = some.at[:, :, 3].set(False).at[:, 1, 45].set(False)
    return {
        "none": None,
        "keys": jnp.arange(length) < jnp.array([[length - 3], [38]]),
        "of each query": some[:, 0],
        "of each head": nowhere,
        "shared by heads": some[:, :1],
    }


def values_and_gradients(attend, q, k, v, **options):
    def loss(q, k, v):
        y = attend(q, k, v, **options)
        return jnp.sum(jnp.sin(y)), y

    (_, y), gradients = jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))(q, k, v)
    return y, gradients


@pytest.mark.parametrize(
    ("name", "length", "causal"),
    [
        ("none", T, False),
        ("none", S, True),
        ("keys", S, False),
        ("of each query", T, True),
        ("of each head", T, False),
        ("of each head", S, True),
        ("shared by heads", S, False),
    ],
)
def test_values_and_gradients(name, length, causal, x64, small_blocks):
    q, k, v = made(length)
    options = {"causal": causal, "mask": masks(length)[name]}
    assert is_long(T, length)
    y, gradients = values_and_gradients(jn.dot_product_attention, q, k, v, **options)
    expected, wanted = values_and_gradients(plain, q, k, v, **options)
    np.testing.assert_allclose(y, expected, rtol=1e-10, atol=1e-12)
    for gradient, want in zip(gradients, wanted, strict=True):
        np.testing.assert_allclose(gradient, want, rtol=1e-9, atol=1e-11)
    if name == "of each head":
        assert not np.any(y[:, 3])
        assert not np.any(y[:, 45, 1])
        assert not np.any(gradients[0][:, 3])


def test_sequences_long_enough_to_go_in_blocks(x64):
    """Two real blocks and a rest, values and gradients."""
    assert is_long(730, 733)
    assert not is_long(256, 4096)
    assert not is_long(1024, 511)
    q, k, v = made(733, leading=(), steps=730)
    y, gradients = values_and_gradients(jn.dot_product_attention, q, k, v, causal=True)
    expected, wanted = values_and_gradients(plain, q, k, v, causal=True)
    np.testing.assert_allclose(y, expected, rtol=1e-10, atol=1e-12)
    for gradient, want in zip(gradients, wanted, strict=True):
        np.testing.assert_allclose(gradient, want, rtol=1e-9, atol=1e-11)


def test_forward_mode_second_derivatives_and_vmap(x64, small_blocks):
    q, k, v = made(leading=())
    tangents = tuple(jnp.roll(x, 5, axis=0) for x in (q, k, v))

    def pushed(attend):
        def f(q, k, v):
            return attend(q, k, v, causal=True)

        def directional(q):
            return jax.jvp(f, (q, k, v), tangents)

        def loss(q):
            y, moved = directional(q)
            return jnp.sum(jnp.sin(moved)), (y, moved)

        curved, (y, moved) = jax.grad(loss, has_aux=True)(q)
        return y, moved, curved

    for found, expected in zip(
        jax.jit(pushed, static_argnums=0)(jn.dot_product_attention),
        jax.jit(pushed, static_argnums=0)(plain),
        strict=True,
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-10)
    batched = made(leading=(3,))
    together = jax.vmap(jn.dot_product_attention)(*batched)
    np.testing.assert_allclose(together, plain(*batched), rtol=1e-10, atol=1e-12)


def test_half_precision_and_other_batch_axes(small_blocks):
    q, k, v = made(leading=(1, 2), dtype=jnp.bfloat16)
    y = jn.dot_product_attention(q, k, v, causal=True)
    assert y.dtype == jnp.bfloat16
    wide = [x.astype(jnp.float32) for x in (q, k, v)]
    np.testing.assert_allclose(y.astype(jnp.float32), plain(*wide, causal=True), atol=0.03)


def test_on_other_devices_all_heads_go_at_once(small_blocks, monkeypatch):
    q, k, v = made(dtype=jnp.float32)
    here = jn.dot_product_attention(q, k, v, causal=True)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    np.testing.assert_allclose(
        jn.dot_product_attention(q, k, v, causal=True), here, rtol=1e-4, atol=1e-5
    )


def test_dropout_drops_its_rate_of_weights_and_every_query_has_its_own(small_blocks):
    """With all weights alike and values that number the keys, what is kept can be counted."""
    q = jnp.zeros((1, T, 2, 1))
    k = jnp.zeros((1, T, 1, 1))
    v = jnp.eye(T)[None, :, None]
    y = jn.dot_product_attention(q, k, v, rate=0.25, key=jax.random.key(0))
    kept = np.asarray(y[0]) * T  # (T, 2, S): 0 or 1 / 0.75
    values = np.unique(kept.round(4))
    np.testing.assert_allclose(values, [0, 4 / 3], atol=1e-3)
    share = (kept == 0).mean()
    assert abs(share - 0.25) < 5 * np.sqrt(0.25 * 0.75 / kept.size)
    rows = (kept == 0).reshape(-1, T)
    assert len(np.unique(rows, axis=0)) == len(rows)
    with pytest.raises(jn.JaxNodesError, match="key"):
        jn.dot_product_attention(q, k, v, rate=0.25)
    with pytest.raises(jn.JaxNodesError, match="rate"):
        jn.dot_product_attention(q, k, v, rate=1.5, key=jax.random.key(0))


@pytest.mark.parametrize("causal", [False, True])
def test_memory_is_linear_in_the_number_of_steps(causal):
    def needed(steps):
        def loss(q):
            return jnp.sum(jn.dot_product_attention(q, q, q, causal=causal))

        q = jax.ShapeDtypeStruct((1, steps, 2, 16), jnp.float32)
        lowered = jax.jit(jax.grad(loss)).lower(q)
        return lowered.compile().memory_analysis().temp_size_in_bytes

    short, long = needed(2048), needed(8192)
    assert long < 5 * short  # scores of T x T would be 16 times as many
    assert long < 2 * 8192 * 8192 * 4 / 8
