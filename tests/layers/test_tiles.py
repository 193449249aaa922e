"""Attention on two cores, tile by tile, against the equation and JAX's own attention."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import jaxnodes as jn
from jaxnodes.layers import blockwise, tiles
from tests.layers.compiled_loops import assert_no_memory_is_shared

QUERIES, MANY_QUERIES, KEYS = 4, 8, 4
B, H, K, D, DV = 3, 4, 2, 5, 3


@pytest.fixture
def two_cores(monkeypatch):
    """For each device, whatever the machine has; what was compiled for it is left out."""
    monkeypatch.setattr(tiles, "workers", lambda: 2 * jax.local_device_count())
    tiles.attention_in_tiles.clear_cache()
    yield
    tiles.attention_in_tiles.clear_cache()


@pytest.fixture
def small_tiles(monkeypatch, two_cores, quick):
    """The same loops over sequences of a few steps."""
    monkeypatch.setattr(tiles, "_QUERIES", QUERIES)
    monkeypatch.setattr(tiles, "_MANY_QUERIES", MANY_QUERIES)
    monkeypatch.setattr(tiles, "_KEYS", KEYS)
    monkeypatch.setattr(blockwise, "_ROWS", QUERIES)
    monkeypatch.setattr(blockwise, "_SCORES", 1)


def made(steps, length, *, leading=(B,), heads=H, kv_heads=K, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    shapes = (steps, heads, D), (length, kv_heads, D), (length, kv_heads, DV)
    return tuple(rng.normal(size=(*leading, *shape)).astype(dtype) for shape in shapes)


def equation(q, k, v, causal):
    """Each query by itself, in NumPy."""
    out = np.zeros((*q.shape[:-1], v.shape[-1]))
    group, lag = q.shape[2] // k.shape[2], k.shape[1] - q.shape[1]
    for b, t, h in np.ndindex(q.shape[:3]):
        seen = slice(t + lag + 1 if causal else None)
        scores = k[b, seen, h // group] @ q[b, t, h] / np.sqrt(q.shape[-1])
        weights = np.exp(scores - scores.max())
        out[b, t, h] = weights @ v[b, seen, h // group] / weights.sum()
    return out


def loops(f, *arguments):
    """The `while` loops that XLA is given: two and gates where there are tiles."""
    return jax.jit(f).lower(*arguments).as_text().count("stablehlo.while")


def attention(causal):
    def attend(q, k, v):
        assert tiles.fits(*map(jnp.asarray, (q, k, v)), causal)
        return jn.dot_product_attention(q, k, v, causal=causal)

    return attend


@pytest.mark.parametrize(
    ("steps", "length", "kv_heads", "causal"),
    [
        (8, 12, 2, False),
        (16, 8, 4, False),
        (12, 8, 4, False),  # a number of queries that the larger tiles don't divide
        (12, 12, 2, True),
        (8, 16, 4, True),
    ],
)
def test_values_are_those_of_the_equation(steps, length, kv_heads, causal, x64, small_tiles):
    arguments = made(steps, length, leading=(2,), kv_heads=kv_heads)
    assert loops(attention(causal), *arguments) > 8
    y = attention(causal)(*arguments)
    assert y.dtype == np.float64
    np.testing.assert_allclose(y, equation(*arguments, causal), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kv_heads", [2, 4])
@pytest.mark.parametrize("compiled", [False, True])
def test_gradients_are_those_of_jax_nn(causal, kv_heads, compiled, x64, small_tiles):
    q, k, v = made(12, 12, kv_heads=kv_heads)
    weights = np.random.default_rng(1).normal(size=(*q.shape[:-1], DV))

    def loss(attend):
        def of(q, k, v):
            return jnp.sum(jnp.sin(attend(q, k, v)) * weights)

        gradients = jax.value_and_grad(of, (0, 1, 2))
        return jax.jit(gradients) if compiled else gradients

    def theirs(q, k, v):
        v = jnp.pad(v, [(0, 0)] * 3 + [(0, D - DV)])  # theirs has one size for all
        with jax.numpy_dtype_promotion("standard"):
            return jax.nn.dot_product_attention(q, k, v, is_causal=causal)[..., :DV]

    found, expected = loss(attention(causal))(q, k, v), loss(theirs)(q, k, v)
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)  # theirs has a float32 softmax


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("which", [(0,), (1,), (2,), (0, 2), (0, 1, 2)])
def test_derivatives_in_some_arguments(causal, which, x64, small_tiles):
    arguments = made(4, 12, leading=(1,))

    def f(*some):
        given = list(arguments)
        for i, x in zip(which, some, strict=True):
            given[i] = x
        return attention(causal)(*given)

    check_grads(jax.jit(f), [arguments[i] for i in which], order=1)


@pytest.mark.parametrize("own", [0, 1])
def test_in_shard_map_whatever_each_device_has_its_own_of(own, x64, small_tiles):
    arguments = made(8, 12, leading=(2,))
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    everywhere, split = jax.sharding.PartitionSpec(), jax.sharding.PartitionSpec("data")
    specs = tuple(split if i == own else everywhere for i in range(3))

    def pulled(q, k, v):
        y, pull = jax.vjp(lambda *a: jn.dot_product_attention(*a, causal=True), q, k, v)
        return y, pull(jnp.cos(y))

    mapped = jax.shard_map(pulled, mesh=mesh, in_specs=specs, out_specs=(split, specs))
    y, gradients = mapped(*arguments)
    np.testing.assert_allclose(y, equation(*arguments, True), rtol=1e-12, atol=1e-13)
    for found, expected in zip(gradients, pulled(*arguments)[1], strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_second_derivatives(x64, small_tiles):
    arguments = made(4, 8, leading=(1,), heads=2)
    check_grads(jax.jit(attention(True)), arguments, order=2, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("axes", [(1, None, None), (None, 0, 0)])
def test_many_networks(axes, x64, small_tiles):
    arguments = [
        x if axis is None else np.stack([x, x[::-1] * 0.5], axis=axis)
        for x, axis in zip(made(8, 12, leading=(2,)), axes, strict=True)
    ]

    def pulled(q, k, v):
        y, pull = jax.vjp(attention(True), q, k, v)
        return y, pull(jnp.cos(y))

    found = jax.jit(jax.vmap(pulled, axes))(*arguments)
    for n in range(2):
        one = [
            x if axis is None else np.take(x, n, axis)
            for x, axis in zip(arguments, axes, strict=True)
        ]
        np.testing.assert_allclose(found[0][n], equation(*one, True), rtol=1e-11, atol=1e-12)
        expected = jax.tree.leaves(pulled(*one))
        for x, y in zip(jax.tree.leaves(found), expected, strict=True):
            np.testing.assert_allclose(x[n], y, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("causal", [False, True])
def test_scores_that_are_large_or_far_apart(causal, x64, small_tiles):
    """The greatest score grows from tile to tile, or is the first one's: no power overflows."""
    q, k, v = made(8, 24, leading=(2,))
    for size in (np.linspace(1, 3e3, 24), np.linspace(-3e3, -1, 24)[::-1]):
        larger = k * size[:, None, None]
        y = attention(causal)(q, larger, v)
        np.testing.assert_allclose(y, equation(q, larger, v, causal), rtol=1e-9, atol=1e-12)


