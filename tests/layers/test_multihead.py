"""Attention against NumPy, flax, torch and jax.nn; masks, caches, heads as nodes."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnodes as jn
from jaxnodes.layers.dot_product import dot_product_weights


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    with jax.enable_x64(request.param == "float64"):
        yield jnp.dtype(request.param)


def normal(rng, shape, dtype=jnp.float32):
    return jnp.asarray(rng.normal(size=shape), dtype)


def random_params(rng, features, heads, dim, *, kv_heads=None, kv_features=None, dtype):
    kv_heads, kv_features = kv_heads or heads, kv_features or features
    shapes = {
        "w_q": (features, heads, dim),
        "w_k": (kv_features, kv_heads, dim),
        "w_v": (kv_features, kv_heads, dim),
        "w_o": (heads, dim, features),
        "b_q": (heads, dim),
        "b_k": (kv_heads, dim),
        "b_v": (kv_heads, dim),
        "b_o": (features,),
    }
    return {name: normal(rng, shape, dtype) for name, shape in shapes.items()}


def assert_close(ours, theirs, dtype):
    close = {"float32": {"rtol": 1e-3, "atol": 1e-4}, "float64": {"rtol": 1e-9, "atol": 1e-10}}
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **close[dtype.name]), ours, theirs)


def with_gradients(f, arguments):
    """The output of `f`, and the gradients in all its arguments."""

    def loss(*arguments):
        y = f(*arguments)
        weights = np.random.default_rng(0).normal(size=y.shape)
        return jnp.sum(y * jnp.asarray(weights, y.dtype)), y

    which = tuple(range(len(arguments)))
    gradients, y = jax.jit(jax.grad(loss, which, has_aux=True))(*arguments)
    return y, gradients


def numpy_weights(q, k, allowed):
    """Head by head, query by query, over the allowed keys only."""
    batch, steps, heads, dim = q.shape
    weights = np.zeros((batch, heads, steps, k.shape[1]))
    for b, h, t in np.ndindex(batch, heads, steps):
        (seen,) = np.nonzero(allowed[b, h, t])
        if len(seen):
            key_head = h // (heads // k.shape[2])
            scores = np.array([q[b, t, h] @ k[b, s, key_head] for s in seen]) / np.sqrt(dim)
            weights[b, h, t, seen] = (
                np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
            )
    return weights


def causally(allowed):
    """The queries are the last T of the S positions."""
    steps, length = allowed.shape[-2:]
    earlier = np.arange(length)[None] - (length - steps) <= np.arange(steps)[:, None]
    return allowed & earlier


MASKS = {
    "none": lambda mask: None,
    "keys": lambda mask: mask[:, 0, 0],
    "queries": lambda mask: mask[:, 0],
    "one head": lambda mask: mask[:, :1],
    "heads": lambda mask: mask,
}


@pytest.mark.parametrize("form", MASKS)
@pytest.mark.parametrize(
    ("steps", "length", "causal"), [(4, 4, False), (3, 5, True), (5, 3, True), (1, 4, True)]
)
def test_dot_product_attention_is_the_equation(form, steps, length, causal):
    rng = np.random.default_rng(0)
    q = normal(rng, (2, steps, 4, 3))
    k, v = normal(rng, (2, 2, length, 2, 3))
    full = rng.uniform(size=(2, 4, steps, length)) < 0.5
    mask = MASKS[form](full)
    allowed = {
        "none": np.ones_like(full),
        "keys": full[:, :1, :1] | np.zeros_like(full),
        "queries": full[:, :1] | np.zeros_like(full),
        "one head": full[:, :1] | np.zeros_like(full),
        "heads": full,
    }[form]
    allowed = causally(allowed) if causal else allowed
    weights = numpy_weights(np.asarray(q), np.asarray(k), allowed)
    mixed = np.einsum("bhts,bshd->bthd", weights, np.repeat(v, 2, axis=2))
    ours = dot_product_weights(q, k, causal=causal, mask=mask)
    np.testing.assert_allclose(ours, weights, atol=1e-6)
    ours = jn.dot_product_attention(q, k, v, causal=causal, mask=mask)
    np.testing.assert_allclose(ours, mixed, atol=1e-6)


@pytest.mark.parametrize("causal", [False, True])
def test_jax_nn_with_grouped_heads(causal):
    rng = np.random.default_rng(1)
    q, (k, v) = normal(rng, (2, 5, 6, 4)), normal(rng, (2, 2, 5, 3, 4))

    def theirs(q, k, v):
        return jax.nn.dot_product_attention(q, k, v, is_causal=causal)

    def ours(q, k, v):
        return jn.dot_product_attention(q, k, v, causal=causal)

    assert_close(with_gradients(ours, (q, k, v)), with_gradients(theirs, (q, k, v)), q.dtype)


@pytest.mark.parametrize("cross", [False, True])
def test_flax(cross, dtype):
    rng = np.random.default_rng(2)
    params = random_params(rng, 6, 2, 5, kv_features=4 if cross else 6, dtype=dtype)
    x = normal(rng, (3, 4, 6), dtype)
    memory = normal(rng, (3, 5, 4), dtype) if cross else x
    mask = rng.uniform(size=(3, 2, 4, memory.shape[1])) < 0.7
    mask[..., 0] = True
    module = nn.MultiHeadDotProductAttention(2, qkv_features=10, out_features=6, param_dtype=dtype)
    names = {"query": "q", "key": "k", "value": "v", "out": "o"}

    def theirs(params, x, memory):
        variables = {
            n: {"kernel": params[f"w_{s}"], "bias": params[f"b_{s}"]} for n, s in names.items()
        }
        return module.apply({"params": variables}, x, memory if cross else x, mask=mask)

    def ours(params, x, memory):
        return jn.attention(params, x, memory=memory if cross else None, mask=mask)

    arguments = (params, x, memory)
    assert_close(with_gradients(ours, arguments), with_gradients(theirs, arguments), dtype)


def torch_params(params):
    """`in_proj_weight, in_proj_bias, out_proj.weight, out_proj.bias` of torch, from ours."""
    features = params["w_q"].shape[0]
    rows = [np.asarray(params[f"w_{n}"]).reshape(features, -1).T for n in "qkv"]
    biases = [np.asarray(params[f"b_{n}"]).reshape(-1) for n in "qkv"]
    out = np.asarray(params["w_o"]).reshape(-1, features).T
    return [np.concatenate(rows), np.concatenate(biases), out, np.asarray(params["b_o"])]


def from_torch(in_weight, in_bias, out_weight, out_bias, heads):
    """Our parameters, from torch's."""
    features = len(out_bias)
    params = {"w_o": out_weight.T.reshape(heads, -1, features), "b_o": out_bias}
    for name, w, b in zip("qkv", np.split(in_weight, 3), np.split(in_bias, 3), strict=True):
        params[f"w_{name}"] = w.T.reshape(features, heads, -1)
        params[f"b_{name}"] = b.reshape(heads, -1)
    return params


