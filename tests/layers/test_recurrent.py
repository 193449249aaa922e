"""Recurrent functions and layers against NumPy, torch, flax, equinox and haiku."""

import dataclasses

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import jaxnodes as jn
from jaxnodes.layers.sequences import split_mask

pytestmark = pytest.mark.usefixtures("quick")

KINDS = ["simple_rnn", "lstm", "gru"]
INITS = {"simple_rnn": jn.simple_rnn_init, "lstm": jn.lstm_init, "gru": jn.gru_init}
CELLS = {"simple_rnn": jn.simple_rnn_cell, "lstm": jn.lstm_cell, "gru": jn.gru_cell}
RUNS = {"simple_rnn": jn.simple_rnn, "lstm": jn.lstm, "gru": jn.gru}
LAYERS = {"simple_rnn": jn.SimpleRNN, "lstm": jn.LSTM, "gru": jn.GRU}


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    with jax.enable_x64(request.param == "float64"):
        yield jnp.dtype(request.param)


def problem(kind, seed, dtype=jnp.float32):
    """Random sizes, parameters, inputs, initial carry and mask."""
    rng = np.random.default_rng(seed)
    batch, steps, inputs, features = rng.integers(2, 7, 4).tolist()
    gates, biases = {"simple_rnn": (1, 1), "lstm": (4, 4), "gru": (3, 4)}[kind]

    def normal(*shape):
        return jnp.asarray(rng.normal(size=shape), dtype)

    params = {
        "w_i": normal(inputs, gates * features),
        "w_h": normal(features, gates * features),
        "b": normal(biases * features),
    }
    h, c = normal(batch, features), normal(batch, features)
    mask = jn.lengths_to_mask(rng.integers(0, steps + 1, batch), steps)
    return params, normal(batch, steps, inputs), (h, c) if kind == "lstm" else h, mask


def weighted(result):
    """One number in which every output counts differently."""
    rng = np.random.default_rng(0)
    leaves = jax.tree.leaves(result)
    return sum(jnp.sum(y * jnp.asarray(rng.normal(size=y.shape), y.dtype)) for y in leaves)


def with_gradients(f, arguments):
    """The outputs of `f`, and the gradients in all its arguments."""

    def loss(*arguments):
        outputs = f(*arguments)
        return weighted(outputs), outputs

    which = tuple(range(len(arguments)))
    gradients, outputs = jax.jit(jax.grad(loss, which, has_aux=True))(*arguments)
    return outputs, gradients


def assert_close(ours, theirs, dtype):
    close = {"float32": {"rtol": 1e-4, "atol": 1e-5}, "float64": {"rtol": 1e-9, "atol": 1e-11}}
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **close[dtype.name]), ours, theirs)