def test_what_is_no_number_stays_where_it_is(x64, small_tiles):
    """Loops take over what the tile before left behind, which must not reach the next one."""
    q, k, v = made(8, 12, leading=(2,))
    q[0, 1, 0] = k[1, 2, 0] = np.nan

    def pulled(q, k, v):
        y, pull = jax.vjp(attention(True), q, k, v)
        return y, *pull(jnp.ones_like(y))

    y, ct_q, ct_k, ct_v = map(np.asarray, pulled(q, k, v))
    with np.errstate(invalid="ignore"):
        expected = np.isnan(equation(q, k, v, True))
    assert expected.any()
    np.testing.assert_array_equal(np.isnan(y), expected)
    np.testing.assert_array_equal(np.isnan(ct_q).any(-1), expected.any(-1))
    for ct in (ct_k, ct_v):
        assert not np.isnan(ct[:, :, 1]).any()
        assert np.isnan(ct[:, :, 0]).any()


def test_left_out_are_the_tiles_that_nobody_may_look_at():
    for steps, length, group in ((512, 512, 1), (512, 1536, 3), (1024, 1024, 2)):
        blocks, chunks = steps // 256, length // 256
        sizes = tiles._Sizes(True, 2, 1, group, 256, blocks, chunks, length - steps)
        query = np.arange(steps)[:, None] + length - steps
        open_ = (np.arange(length) <= query).reshape(blocks, 256, chunks, 256).any((1, 3))
        expected = {(g * blocks + i, i, j) for g in range(group) for i, j in np.argwhere(open_)}
        for by_keys, of in ((False, 0), (True, 2)):
            table = sizes.tiles(by_keys)
            assert {tuple(map(int, tile)) for tile in table[:, :3]} == expected
            assert len(table) == len(expected)
            # Those that are added up follow each other, the first of which is told.
            starts = np.flatnonzero(table[:, 3])
            assert len(starts) == len(np.unique(table[:, of]))
            assert len(np.unique(table[starts, of])) == len(starts)


