"""Embeddings against flax, torch and NumPy; ids out of range."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnodes as jn


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    with jax.enable_x64(request.param == "float64"):
        yield jnp.dtype(request.param)


def weighted_gradient(f, w, shape):
    """The gradient of outputs that all count differently."""
    weights = jnp.asarray(np.random.default_rng(0).normal(size=shape), w.dtype)
    return jax.jit(jax.grad(lambda w: jnp.sum(f(w) * weights)))(w)


def problem(dtype=jnp.float32):
    rng = np.random.default_rng(0)
    w = jnp.asarray(rng.normal(size=(7, 3)), dtype)
    return w, rng.integers(0, 7, (2, 5)).astype(np.int32)


def test_flax(dtype):
    w, ids = problem(dtype)
    module = nn.Embed(7, 3, param_dtype=dtype)

    def ours(w):
        return jn.embedding({"w": w}, ids)

    def theirs(w):
        return module.apply({"params": {"embedding": w}}, ids)

    np.testing.assert_array_equal(ours(w), theirs(w))
    g_ours, g_theirs = (weighted_gradient(f, w, (2, 5, 3)) for f in (ours, theirs))
    np.testing.assert_allclose(g_ours, g_theirs, rtol=1e-6)


def test_torch(dtype):
    torch = pytest.importorskip("torch")
    w, ids = problem(dtype)
    w_t = torch.tensor(np.asarray(w), requires_grad=True)
    y = torch.nn.functional.embedding(torch.tensor(ids), w_t)
    np.testing.assert_array_equal(jn.embedding({"w": w}, ids), y.detach())
    weights = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(dtype.name)
    (y * torch.tensor(weights)).sum().backward()
    gradient = weighted_gradient(lambda w: jn.embedding({"w": w}, ids), w, (2, 5, 3))
    np.testing.assert_allclose(gradient, w_t.grad, rtol=1e-5)


@pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "int32", "uint32"])
def test_ids_of_any_integer_dtype_traced_or_not(kind):
    w = jnp.arange(600.0).reshape(300, 2)  # more ids than 8 bits can tell
    ids = jnp.array([0, 3, 100], kind)
    expected = np.asarray(w)[[0, 3, 100]]
    np.testing.assert_array_equal(jn.embedding({"w": w}, ids), expected)
    np.testing.assert_array_equal(jax.jit(jn.embedding)({"w": w}, ids), expected)
    assert jn.embedding({"w": w}, ids[0]).shape == (2,)
    assert jn.embedding({"w": w}, ids[:0]).shape == (0, 2)


@pytest.mark.parametrize("bad", [-1, 7, 2**31 - 1, -(2**31)])
def test_a_traced_id_out_of_range_is_nan_in_value_and_gradient(bad):
    w, ids = problem()
    ids = jnp.asarray(ids).at[1, 2].set(bad)

    def loss(w, ids):
        y = jn.embedding({"w": w}, ids)
        return jnp.nansum(y * y), y  # even a loss that looks away

    gradient, y = jax.jit(jax.grad(loss, has_aux=True))(w, ids)
    wrong = np.zeros((2, 5), bool)
    wrong[1, 2] = True
    np.testing.assert_array_equal(np.isnan(y), np.repeat(wrong[..., None], 3, axis=-1))
    np.testing.assert_array_equal(y[~wrong], np.asarray(w)[ids[~wrong]])
    assert np.isnan(gradient).any()


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (np.array([0, 7]), "expected ids from 0 to 6, got 7"),
        (np.array([0, -1]), "expected ids from 0 to 6, got -1"),
        (np.array([2**33 + 5]), f"expected ids from 0 to 6, got {2**33 + 5}"),
        ([[3, 8]], "got 8"),
        (jnp.array([0.0, 1.0]), r"expected integer ids, got float32 \(2,\)"),
        (jnp.array([True]), "expected integer ids, got bool"),
    ],
)
def test_ids_that_are_errors(ids, message):
    w, _ = problem()
    with pytest.raises(jn.JaxNodesError, match=message):
        jn.embedding({"w": w}, ids)


def test_init(key):
    w = jn.embedding_init(key, 1000, 50)["w"]
    assert w.shape == (1000, 50)
    assert abs(float(w.mean())) < 0.02
    assert abs(float(w.std()) - 1) < 0.02
    ones = jn.embedding_init(key, 2, 3, w_init=jn.initializer("ones"), dtype=jnp.float16)["w"]
    np.testing.assert_array_equal(ones, jnp.ones((2, 3), jnp.float16))


def test_layer(key):
    _, ids = problem()
    layer = jn.Embedding(7, 3)
    params, state = layer.init(key, ids)
    assert state == {}
    assert params["w"].dtype == jnp.float32
    expected = np.asarray(params["w"])[ids]
    np.testing.assert_array_equal(layer.predict((params, state), ids), expected)
    mask = jn.lengths_to_mask(np.array([5, 2]), 5)
    y, given = layer.predict((params, state), (ids, mask))
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(given, mask)
    half = jn.Embedding(7, 3, dtype="bfloat16").predict((params, state), ids)
    np.testing.assert_array_equal(half, expected.astype(jnp.bfloat16))
    assert repr(layer) == "Embedding(7, 3)"
    assert repr(jn.Embedding(7, 3, w_init="ones")) == "Embedding(7, 3, w_init=ones)"


def test_it_names_no_node(key):
    w, ids = problem()
    jaxpr = jax.make_jaxpr(jn.Embedding(7, 3).predict)(({"w": w}, {}), ids)
    assert "node[" not in str(jaxpr)


def test_errors_name_the_layer(key):
    w, ids = problem()
    net = jn.Sequential(jn.Embedding(7, 3))
    with pytest.raises(jn.JaxNodesError, match=r"^embedding1: expected ids from 0 to 6, got -1"):
        net.predict(({"embedding1": {"w": w}}, {}), ids - 1 - ids.min())
    with pytest.raises(jn.JaxNodesError, match=r"^embedding1: expected 'w' of shape \(7, 3\)"):
        net.predict(({"embedding1": {"w": w[1:]}}, {}), ids)
    for make in (lambda: jn.Embedding(0, 3), lambda: jn.Embedding(7, -1)):
        with pytest.raises(jn.JaxNodesError, match="a whole number of at least 1"):
            make()


@pytest.mark.parametrize("use_bias", [False, True])
def test_unembedding_is_a_weighted_sum_by_vectors(use_bias, key, dtype):
    w, _ = problem(dtype)
    x = jnp.asarray(np.random.default_rng(1).normal(size=(2, 5, 3)), dtype)
    net = jn.Sequential(jn.Unembedding(7, use_bias=use_bias))
    params, state = net.init(key, (x, w))
    assert jax.tree.map(jnp.shape, params) == ({"unembedding1": {"b": (7,)}} if use_bias else {})
    b = jnp.arange(7, dtype=dtype) if use_bias else jnp.zeros(7, dtype)
    params = {"unembedding1": {"b": b}} if use_bias else {}
    y, nodes = jn.record(net.predict)((params, state), (x, w))
    assert y.dtype == dtype
    np.testing.assert_allclose(y, np.asarray(x) @ np.asarray(w).T + np.asarray(b), rtol=1e-5)
    np.testing.assert_array_equal(nodes["unembedding1"], y)


@pytest.mark.parametrize(
    ("x", "came"),
    [
        ((np.ones((2, 3)), np.ones((7, 4))), r"\[\(2, 3\), \(7, 4\)\]"),
        ((np.ones((2, 3)), np.ones((6, 3))), r"\[\(2, 3\), \(6, 3\)\]"),
        ((np.float32(1), np.ones((7, 3))), r"\[\(\), \(7, 3\)\]"),
        (np.ones((2, 3)), r"float64 \(2, 3\)"),
    ],
)
def test_unembedding_refuses_other_pairs(x, came, key):
    message = rf"^unembedding1: expected the pair of inputs \(\.\.\., D\) and vectors .* {came}"
    with pytest.raises(jn.JaxNodesError, match=message):
        jn.Sequential(jn.Unembedding(7)).apply({}, {}, x)