def assert_same(ours, theirs, arguments, dtype):
    """Equal outputs, and equal gradients in all the arguments."""
    assert_close(with_gradients(ours, arguments), with_gradients(theirs, arguments), dtype)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def numpy_step(kind, params, carry, x):
    """The equations of the docstrings and of torch's documentation."""
    w_i, w_h, b = (np.asarray(params[name]) for name in ("w_i", "w_h", "b"))
    if kind == "simple_rnn":
        return np.tanh(x @ w_i + carry @ w_h + b)
    if kind == "lstm":
        h, c = carry
        i, f, g, o = np.split(x @ w_i + h @ w_h + b, 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c
    b_r, b_z, b_in, b_hn = np.split(b, 4)
    w_ir, w_iz, w_in = np.split(w_i, 3, axis=1)
    w_hr, w_hz, w_hn = np.split(w_h, 3, axis=1)
    r = sigmoid(x @ w_ir + carry @ w_hr + b_r)
    z = sigmoid(x @ w_iz + carry @ w_hz + b_z)
    n = np.tanh(x @ w_in + b_in + r * (carry @ w_hn + b_hn))
    return (1 - z) * n + z * carry


def numpy_run(kind, params, x, carry, mask, reverse=False, gate=1.0):
    """Sample by sample, step by step, over the valid steps only."""
    outputs = np.zeros((*x.shape[:2], params["w_h"].shape[0]), x.dtype)
    x, lasts = np.asarray(x), []
    for sample in range(len(x)):
        state = jax.tree.map(lambda a, sample=sample: np.asarray(a)[sample], carry)
        steps = np.flatnonzero(mask[sample])
        for t in steps[::-1] if reverse else steps:
            state = numpy_step(kind, params, state, x[sample, t])
            state = (state[0] * gate, state[1]) if kind == "lstm" else state * gate
            outputs[sample, t] = state[0] if kind == "lstm" else state
        lasts.append(state)
    return outputs, jax.tree.map(lambda *a: np.stack(a), *lasts)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reverse", [False, True])
def test_values_are_the_equations(kind, reverse, dtype):
    params, x, carry, mask = problem(kind, 1, dtype)
    ours = RUNS[kind](params, x, initial=carry, mask=mask, reverse=reverse)
    theirs = numpy_run(kind, params, x, carry, mask, reverse)
    assert_close(ours, theirs, dtype)
    assert ours[0].dtype == dtype


@pytest.mark.parametrize("kind", KINDS)
def test_cell_is_one_step(kind, dtype):
    params, x, carry, _ = problem(kind, 2, dtype)
    ours = CELLS[kind](params, carry, x[:, 0])
    theirs = numpy_step(kind, params, jax.tree.map(np.asarray, carry), np.asarray(x[:, 0]))
    assert_close(ours, theirs, dtype)


@pytest.mark.parametrize("kind", KINDS)
def test_forward_mode(kind):
    with jax.enable_x64(True):
        params, x, carry, mask = problem(kind, 3, jnp.float64)

        @jax.jit
        def f(params, x, carry):
            return RUNS[kind](params, x, initial=carry, mask=mask)

        check_grads(f, (params, x, carry), order=1, modes=["fwd"])


# flax -----------------------------------------------------------------------------------


def flax_params(kind, params):
    w_i, w_h, b = params["w_i"], params["w_h"], params["b"]
    if kind == "simple_rnn":
        return {"i": {"kernel": w_i, "bias": b}, "h": {"kernel": w_h}}
    if kind == "lstm":
        kernels_i, kernels_h, biases = (jnp.split(p, 4, axis=-1) for p in (w_i, w_h, b))
        inputs = {f"i{gate}": {"kernel": k} for gate, k in zip("ifgo", kernels_i, strict=True)}
        hidden = {
            f"h{gate}": {"kernel": k, "bias": c}
            for gate, k, c in zip("ifgo", kernels_h, biases, strict=True)
        }
        return inputs | hidden
    (ir, iz, in_), (hr, hz, hn) = (jnp.split(p, 3, axis=-1) for p in (w_i, w_h))
    b_r, b_z, b_in, b_hn = jnp.split(b, 4)
    return {
        "ir": {"kernel": ir, "bias": b_r},
        "iz": {"kernel": iz, "bias": b_z},
        "in": {"kernel": in_, "bias": b_in},
        "hr": {"kernel": hr},
        "hz": {"kernel": hz},
        "hn": {"kernel": hn, "bias": b_hn},
    }


@pytest.mark.parametrize(
    ("kind", "cell"),
    [
        ("simple_rnn", nn.SimpleCell),
        ("lstm", nn.LSTMCell),
        ("lstm", nn.OptimizedLSTMCell),
        ("gru", nn.GRUCell),
    ],
)
def test_flax(kind, cell, dtype):
    params, x, carry, _ = problem(kind, 4, dtype)
    reverse = dtype == jnp.float64
    features = params["w_h"].shape[0]
    module = nn.RNN(cell(features, param_dtype=dtype), return_carry=True)

    def ours(params, x, carry):
        return RUNS[kind](params, x, initial=carry, reverse=reverse)

    def theirs(params, x, carry):
        carry = carry[::-1] if kind == "lstm" else carry
        variables = {"params": {"cell": flax_params(kind, params)}}
        carry, outputs = module.apply(
            variables, x, initial_carry=carry, reverse=reverse, keep_order=True
        )
        return outputs, carry[::-1] if kind == "lstm" else carry

    assert_same(ours, theirs, (params, x, carry), dtype)


# equinox and haiku ----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64"], indirect=True)
def test_equinox_lstm(dtype):
    params, x, carry, _ = problem("lstm", 5, dtype)
    cell = eqx.nn.LSTMCell(x.shape[-1], params["w_h"].shape[0], key=jax.random.key(0))

    def theirs(params, x, carry):
        where = [params["w_i"].T, params["w_h"].T, params["b"]]
        theirs = eqx.tree_at(lambda c: [c.weight_ih, c.weight_hh, c.bias], cell, where)
        return jax.vmap(theirs)(x, carry)

    assert_same(lambda p, x, c: jn.lstm_cell(p, c, x), theirs, (params, x[:, 0], carry), dtype)


@pytest.mark.parametrize("dtype", ["float64"], indirect=True)
def test_equinox_gru(dtype):
    params, x, carry, _ = problem("gru", 6, dtype)
    features = params["w_h"].shape[0]
    cell = eqx.nn.GRUCell(x.shape[-1], features, key=jax.random.key(0))

    def theirs(params, x, carry):
        b, b_n = jnp.split(params["b"], [3 * features])
        where = [params["w_i"].T, params["w_h"].T, b, b_n]
        theirs = eqx.tree_at(lambda c: [c.weight_ih, c.weight_hh, c.bias, c.bias_n], cell, where)
        return jax.vmap(theirs)(x, carry)

    assert_same(lambda p, x, c: jn.gru_cell(p, c, x), theirs, (params, x[:, 0], carry), dtype)


@pytest.mark.parametrize("dtype", ["float64"], indirect=True)
def test_haiku_orders_the_gates_otherwise(dtype):
    hk = pytest.importorskip("haiku")
    params, x, carry, _ = problem("lstm", 7, dtype)
    features = params["w_h"].shape[0]
    transformed = hk.without_apply_rng(
        hk.transform(lambda x, state: hk.LSTM(features)(x, hk.LSTMState(*state)))
    )

    def theirs(params, x, carry):
        w = jnp.concatenate([params["w_i"], params["w_h"]])
        (i, f, g, o), (b_i, b_f, b_g, b_o) = (jnp.split(p, 4, axis=-1) for p in (w, params["b"]))
        linear = {
            "w": jnp.concatenate([i, g, f, o], axis=-1),
            "b": jnp.concatenate([b_i, b_g, b_f - 1, b_o]),
        }
        _, (h, c) = transformed.apply({"lstm/linear": linear}, x, carry)
        return h, c

    assert_same(lambda p, x, c: jn.lstm_cell(p, c, x), theirs, (params, x[:, 0], carry), dtype)


# torch ----------------------------------------------------------------------------------


def torch_weights(kind, params):
    """`weight_ih, weight_hh, bias_ih, bias_hh` of torch, from ours."""
    b = np.asarray(params["b"])
    if kind == "gru":
        b_r, b_z, b_in, b_hn = np.split(b, 4)
        zero = np.zeros_like(b_r)
        biases = [np.concatenate([b_r, b_z, b_in]), np.concatenate([zero, zero, b_hn])]
    else:
        biases = [b, np.zeros_like(b)]
    return [np.asarray(params["w_i"]).T, np.asarray(params["w_h"]).T, *biases]


def from_torch(kind, arrays):
    """Our gradients, from torch's."""
    w_i, w_h, b_i, b_h = arrays
    b = b_i if kind != "gru" else np.concatenate([b_i, b_h[-len(b_h) // 3 :]])
    return {"w_i": w_i.T, "w_h": w_h.T, "b": b}


@pytest.mark.parametrize("kind", KINDS)
def test_torch_with_packed_lengths_both_ways(kind, dtype):
    torch = pytest.importorskip("torch")
    params, x, carry, _ = problem(kind, 8, dtype)
    more = jax.tree.map(lambda p: jnp.roll(p, 1), (params, carry))
    params, carry = [params, more[0]], [carry, more[1]]
    lengths = np.random.default_rng(8).integers(1, x.shape[1] + 1, len(x))
    lengths[0] = x.shape[1]
    mask = jn.lengths_to_mask(lengths, x.shape[1])

    def ours(params, x, carry):
        ways = [
            RUNS[kind](p, x, initial=c, mask=mask, reverse=bool(way))
            for way, (p, c) in enumerate(zip(params, carry, strict=True))
        ]
        last = jax.tree.map(lambda *a: jnp.stack(a), *(last for _, last in ways))
        return jnp.concatenate([y for y, _ in ways], axis=-1), last

    module = {"simple_rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[kind](
        x.shape[-1], params[0]["w_h"].shape[0], batch_first=True, bidirectional=True
    ).to(getattr(torch, dtype.name))
    weights = list(module.parameters())
    with torch.no_grad():
        for weight, value in zip(
            weights, [w for p in params for w in torch_weights(kind, p)], strict=True
        ):
            weight.copy_(torch.tensor(value))
    x_t = torch.tensor(np.asarray(x), requires_grad=True)
    stacked = jax.tree.map(lambda *a: np.stack(a), *carry)
    carry_t = jax.tree.map(lambda a: torch.tensor(a, requires_grad=True), stacked)
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        x_t, torch.tensor(lengths), batch_first=True, enforce_sorted=False
    )
    outputs, last = module(packed, carry_t)
    outputs, _ = torch.nn.utils.rnn.pad_packed_sequence(outputs, batch_first=True)
    theirs = (outputs, last)
    rng = np.random.default_rng(0)
    sum(
        (y * torch.tensor(rng.normal(size=y.shape).astype(dtype.name))).sum()
        for y in jax.tree.leaves(theirs)
    ).backward()
    arrays = [w.grad.numpy() for w in weights]
    gradients = (
        [from_torch(kind, arrays[4 * way : 4 * way + 4]) for way in range(2)],
        x_t.grad.numpy(),
        [jax.tree.map(lambda c, way=way: c.grad[way].numpy(), carry_t) for way in range(2)],
    )
    expected = jax.tree.map(lambda a: a.detach().numpy(), theirs), gradients
    assert_close(with_gradients(ours, (params, x, carry)), expected, dtype)


# masks, chunks, shapes ------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_nan_in_the_padding_goes_nowhere(kind):
    params, x, carry, _ = problem(kind, 8)
    mask = jnp.ones(x.shape[:2], bool).at[:, -1].set(False).at[0].set(False)
    spoilt = jnp.where(mask[..., None], x, jnp.nan)

    def loss(params, x, carry):
        return weighted(RUNS[kind](params, x, initial=carry, mask=mask))

    gradient = jax.jit(jax.value_and_grad(loss, (0, 1, 2)))
    clean, dirty = gradient(params, x, carry), gradient(params, spoilt, carry)
    jax.tree.map(np.testing.assert_array_equal, clean, dirty)
    assert not np.any(clean[1][1][0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("change", [lambda a: a[:, None], lambda a: a[0]], ids=["more", "none"])
def test_any_leading_axes(kind, change):
    params, x, carry, mask = problem(kind, 8)
    whole = RUNS[kind](params, x, initial=carry, mask=mask)
    x, carry, mask = jax.tree.map(change, (x, carry, mask))
    ours = RUNS[kind](params, x, initial=carry, mask=mask)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, change(b), atol=1e-6), ours, whole)


@pytest.mark.parametrize("kind", KINDS)
def test_no_steps_at_all(kind):
    params, x, carry, _ = problem(kind, 8)
    outputs, last = RUNS[kind](params, x[:, :0], initial=carry)
    assert outputs.shape == (len(x), 0, params["w_h"].shape[0])
    jax.tree.map(np.testing.assert_array_equal, last, carry)


def test_simple_rnn_takes_another_activation():
    params, x, carry, _ = problem("simple_rnn", 8)
    outputs, _ = jn.simple_rnn(params, x[:, :1], initial=carry, activation=jax.nn.relu)
    expected = np.maximum(x[:, 0] @ params["w_i"] + carry @ params["w_h"] + params["b"], 0)
    np.testing.assert_allclose(outputs[:, 0], expected, atol=1e-6)
    layer = jn.SimpleRNN(params["w_h"].shape[0], "relu")
    outputs = layer.predict((params, {}), x)
    np.testing.assert_allclose(
        outputs, jn.simple_rnn(params, x, activation=jax.nn.relu)[0], atol=1e-6
    )


def test_lengths_to_mask():
    mask = jn.lengths_to_mask(np.array([[0, 2], [3, 1]], np.uint8), 300)
    assert mask.shape == (2, 2, 300)
    np.testing.assert_array_equal(mask.sum(axis=-1), [[0, 2], [3, 1]])
    np.testing.assert_array_equal(mask[1, 0, :4], [True, True, True, False])
    for lengths in ([4], [-1], [2**33]):
        with pytest.raises(jn.JaxNodesError, match=r"expected lengths from 0 to 3"):
            jn.lengths_to_mask(np.array(lengths), 3)
    with pytest.raises(jn.JaxNodesError, match="whole numbers"):
        jn.lengths_to_mask(jnp.ones(2), 3)


# parameters -----------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "gates"), [("simple_rnn", 1), ("lstm", 4), ("gru", 3)])
def test_each_gate_is_drawn_on_its_own(kind, gates, key):
    params = INITS[kind](key, 30, 20)
    limit = np.sqrt(6 / (30 + 20))  # of one gate; all gates at once would give less
    for w in np.split(np.asarray(params["w_i"]), gates, axis=1):
        assert 0.97 * limit < np.abs(w).max() <= limit
    for w in np.split(np.asarray(params["w_h"]), gates, axis=1):
        np.testing.assert_allclose(w @ w.T, np.eye(20), atol=1e-5)
    assert not params["b"].any()
    assert len({float(w[0, 0]) for w in np.split(params["w_i"], gates, axis=1)}) == gates


def test_forget_bias(key):
    b = jn.lstm_init(key, 2, 3, forget_bias=1.0)["b"]
    np.testing.assert_array_equal(b, np.repeat([0, 1, 0, 0], 3))
    params, _ = jn.LSTM(3, forget_bias=1.0).init(key, jnp.ones((1, 1, 2)))
    np.testing.assert_array_equal(params["b"], b)


@pytest.mark.parametrize("kind", KINDS)
def test_layer_options_reach_init(kind, key):
    layer = LAYERS[kind](3, w_init="ones", recurrent_init="zeros", b_init=jn.constant(0.5))
    params, state = layer.init(key, jax.ShapeDtypeStruct((2, 5, 4), jnp.float16))
    assert state == {}
    for name, value in (("w_i", 1), ("w_h", 0), ("b", 0.5)):
        assert params[name].dtype == jnp.float16
        assert np.all(params[name] == value)


# layers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("reverse", "masked"), [(False, True), (True, False)])
def test_layer_is_the_function(kind, reverse, masked):
    params, x, _, mask = problem(kind, 9)
    layer = LAYERS[kind](params["w_h"].shape[0], reverse=reverse)
    expected, _ = RUNS[kind](params, x, mask=mask if masked else None, reverse=reverse)
    y = jax.jit(layer.predict)((params, {}), (x, mask) if masked else x)
    assert isinstance(y, tuple) == masked
    y, given = split_mask(y, kind)
    np.testing.assert_allclose(y, expected, atol=1e-6)
    if masked:
        np.testing.assert_array_equal(given, mask)


@pytest.mark.parametrize("kind", KINDS)
def test_chunks_go_on_where_the_last_one_ended(kind, dtype, key):
    masked = dtype == jnp.float64
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 8, 2)), dtype)
    mask = jn.lengths_to_mask(np.array([8, 6, 2]), 8)
    net = jn.Sequential(LAYERS[kind](4, stateful=True, recurrent_init="xavier_uniform"))
    params, fresh = net.init(key, (x, mask) if masked else x)
    names = {"h", "c"} if kind == "lstm" else {"h"}
    assert set(fresh[f"{kind}1"]) == names
    assert all(v.shape == (3, 4) and v.dtype == dtype for v in fresh[f"{kind}1"].values())

    state, chunks = fresh, []
    for chunk in (slice(0, 4), slice(4, 8)):
        part = (x[:, chunk], mask[:, chunk]) if masked else x[:, chunk]
        y, state = jax.jit(net.apply)(params, state, part)
        chunks.append(split_mask(y, kind)[0])
    whole, last = RUNS[kind](params[f"{kind}1"], x, mask=mask if masked else None)
    assert_close(jnp.concatenate(chunks, axis=1), whole, dtype)
    carried = state[f"{kind}1"]
    carried = (carried["h"], carried["c"]) if kind == "lstm" else carried["h"]
    assert_close(carried, last, dtype)
    assert jax.tree.all(jax.tree.map(lambda a: not a.any(), jn.reset_state(state)))
    assert jax.tree.structure(jn.reset_state(state)) == jax.tree.structure(fresh)