@pytest.mark.parametrize("causal", [False, True])
def test_loops_share_no_memory(causal, two_cores):
    """Else the second one would wait for the first: read off what XLA compiled."""
    x = jax.ShapeDtypeStruct((1, 1024, 2, 16), jnp.float32)
    assert tiles.fits(x, x, x, causal)

    def pulled(q, k, v, ct):
        y, pull = jax.vjp(attention(causal), q, k, v)
        return y, pull(ct)

    for f, arguments, count in ((attention(causal), 3, 2), (pulled, 4, 4)):
        text = jax.jit(f).lower(*[x] * arguments).compile().as_text()
        assert_no_memory_is_shared(text, count)


@pytest.mark.parametrize("causal", [False, True])
def test_memory_is_linear_in_the_number_of_steps(causal, two_cores):
    def needed(steps):
        q = jax.ShapeDtypeStruct((1, steps, 2, 16), jnp.float32)
        assert tiles.fits(q, q, q, causal)
        loss = jax.grad(lambda q: jnp.sum(attention(causal)(q, q, q)))
        return jax.jit(loss).lower(q).compile().memory_analysis().temp_size_in_bytes

    short, long = needed(2048), needed(8192)
    assert long < 5 * short  # scores of T x T would be 16 times as many
    assert long < 2 * 8192 * 8192 * 4 / 8


def test_what_fits(two_cores, monkeypatch):
    def fits(steps=512, length=512, rows=(1, 2), causal=False, dtype=jnp.float32):
        batch, kv_heads = rows
        q = jax.ShapeDtypeStruct((batch, steps, 4, D), dtype)
        k = jax.ShapeDtypeStruct((batch, length, kv_heads, D), dtype)
        return tiles.fits(q, k, k, causal)

    assert fits()
    assert fits(causal=True)
    assert fits(rows=(2, 1))
    assert not fits(rows=(3, 1))  # which two cores can't share alike
    assert not fits(rows=(0, 2))
    assert not fits(steps=500)
    assert fits(steps=768)
    assert not fits(length=700)
    assert fits(length=768)
    assert fits(length=768, causal=True)
    assert not fits(steps=1024, length=512, causal=True)  # some queries see nothing
    assert fits(steps=1024, length=512)
    assert not fits(dtype=jnp.bfloat16)
    monkeypatch.setattr(tiles, "workers", lambda: 1)
    assert not fits()


def test_no_sequences_at_all(small_tiles):
    q, k, v = made(8, 12, leading=(0,), dtype=np.float32)
    assert jn.dot_product_attention(q, k, v).shape == (0, 8, H, DV)
    q, k, v = q[:, :4], k[:, :4], v[:, :4]  # too short for blocks
    assert jn.dot_product_attention(q, k, v).shape == (0, 4, H, DV)


def test_with_a_mask_or_dropout_there_are_blocks(small_tiles):
    q, k, v = made(8, 12, dtype=np.float32)
    plain = loops(attention(False), q, k, v)
    mask = np.ones((B, 12), bool)
    given = [{"mask": mask}, {"rate": 0.5, "key": jax.random.key(0)}]
    for options in given:
        assert (
            loops(lambda q, k, v, o=options: jn.dot_product_attention(q, k, v, **o), q, k, v)
            < plain
        )
    masked = jn.dot_product_attention(q, k, v, mask=mask)
    np.testing.assert_allclose(masked, attention(False)(q, k, v), rtol=1e-5, atol=1e-6)