@pytest.mark.parametrize("how", ["self", "causal", "cross"])
def test_torch(how, dtype):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(3)
    params = random_params(rng, 6, 2, 3, dtype=dtype)
    x = normal(rng, (2, 4, 6), dtype)
    memory = normal(rng, (2, 5, 6), dtype) if how == "cross" else x
    mask = np.arange(memory.shape[1]) < np.array([[2], [memory.shape[1]]])
    options = {"memory": memory if how == "cross" else None, "causal": how == "causal"}

    module = torch.nn.MultiheadAttention(6, 2, batch_first=True).to(getattr(torch, dtype.name))
    weights = list(module.parameters())
    with torch.no_grad():
        for weight, value in zip(weights, torch_params(params), strict=True):
            weight.copy_(torch.tensor(value))
    x_t = torch.tensor(np.asarray(x), requires_grad=True)
    memory_t = torch.tensor(np.asarray(memory), requires_grad=True) if how == "cross" else x_t
    later = torch.ones(4, 4, dtype=torch.bool).triu(1) if how == "causal" else None
    y, rows = module(
        x_t,
        memory_t,
        memory_t,
        key_padding_mask=torch.tensor(~mask),
        attn_mask=later,
        average_attn_weights=False,
    )
    assert_close(
        jn.attention_weights(params, x, mask=mask, **options), rows.detach().numpy(), dtype
    )
    (
        y * torch.tensor(np.random.default_rng(0).normal(size=y.shape).astype(dtype.name))
    ).sum().backward()

    def ours(params, x, memory):
        memory = memory if how == "cross" else None
        return jn.attention(params, x, **(options | {"memory": memory}), mask=mask)

    value, (g_params, g_x, g_memory) = with_gradients(ours, (params, x, memory))
    assert_close(value, y.detach().numpy(), dtype)
    arrays = [weight.grad.numpy() for weight in weights]
    assert_close(g_params, from_torch(*arrays, heads=2), dtype)
    assert_close(g_x, x_t.grad.numpy(), dtype)
    if how == "cross":
        assert_close(g_memory, memory_t.grad.numpy(), dtype)