def test_reset_state_leaves_other_state_alone():
    state = {
        "batch_norm1": {"mean": jnp.ones(2), "var": jnp.ones(2)},
        "body": {"lstm1": {"h": jnp.ones(2), "c": jnp.ones(2)}, "counter": {"steps": jnp.ones(())}},
        "attention1": {"k": jnp.ones(2), "v": jnp.ones(2), "index": jnp.array(3)},
        "positions": {"index": jnp.array(3)},
        "named": {"h": {"mean": jnp.ones(2)}},
    }
    reset = jn.reset_state(state)
    sums = jax.tree.map(lambda a: float(a.sum()), reset)
    assert sums == {
        "batch_norm1": {"mean": 2, "var": 2},
        "body": {"lstm1": {"h": 0, "c": 0}, "counter": {"steps": 1}},
        "attention1": {"k": 0, "v": 0, "index": 0},
        "positions": {"index": 0},
        "named": {"h": {"mean": 2}},
    }
    assert float(state["body"]["lstm1"]["h"].sum()) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision(kind, key):
    _, x, _, _ = problem(kind, 9)
    options = {"dtype": jnp.bfloat16, "stateful": True, "recurrent_init": "xavier_uniform"}
    layer = LAYERS[kind](4, **options)
    params, state = layer.init(key, x)
    assert {p.dtype for p in params.values()} == {jnp.dtype("float32")}
    y, after = layer.apply(params, state, x)
    assert y.dtype == jnp.bfloat16
    assert jax.tree.map(jnp.result_type, after) == jax.tree.map(jnp.result_type, state)
    full = RUNS[kind](params, x)[0]
    np.testing.assert_allclose(y.astype(jnp.float32), full, atol=0.05)


