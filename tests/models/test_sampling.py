"""Generating: with a cache as without one, as the logits say, and what is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnodes as jn
from jaxnodes.models import generate
from jaxnodes.models.sampling import likeliest
from tests.models.transformer_tools import (
    IDS,
    quick_jit,
    random_like,
    shapes,
    tiny_gpt,
    variables_of,
)

# caches -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "seed", "pieces"),
    [
        ({}, 2, [2, 1, 1, 1]),
        ({"rotary": True, "scan": True}, 2, [3, 2]),
        ({"kv_heads": 2, "scan": True}, 2, [1, 4]),
        ({"rotary": True, "kv_heads": 1, "layers": 1}, 1, [3, 1, 1]),
    ],
    ids=["learned", "rotary", "learned-grouped", "rotary-grouped"],
)
def test_decoding_with_a_cache_is_decoding_without(options, seed, pieces, x64):
    net, cached = tiny_gpt(**options), tiny_gpt(**options, cache=True)
    params, state = variables_of(cached, seed)
    # Away from the id itself, so that the likeliest ids are not one over and over.
    params["norm1"] = {"scale": -params["norm1"]["scale"], "bias": jnp.zeros(8)}
    assert shapes(net) == (shapes(cached)[0], {})
    step, logits, after = quick_jit(cached.apply), [], state
    for end, size in zip(np.cumsum(pieces), pieces, strict=True):
        piece, after = step(params, after, IDS[:, end - size : end])
        logits.append(piece)
    whole = quick_jit(net.predict)((params, {}), IDS)
    np.testing.assert_allclose(jnp.concatenate(logits, axis=1), whole, atol=1e-12)
    begun = jn.reset_state(after)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, begun, state))

    @quick_jit
    def generated(params, left):
        ways = ({"key": jax.random.key(5), "temperature": 0.7}, {"temperature": 0})
        # What an earlier run left in the cache is of no account.
        of_both = [(net, (params, {})), (cached, (params, left))]
        ids = [[generate(*of, IDS, 8, **how) for of in of_both] for how in ways]
        return ids, net.predict((params, {}), ids[1][0][:, :-1])

    ((drawn, drawn_by_cache), (ids, ids_by_cache)), logits = generated(params, after)
    assert ids.shape == (2, 13)  # one more than the network can see: the last one it needn't
    np.testing.assert_array_equal(ids[:, :5], IDS)
    np.testing.assert_array_equal(drawn, drawn_by_cache)
    np.testing.assert_array_equal(ids, ids_by_cache)
    np.testing.assert_array_equal(ids[:, 5:], np.argmax(logits[:, 4:], axis=-1))
    assert len(np.unique(ids[:, 5:])) > 1
    assert (drawn != ids).any()


def test_a_cache_in_float32_and_in_half_precision():
    net = tiny_gpt(layers=1, cache=True)
    params, state = shapes(net)
    params = random_like(params, dtype="float32")
    half = dataclasses.replace(net, dtype="bfloat16")
    uncached = dataclasses.replace(half, cache=False)
    assert shapes(half)[1]["block1"]["attention1"]["k"].dtype == jnp.bfloat16
    assert jax.eval_shape(uncached.predict, (params, {}), IDS).dtype == jnp.bfloat16

    @quick_jit
    def run(params):
        empty = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), state)
        first, after = net.apply(params, empty, IDS[:, :3])
        last, _ = net.apply(params, after, IDS[:, 3:])
        pieces = jnp.concatenate([first, last], axis=1), net.predict((params, empty), IDS)
        nets = half, uncached
        return pieces, [generate(each, (params, {}), IDS, 3, temperature=0) for each in nets]

    (pieces, whole), ids = run(params)
    np.testing.assert_allclose(pieces, whole, atol=1e-5)
    np.testing.assert_array_equal(*ids)


def test_a_full_cache_is_an_error():
    net = tiny_gpt(layers=1, cache=True)
    params, state = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes(net))
    full = jax.tree.map(lambda leaf: leaf if leaf.ndim else leaf + 8, state)
    with pytest.raises(
        jn.JaxNodesError, match="^positions: expected at most 12 .* got 13; .*reset"
    ):
        net.apply(params, full, IDS)
    assert np.isnan(quick_jit(net.apply)(params, full, IDS)[0]).any()


# drawing ------------------------------------------------------------------------------------


def chain(table, traces):
    """A network that knows which id follows which: rows of `table` are the logits."""

    def apply(params, state, x, *, key=None, training=False):
        traces.append(x.shape)
        return params["table"][x], state

    return jn.from_functions(lambda key, x: ({"table": jnp.asarray(table)}, {}), apply)


def test_generate_follows_a_chain_known_by_hand():
    table = np.full((4, 4), -5.0, np.float32)
    for before, after in [(0, 2), (2, 1), (1, 3), (3, 0)]:
        table[before, after] = 5
    traces = []
    net = chain(table, traces)
    variables = {"table": jnp.asarray(table)}, {}
    for dtype in ("int8", "uint32"):
        prompt = np.array([[1, 0], [0, 3]], dtype)
        ids = generate(net, variables, prompt, 5, temperature=0)
        np.testing.assert_array_equal(ids, [[1, 0, 2, 1, 3, 0, 2], [0, 3, 0, 2, 1, 3, 0]])
        assert ids.dtype == jnp.int32


def test_generate_draws_as_the_logits_say_and_compiles_once():
    shares = np.array([0.1, 0.2, 0.3, 0.4], np.float32)
    traces = []
    table = np.tile(np.log(shares), (4, 1))
    net, variables = chain(table, traces), ({"table": jnp.asarray(table)}, {})
    prompt = np.zeros((4000, 1), np.int32)

    def drawn(seed, **how):
        ids = generate(net, variables, prompt, 2, key=jax.random.key(seed), **how)
        return np.bincount(np.ravel(ids[:, 1:]), minlength=4) / 8000

    np.testing.assert_allclose(drawn(0), shares, atol=0.03)
    before = len(traces)
    cold = shares**2 / (shares**2).sum()
    np.testing.assert_allclose(drawn(1, temperature=0.5), cold, atol=0.03)
    assert len(traces) == before
    both = drawn(0, top_k=3, top_p=0.75)  # of 2/9, 3/9 and 4/9 the last two
    np.testing.assert_allclose(both, [0, 0, 3 / 7, 4 / 7], atol=0.03)
    np.testing.assert_array_equal(drawn(0), drawn(0))
    assert (drawn(0) != drawn(1)).any()


@pytest.mark.parametrize(
    ("top_k", "top_p", "kept"),
    [
        (None, None, [0, 1, 2, 3]),
        (1, None, [1]),
        (3, None, [0, 1, 3]),
        (4, None, [0, 1, 2, 3]),
        (None, 0.0, [1]),
        (None, 0.39, [1]),
        (None, 0.41, [1, 3]),
        (None, 0.71, [0, 1, 3]),
        (None, 1.0, [0, 1, 2, 3]),
        (2, 0.56, [1]),  # of 4/7 and 3/7
        (2, 0.58, [1, 3]),
    ],
)
def test_the_likeliest(top_k, top_p, kept):
    logits = np.log(np.array([[0.2, 0.4, 0.1, 0.3]]))
    left = likeliest(jnp.asarray(logits, jnp.float32), top_k, top_p)
    expected = np.where(np.isin(np.arange(4), kept), logits, -np.inf)
    np.testing.assert_allclose(left, expected, rtol=1e-6)


def test_generate_goes_on_with_hidden_states(key):
    def net(stateful):
        lstm = jn.LSTM(6, stateful=stateful)
        return jn.Sequential(jn.Embedding(5, 3), lstm, jn.Dense(5, w_init="xavier_normal"))

    params, _ = quick_jit(net(False).init)(key, IDS % 5)
    params = jax.tree.map(lambda p: 3 * p, params)

    @quick_jit
    def generated(params):
        nets = (net(stateful) for stateful in (False, True))
        return [generate(each, (params, {}), IDS % 5, 4, key=key) for each in nets]

    np.testing.assert_array_equal(*generated(params))


SEQUENTIAL = {"embedding1": {"w": np.ones((11, 3), np.float32)}}, {}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 9, "net": tiny_gpt(layers=1)}, r"at most 12 steps, got int32 \(2, 13\)"),
        (
            {"steps": 9},
            r"transformer_decoder: expected ids .*at most 12 steps, got int32 \(2, 13\)",
        ),
        ({"steps": 0}, "generate: expected steps to be a whole number of at least 1, got 0"),
        ({"key": None}, "generate: expected a key to draw by, got none; .* or temperature=0"),
        ({"key": np.zeros(2, np.uint32)}, "generate: expected a typed PRNG key"),
        ({"temperature": -1.0}, "temperature to be a finite number of at least 0, got -1"),
        ({"top_k": 0}, "expected top_k to be a whole number"),
        ({"top_k": 12}, "expected top_k of at most 11, got 12"),
        ({"top_p": 1.5}, "expected top_p to be a finite number between 0 and 1, got 1.5"),
        ({"prompt": IDS[0]}, r"expected prompts of integer ids \(B, T\), got int32 \(5,\)"),
        ({"prompt": IDS[:, :0]}, r"expected prompts of integer ids \(B, T\), got int32 \(2, 0\)"),
        ({"prompt": IDS * 1.0}, "expected prompts of integer ids"),
        (
            {"net": jn.Embedding(5, 5), "variables": ({"w": np.eye(5, dtype=np.float32)}, {})},
            "expected logits without a NaN, got some; look for one in the parameters, and for ids",
        ),
        ({"net": jn.Embedding(11, 3)}, "expected the parameters"),
        (
            {"net": jn.Sequential(jn.Embedding(11, 3), jn.LastStep()), "variables": SEQUENTIAL},
            r"a network with logits \(2, 6, 'V'\) for ids \(2, 6\), got \(2, 3\)",
        ),
        ({"variables": {}}, "expected a network and its variables"),
    ],
)
def test_what_generate_refuses(changes, message):
    net = tiny_gpt(layers=1, cache=True)
    params = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes(net)[0])
    arguments = {"net": net, "variables": (params, {}), "prompt": IDS, "steps": 2}
    arguments |= {"key": jax.random.key(0), **changes}
    with pytest.raises(jn.JaxNodesError, match=message):
        generate(**arguments)