def test_weights_are_rows_of_probabilities():
    rng = np.random.default_rng(4)
    params = random_params(rng, 6, 2, 3, dtype=jnp.float32)
    x = normal(rng, (2, 5, 6))
    mask = np.ones((2, 5), bool)
    mask[1, 2:] = False
    weights = jn.attention_weights(params, x, mask=mask, causal=True)
    assert weights.shape == (2, 2, 5, 5)
    np.testing.assert_allclose(weights.sum(axis=-1), 1, atol=1e-6)
    assert not np.triu(weights[0, 0], 1).any()
    assert not weights[1, :, :, 2:].any()
    v = jnp.einsum("btd,dhk->bthk", x, params["w_v"]) + params["b_v"]
    context = jnp.einsum("bhts,bshd->bthd", weights, v)
    y = jnp.einsum("bthd,hdo->bto", context, params["w_o"]) + params["b_o"]
    np.testing.assert_allclose(jn.attention(params, x, mask=mask, causal=True), y, atol=1e-4)


def test_nothing_to_look_at_gives_zero_and_no_gradient():
    rng = np.random.default_rng(5)
    q, k, v = normal(rng, (3, 2, 3, 2, 4))
    mask = np.ones((2, 3, 3), bool)
    mask[0] = False
    mask[1, 1] = False

    def f(q, k, v):
        return jn.dot_product_attention(q, k, v, mask=mask)

    y, (g_q, g_k, g_v) = with_gradients(f, (q, k, v))
    assert not y[0].any()
    assert not y[1, 1].any()
    assert y[1, 0].all()
    assert all(np.isfinite(g).all() for g in (g_q, g_k, g_v))
    assert not any(g[0].any() for g in (g_q, g_k, g_v))
    assert not g_q[1, 1].any()
    assert g_q[1, 0].all()


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_softmax_of_half_precision_is_taken_in_float32(half):
    rng = np.random.default_rng(6)
    q, k, v = (normal(rng, (1, 512, 2, 8)).astype(half) for _ in range(3))
    y = jn.dot_product_attention(q, k, v)
    assert y.dtype == half
    assert dot_product_weights(q, k).dtype == jnp.float32
    exact = jn.dot_product_attention(*(a.astype(jnp.float32) for a in (q, k, v)))
    np.testing.assert_allclose(y.astype(jnp.float32), exact, atol=4e-3)


def test_scores_beyond_float16_stay_finite():
    q = jnp.full((1, 2, 1, 4), 200, jnp.float16)  # scores of 80,000
    y = jn.dot_product_attention(q, q, jnp.ones_like(q))
    np.testing.assert_allclose(y, 1)