@pytest.mark.parametrize(("kind", "merge"), [("lstm", "concat"), ("gru", "sum")])
def test_bidirectional(kind, merge, key):
    _, x, _, mask = problem(kind, 10)
    layer = jn.Bidirectional(LAYERS[kind](4, recurrent_init="ones"), merge=merge)
    params, state = layer.init(key, (x, mask))
    assert state == {}
    assert set(params) == {"forward", "backward"}
    assert np.any(params["forward"]["w_i"] != params["backward"]["w_i"])
    forward, _ = RUNS[kind](params["forward"], x, mask=mask)
    backward, _ = RUNS[kind](params["backward"], x, mask=mask, reverse=True)
    expected = forward + backward if merge == "sum" else np.concatenate([forward, backward], -1)
    y, given = layer.predict((params, state), (x, mask))
    np.testing.assert_allclose(y, expected, atol=1e-6)
    np.testing.assert_array_equal(given, mask)
    plain = layer.predict((params, state), x)
    assert plain.shape == expected.shape


def test_last_step(key):
    x = jax.random.normal(key, (3, 5, 2))
    mask = jnp.array([[1, 1, 1, 1, 1], [1, 0, 1, 0, 0], [0, 0, 0, 0, 0]], bool)
    layer = jn.LastStep()
    np.testing.assert_array_equal(layer.predict(({}, {}), x), x[:, -1])
    y = layer.predict(({}, {}), (x, mask))
    np.testing.assert_array_equal(y, [x[0, 4], x[1, 2], [0, 0]])
    assert layer.init(key, x) == ({}, {})


def test_masked_layers_chain(key):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 3)), jnp.float32)
    mask = jn.lengths_to_mask(np.array([5, 3]), 5)
    net = jn.Sequential(jn.LSTM(4), jn.Bidirectional(jn.GRU(3)), jn.LastStep(), jn.Dense(2))
    variables = params, _ = net.init(key, (x, mask))
    assert set(params) == {"lstm1", "bidirectional1", "dense1"}
    y = jax.jit(net.predict)(variables, (x, mask))
    alone = jax.jit(net.predict)(variables, x[1:, :3])
    np.testing.assert_allclose(y[1:], alone, atol=1e-6)


# nodes ----------------------------------------------------------------------------------


def scan_bodies(jaxpr):
    """The bodies of all loops; newer versions of JAX keep an inlined jit as an equation."""
    for equation in jaxpr.eqns:
        inner = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
        if equation.primitive.name == "scan":
            yield inner
        elif inner is not None:
            yield from scan_bodies(inner)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("masked", [False, True])
def test_one_node_inside_the_loop(kind, masked):
    params, x, _, mask = problem(kind, 8)
    mask = mask if masked else None
    traced = jax.make_jaxpr(lambda p, x: RUNS[kind](p, x, mask=mask))(params, x)
    (body,) = scan_bodies(traced.jaxpr)
    body = getattr(body, "jaxpr", body)
    (equation,) = (e for e in body.eqns if e.primitive.name == "node")
    assert equation.params["name"] is None
    assert equation.params["axis"] == 1
    assert equation.outvars[0].aval.shape == (len(x), params["w_h"].shape[0])
    if not masked:
        assert body.outvars[0] is equation.outvars[0]  # what goes on is the node


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("reverse", "masked"), [(False, False), (True, True)])
def test_record_and_intervene(kind, reverse, masked):
    params, x, _, mask = problem(kind, 8)
    features = params["w_h"].shape[0]
    layer = LAYERS[kind](features, reverse=reverse)
    net = jn.Sequential(layer)
    variables = ({f"{kind}1": params}, {})
    inputs = (x, mask) if masked else x
    mask = mask if masked else jnp.ones_like(mask)
    y, nodes = jn.record(net.predict)(variables, inputs)
    outputs = split_mask(y, kind)[0]
    assert list(nodes) == [f"{kind}1"]
    np.testing.assert_allclose(nodes[f"{kind}1"], jnp.moveaxis(outputs, 1, 0), atol=1e-6)

    gate = np.random.default_rng(0).uniform(size=features).astype(np.float32)
    y = jn.intervene(net.predict)({f"{kind}1": jnp.asarray(gate)}, variables, inputs)
    zeros = np.zeros((len(x), features), np.float32)
    carry = (zeros, zeros) if kind == "lstm" else zeros
    expected, _ = numpy_run(kind, params, x, carry, mask, reverse, gate)
    np.testing.assert_allclose(split_mask(y, kind)[0], expected, atol=1e-5)