def test_dropout_drops_weights(key):
    rng = np.random.default_rng(7)
    q, k, v = normal(rng, (3, 2, 5, 2, 4))
    y = jn.dot_product_attention(q, k, v, rate=0.5, key=key)
    dropped = jn.dropout(key, dot_product_weights(q, k), 0.5)
    np.testing.assert_allclose(y, jnp.einsum("bhts,bshd->bthd", dropped, v), atol=1e-6)

    layer = jn.Attention(2, dropout=0.5)
    variables = layer.init(key, jnp.ones((2, 5, 8)))
    x = normal(rng, (2, 5, 8))
    first, _ = layer.apply(*variables, x, key=key, training=True)
    again, _ = layer.apply(*variables, x, key=key, training=True)
    other, _ = layer.apply(*variables, x, key=jax.random.key(1), training=True)
    np.testing.assert_array_equal(first, again)
    assert np.any(first != other)
    np.testing.assert_array_equal(layer.predict(variables, x), jn.attention(variables[0], x))
    with pytest.raises(jn.JaxNodesError, match="expected a key for dropout"):
        layer.apply(*variables, x, training=True)


# parameters and layers --------------------------------------------------------------------


def test_init_draws_each_projection_as_one_matrix(key):
    params = jn.attention_init(key, 40, 4, kv_heads=2, kv_features=24, out_features=16)
    shapes = jax.tree.map(jnp.shape, params)
    assert shapes == {
        "w_q": (40, 4, 10),
        "w_k": (24, 2, 10),
        "w_v": (24, 2, 10),
        "w_o": (4, 10, 16),
        "b_q": (4, 10),
        "b_k": (2, 10),
        "b_v": (2, 10),
        "b_o": (16,),
    }
    fans = {"w_q": 40 + 40, "w_k": 24 + 20, "w_v": 24 + 20, "w_o": 40 + 16}
    for name, total in fans.items():
        limit = np.sqrt(6 / total)
        assert 0.95 * limit < np.abs(params[name]).max() <= limit
    assert not any(params[f"b_{name}"].any() for name in "qkvo")
    assert set(jn.attention_init(key, 8, 2, use_bias=False)) == {"w_q", "w_k", "w_v", "w_o"}


def test_the_output_projection_has_an_initializer_of_its_own(key):
    plain = jn.attention_init(key, 8, 2)
    params = jn.attention_init(key, 8, 2, out_init=jn.ones)
    for layer in (jn.Attention(2, out_init="ones"), jn.CrossAttention(2, out_init=jn.ones)):
        x = jnp.ones((1, 3, 8))
        own, _ = layer.init(key, x if isinstance(layer, jn.Attention) else (x, x))
        jax.tree.map(np.testing.assert_array_equal, own, params)
    np.testing.assert_array_equal(params["w_o"], np.ones((2, 4, 8)))
    for name in plain:
        if name != "w_o":
            np.testing.assert_array_equal(params[name], plain[name])


@pytest.mark.parametrize("options", [{}, {"causal": True, "use_bias": False}, {"kv_heads": 1}])
def test_layer_is_the_function(options, key):
    x = normal(np.random.default_rng(8), (2, 5, 8))
    mask = jn.lengths_to_mask(np.array([5, 3]), 5)
    layer = jn.Attention(4, **options)
    params, state = layer.init(key, (x, mask))
    assert state == {}
    assert params["w_k"].shape == (8, options.get("kv_heads", 4), 2)
    causal = options.get("causal", False)
    y, given = layer.predict((params, state), (x, mask))
    np.testing.assert_allclose(y, jn.attention(params, x, causal=causal, mask=mask), atol=1e-6)
    np.testing.assert_array_equal(given, mask)
    y = jax.jit(layer.predict)((params, state), x)
    np.testing.assert_allclose(y, jn.attention(params, x, causal=causal), atol=1e-6)


def test_cross_attention_is_the_function(key):
    rng = np.random.default_rng(9)
    x, memory = normal(rng, (2, 5, 8)), normal(rng, (2, 3, 6))
    mask = jn.lengths_to_mask(np.array([3, 1]), 3)
    layer = jn.CrossAttention(2, head_features=3)
    variables = params, _ = layer.init(key, (x, memory))
    assert params["w_k"].shape == (6, 2, 3)
    expected = jn.attention(params, x, memory=memory)
    np.testing.assert_allclose(layer.predict(variables, (x, memory)), expected, atol=1e-6)
    expected = jn.attention(params, x, memory=memory, mask=mask)
    np.testing.assert_allclose(layer.predict(variables, (x, memory, mask)), expected, atol=1e-6)


def test_bfloat16_layer(key):
    x = normal(np.random.default_rng(8), (2, 5, 8))
    layer = jn.Attention(2, dtype=jnp.bfloat16, causal=True, cache=6)
    params, state = layer.init(key, x)
    assert {p.dtype for p in params.values()} == {jnp.dtype("float32")}
    y, after = layer.apply(params, state, x)
    assert y.dtype == after["k"].dtype == state["k"].dtype == jnp.bfloat16
    expected = jn.attention(params, x, causal=True)
    np.testing.assert_allclose(y.astype(jnp.float32), expected, atol=0.05)


def test_rotary_attention_sees_distances_only(key):
    x = normal(np.random.default_rng(10), (1, 6, 8))
    params = jn.attention_init(key, 8, 2)
    weights = jn.attention_weights(params, x, rotary=True)
    q, k = (jnp.einsum("btd,dhk->bthk", x, params[f"w_{n}"]) for n in "qk")
    for shift in (0, 7):
        steps = np.arange(6) + shift
        moved = dot_product_weights(jn.rotary(q, steps), jn.rotary(k, steps))
        np.testing.assert_allclose(weights, moved, atol=1e-5)
    assert np.abs(weights - jn.attention_weights(params, x)).max() > 1e-3
    layer = jn.Attention(2, rotary=True)
    y = layer.predict((params, {}), x)
    np.testing.assert_allclose(y, jn.attention(params, x, rotary=True), atol=1e-6)


# caches -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rotary", "pieces"), [(False, [1] * 6), (True, [4, 1, 1])])
def test_decoding_equals_the_whole(rotary, pieces, dtype):
    rng = np.random.default_rng(11)
    x = normal(rng, (2, 6, 8), dtype)
    layer = jn.Attention(4, kv_heads=2, causal=True, rotary=rotary, cache=9)
    params = random_params(rng, 8, 4, 2, kv_heads=2, dtype=dtype)
    empty = {name: jnp.zeros((2, 9, 2, 2), dtype) for name in "kv"}
    state = empty | {"index": jnp.zeros((), jnp.int32)}
    step = jax.jit(layer.apply)
    ys = []
    for start, size in zip(np.cumsum([0, *pieces[:-1]]), pieces, strict=True):
        y, state = step(params, state, x[:, start : start + size])
        ys.append(y)
    whole = jn.attention(params, x, causal=True, rotary=rotary)
    assert_close(jnp.concatenate(ys, axis=1), whole, dtype)
    assert int(state["index"]) == 6


def test_cache_starts_empty_and_is_reset(key):
    x = normal(np.random.default_rng(12), (2, 3, 8))
    net = jn.Sequential(jn.Attention(2, causal=True, cache=4))
    params, state = net.init(key, x)
    shapes = {"k": (2, 4, 2, 4), "v": (2, 4, 2, 4), "index": ()}
    assert jax.tree.map(jnp.shape, state) == {"attention1": shapes}
    y, after = net.apply(params, state, x)
    assert int(after["attention1"]["index"]) == 3
    again, _ = net.apply(params, jn.reset_state(after), x)
    np.testing.assert_array_equal(y, again)
    trained, untouched = net.apply(params, after, x, training=True)
    np.testing.assert_allclose(trained, y, atol=1e-6)
    assert untouched is after or jax.tree.all(jax.tree.map(jnp.array_equal, untouched, after))