# errors ---------------------------------------------------------------------------------


def sized(batch, steps, features):
    return jnp.ones((batch, steps, features))


@pytest.mark.parametrize("kind", KINDS)
def test_errors_of_functions(kind):
    run, cell = RUNS[kind], CELLS[kind]
    params = INITS[kind](jax.random.key(0), 3, 4)
    carry = (jnp.ones((2, 4)),) * 2 if kind == "lstm" else jnp.ones((2, 4))
    wrong = jax.tree.map(lambda c: c[:1], carry)
    cases = {
        "expected 3 features on the last axis, got 2": lambda: run(params, sized(2, 5, 2)),
        "expected sequences": lambda: run(params, jnp.ones(3)),
        r"carried h as float32 \(2, 4\), got float32 \(1, 4\)": lambda: run(
            params, sized(2, 5, 3), initial=wrong
        ),
        r"expected a boolean mask of shape \(2, 5\)": lambda: run(
            params, sized(2, 5, 3), mask=jnp.ones((2, 5))
        ),
        r"mask of shape \(2, 5\), .* got bool \(5,\)": lambda: run(
            params, sized(2, 5, 3), mask=jnp.ones(5, bool)
        ),
        r"expected the parameters \['b', 'w_h', 'w_i'\]": lambda: run(
            {"w_i": params["w_i"]}, sized(2, 5, 3)
        ),
        r"expected 'b' of shape": lambda: run(params | {"b": jnp.ones(5)}, sized(2, 5, 3)),
        "cast x": lambda: cell(params, carry, np.ones((2, 3), np.complex64)),
        "scale it to floats": lambda: cell(params, carry, jnp.ones((2, 3), int)),
    }
    for message, make in cases.items():
        with pytest.raises(jn.JaxNodesError, match=message):
            make()


def test_lstm_carry_is_a_pair():
    params = jn.lstm_init(jax.random.key(0), 3, 4)
    with pytest.raises(jn.JaxNodesError, match=r"expected the pair \(h, c\)"):
        jn.lstm_cell(params, jnp.ones((2, 4)), jnp.ones((2, 3)))


def test_errors_name_the_layer(key):
    net = jn.Sequential(jn.Dense(4), jn.LSTM(5))
    dense = jn.dense_init(key, 3, 4)
    gru = {"w_i": jnp.ones((4, 15)), "w_h": jnp.ones((5, 15)), "b": jnp.ones(20)}
    with pytest.raises(jn.JaxNodesError, match=r"^lstm1: expected 'w_i' of shape \(any, 20\)"):
        net.predict(({"dense1": dense, "lstm1": gru}, {}), sized(2, 5, 3))
    lstm = {"w_i": jnp.ones((6, 20)), "w_h": jnp.ones((5, 20)), "b": jnp.ones(20)}
    with pytest.raises(jn.JaxNodesError, match=r"^lstm1: expected 6 features .* got 4"):
        net.predict(({"dense1": dense, "lstm1": lstm}, {}), sized(2, 5, 3))


@pytest.mark.parametrize("kind", KINDS)
def test_another_batch_size_is_an_error(kind, key):
    net = jn.Sequential(LAYERS[kind](4, stateful=True))
    params, state = net.init(key, sized(3, 5, 2))
    for wrong in (state, {}):
        with pytest.raises(jn.JaxNodesError, match=rf"^{kind}1: .*\(2, 4\).* batch size"):
            net.apply(params, wrong, sized(2, 5, 2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: jn.LSTM(0), "features to be a whole number"),
        (lambda: jn.GRU(2.5), "features to be a whole number"),
        (lambda: jn.SimpleRNN(3, "tanhh"), "did you mean 'tanh'"),
        (lambda: jn.LSTM(3, w_init="orthogonl"), "did you mean 'orthogonal'"),
        (lambda: jn.LSTM(3, forget_bias="1"), "forget_bias to be a finite number"),
        (lambda: jn.Bidirectional(jn.Dense(3)), "expected a recurrent layer"),
        (lambda: jn.Bidirectional(jn.LSTM(3, reverse=True)), "reverse=False"),
        (lambda: jn.Bidirectional(jn.LSTM(3, stateful=True)), "not stateful"),
        (lambda: jn.Bidirectional(jn.LSTM(3), merge="mul"), "'concat' or 'sum'"),
    ],
)
def test_constructors_validate_at_once(make, message):
    with pytest.raises(jn.JaxNodesError, match=message):
        make()