def test_a_full_cache_is_an_error_or_nan(key):
    x = normal(np.random.default_rng(12), (2, 3, 8))
    net = jn.Sequential(jn.Attention(2, causal=True, cache=4))
    params, state = net.init(key, x)
    _, state = net.apply(params, state, x)
    with pytest.raises(jn.JaxNodesError, match=r"^attention1: expected at most 4 .* got 6"):
        net.apply(params, state, x)

    def loss(params, state, x):
        y, state = net.apply(params, state, x)
        return y.sum(), (y, state)

    gradient, (y, state) = jax.jit(jax.grad(loss, has_aux=True))(params, state, x)
    assert np.isnan(y).all()
    assert all(np.isnan(g).any() for g in jax.tree.leaves(gradient["attention1"]["w_o"]))
    y, _ = jax.jit(net.apply)(params, state, x[:, :1])
    assert np.isnan(y).all()
    with pytest.raises(jn.JaxNodesError, match="expected at most 4 steps"):
        jax.jit(net.apply)(params, state, jnp.ones((2, 5, 8)))


# nodes --------------------------------------------------------------------------------------


def test_heads_are_nodes(key):
    x = normal(np.random.default_rng(13), (2, 5, 8))
    params = jn.attention_init(key, 8, 2)
    jaxpr = jax.make_jaxpr(jn.attention)(params, x)
    (equation,) = (e for e in jaxpr.eqns if e.primitive.name == "node")
    assert equation.outvars[0].aval.shape == (2, 5, 2, 4)
    assert equation.params["axis"] == 2
    assert equation.params["name"] is None


def test_record_and_intervene_on_heads(key):
    x = normal(np.random.default_rng(13), (2, 5, 8))
    net = jn.Sequential(jn.Attention(2))
    variables = params, _ = net.init(key, x)
    y, nodes = jn.record(net.predict)(variables, x)
    own = params["attention1"]
    assert nodes["attention1"].shape == (2, 5, 2, 4)
    mixed = jnp.einsum("bthd,hdo->bto", nodes["attention1"], own["w_o"]) + own["b_o"]
    np.testing.assert_allclose(y, mixed, atol=1e-6)
    gate = jnp.array([1.0, 0.0])
    gated = jn.intervene(net.predict)({"attention1": gate}, variables, x)
    without = own | {"w_o": own["w_o"].at[1].set(0)}
    np.testing.assert_allclose(gated, jn.attention(without, x), atol=1e-6)


# errors -------------------------------------------------------------------------------------


Q = np.ones((2, 5, 4, 3), np.float32)
X = np.ones((2, 5, 8), np.float32)
PARAMS = {f"w_{name}": np.ones((8, 2, 4), np.float32) for name in "qkv"}
PARAMS["w_o"] = np.ones((2, 4, 8), np.float32)


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (X[..., 1:], {}, r"expected inputs \(\.\.\., steps, 8\), got \(2, 5, 7\)"),
        (X[0, 0], {}, r"expected inputs \(\.\.\., steps, 8\), got \(8,\)"),
        (X.astype(int), {}, "scale it to floats"),
        (X, {"memory": X[..., 1:]}, r"expected memory \(\.\.\., steps, 8\), got \(2, 5, 7\)"),
        (X, {"memory": X[:1]}, r"batch axes of x, \(2,\), got \(1, 5, 8\)"),
        (X, {"memory": X.astype(int)}, "scale it to floats"),
        (X, {"memory": X, "rotary": True}, "got a memory"),
        (X, {"mask": np.ones((2, 5))}, "expected a boolean mask"),
        (
            X,
            {"mask": np.ones(5, bool)},
            r"\(2, 5\), \(2, 5, 5\) or \(2, 2, 5, 5\), got bool \(5,\)",
        ),
    ],
)
def test_errors_of_attention(x, options, message):
    for function in (jn.attention, jn.attention_weights):
        with pytest.raises(jn.JaxNodesError, match=message):
            function(PARAMS, x, **options)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"w_q": PARAMS["w_q"]}, "expected the parameters"),
        (PARAMS | {"b_q": np.ones((2, 4), np.float32)}, "expected the parameters"),
        (PARAMS | {"w_v": np.ones((8, 2, 3), np.float32)}, r"expected 'w_v' of shape \(8, 2, 4\)"),
        (PARAMS | {"w_o": np.ones((8, 8), np.float32)}, r"expected 'w_o' of shape \(2, 4, any\)"),
        (None, "expected the parameters"),
    ],
)
def test_parameters_must_fit_each_other(params, message):
    with pytest.raises(jn.JaxNodesError, match=message):
        jn.attention(params, X)