def test_other_inputs_are_errors(key):
    layer = jn.LSTM(3)
    with pytest.raises(jn.JaxNodesError, match="expected sequences"):
        layer.init(key, jnp.ones(3))
    params, state = layer.init(key, sized(2, 5, 3))
    with pytest.raises(jn.JaxNodesError, match=r"expected x or the pair \(x, mask\), got 3"):
        layer.apply(params, state, (sized(2, 5, 3),) * 3)
    with pytest.raises(jn.JaxNodesError, match="at least one step"):
        jn.LastStep().predict(({}, {}), sized(2, 0, 3))
    with pytest.raises(jn.JaxNodesError, match="typed PRNG key"):
        jn.gru_init(np.zeros(2, np.uint32), 2, 3)


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (jn.SimpleRNN(16), "SimpleRNN(16)"),
        (jn.SimpleRNN(16, "relu"), "SimpleRNN(16, activation=relu)"),
        (jn.LSTM(3, forget_bias=1.0, reverse=True), "LSTM(3, reverse=True, forget_bias=1.0)"),
        (jn.Bidirectional(jn.GRU(3), merge="sum"), "Bidirectional(GRU(3), merge='sum')"),
    ],
)
def test_layers_print_and_hash(layer, text):
    assert repr(layer) == text
    assert hash(layer) == hash(dataclasses.replace(layer))