@pytest.mark.parametrize(
    ("k", "v", "options", "message"),
    [
        (Q[:, :, :3], Q, {}, "kv_heads a divisor of heads, got"),
        (Q[:, :0], Q[:, :0], {}, "S at least 1"),
        (Q[0], Q[0], {}, "expected queries"),
        (Q.astype(np.float16), Q, {}, "one floating dtype"),
        (Q, Q[:, :3], {}, "expected values like the keys"),
        (Q, Q.astype(np.float16), {}, "expected values like the keys"),
        (Q, Q, {"rate": 1.5, "key": jax.random.key(0)}, "rate to drop"),
        (Q, Q, {"rate": 0.5}, "typed PRNG key"),
    ],
)
def test_errors_of_dot_product_attention(k, v, options, message):
    with pytest.raises(jn.JaxNodesError, match=message):
        jn.dot_product_attention(Q, k, v, **options)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((8, 3), {}, "features that 3 heads can share, got 8"),
        ((8, 4), {"kv_heads": 3}, "kv_heads to divide the 4 heads, got 3"),
        ((8, 4), {"kv_features": 0}, "kv_features to be a whole number"),
        ((8, 4), {"out_features": 1.0}, "out_features to be a whole number"),
    ],
)
def test_errors_of_attention_init(arguments, options, message, key):
    with pytest.raises(jn.JaxNodesError, match=message):
        jn.attention_init(key, *arguments, **options)
    with pytest.raises(jn.JaxNodesError, match="typed PRNG key"):
        jn.attention_init(np.zeros(2, np.uint32), 8, 4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: jn.Attention(0), "heads to be a whole number"),
        (lambda: jn.Attention(4, kv_heads=3), "to divide the 4 heads, got 3"),
        (lambda: jn.Attention(4, head_features=0), "head_features to be a whole number"),
        (lambda: jn.Attention(4, cache=8), "expected causal=True"),
        (lambda: jn.Attention(4, cache=0, causal=True), "cache to be a whole number"),
        (lambda: jn.Attention(4, dropout=1.0), "rate to drop"),
        (lambda: jn.CrossAttention(4, w_init="nothing"), "an initializer"),
    ],
)
def test_constructors_validate_at_once(make, message):
    with pytest.raises(jn.JaxNodesError, match=message):
        make()


def test_errors_name_the_layer(key):
    x = jnp.ones((2, 5, 8))
    net = jn.Sequential(jn.Attention(2, causal=True, cache=5))
    params, state = net.init(key, x)
    with pytest.raises(jn.JaxNodesError, match=r"^attention1: expected the cache .*\(1, 5, 2, 4\)"):
        net.apply(params, state, x[:1])
    with pytest.raises(jn.JaxNodesError, match=r"^attention1: expected no mask"):
        net.apply(params, state, (x, jnp.ones((2, 5), bool)))
    with pytest.raises(jn.JaxNodesError, match=r"^attention1: expected 'w_q' of shape \(6, 2, 3\)"):
        net.apply(params, state, x[..., 2:])
    with pytest.raises(jn.JaxNodesError, match=r"^attention1: expected sequences"):
        net.init(key, jnp.ones(8))
    with pytest.raises(jn.JaxNodesError, match=r"expected \(x, memory\) or"):
        jn.CrossAttention(2).init(key, x)


def test_layers_print_and_hash():
    layer = jn.Attention(8, causal=True, cache=128)
    assert repr(layer) == "Attention(8, causal=True, cache=128)"
    assert hash(layer) == hash(dataclasses.replace(layer))
    assert repr(jn.CrossAttention(8, dropout=0.1)) == "CrossAttention(8, dropout=0.1)"
