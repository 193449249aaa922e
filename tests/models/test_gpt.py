"""GPT against torch's layers; its sizes, its training, its nodes."""

import dataclasses
import functools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnodes as jn
from jaxnodes.models import generate, gpt
from tests.layers.agreement import draw
from tests.models.transformer_tools import (
    IDS,
    assert_same,
    block_weights,
    gradients,
    norm_weights,
    quick_jit,
    random_like,
    shapes,
    stack,
    tiny_gpt,
    variables_of,
)


def count(net):
    params, _ = shapes(net)
    return sum(p.size for p in jax.tree.leaves(params))


# the model ----------------------------------------------------------------------------------


def test_forward_and_gradient_are_those_of_torch(x64):
    torch = pytest.importorskip("torch")
    net = tiny_gpt()
    params, _ = variables_of(net)
    direction = draw((2, 5, 11), "float64", 9)

    def ours(params):
        return net.apply(params, {}, IDS, key=None, training=False)[0]

    logits, backward = quick_jit(lambda p: (ours(p), jax.vjp(ours, p)[1](direction)[0]))(params)

    functional = torch.nn.functional
    approximate = functools.partial(functional.gelu, approximate="tanh")
    blocks = stack(torch, params, ["block1", "block2"], 4, norm_first=True, activation=approximate)
    norm = torch.nn.LayerNorm(8, dtype=torch.float64)
    weights = norm_weights(params["norm1"], "norm")
    norm.weight.data, norm.bias.data = (torch.tensor(value) for value in weights.values())
    embedding, positions = (
        torch.tensor(np.asarray(params[name]["w"]), requires_grad=True)
        for name in ("embedding", "positions")
    )
    x = functional.embedding(torch.tensor(IDS), embedding) + positions[:5]
    mask = torch.nn.Transformer.generate_square_subsequent_mask(5, dtype=torch.float64)
    for block in blocks:
        x = block(x, src_mask=mask, is_causal=True)
    expected = norm(x) @ embedding.T
    expected.backward(torch.tensor(np.asarray(direction)))

    np.testing.assert_allclose(logits, expected.detach().numpy(), rtol=1e-10, atol=1e-10)
    for name, block in zip(("block1", "block2"), blocks, strict=True):
        assert_same(block_weights(backward[name]), gradients(block))
    assert_same(
        {
            "embedding": backward["embedding"]["w"],
            "positions": backward["positions"]["w"],
            **norm_weights(backward["norm1"], "norm"),
        },
        {
            "embedding": embedding.grad.numpy(),
            "positions": positions.grad.numpy(),
            "norm.weight": norm.weight.grad.numpy(),
            "norm.bias": norm.bias.grad.numpy(),
        },
    )


def test_one_scanned_stack_is_the_blocks_one_by_one(x64):
    net, scanned = tiny_gpt(rotary=True), tiny_gpt(rotary=True, scan=True)
    params, _ = variables_of(net)
    blocks = [params.pop(f"block{i}") for i in (1, 2)]
    stacked = {**params, "blocks": {"block": jax.tree.map(lambda *p: jnp.stack(p), *blocks)}}
    assert jax.tree.map(jnp.shape, stacked) == jax.tree.map(jnp.shape, shapes(scanned)[0])
    one_by_one = dict(zip(("block1", "block2"), blocks, strict=True)) | params
    np.testing.assert_allclose(
        quick_jit(scanned.predict)((stacked, {}), IDS),
        quick_jit(net.predict)((one_by_one, {}), IDS),
        atol=1e-12,
    )


def test_parameters_of_the_published_sizes():
    assert count(gpt(50257)) == count(gpt(50257, scan=True)) == 124_439_808
    medium = {"layers": 24, "heads": 16, "features": 1024}
    assert count(gpt(50257, **medium, scan=True)) == 354_823_168


def test_parameters_without_positions_and_of_fewer_heads():
    # A key/value head fewer is 8 * 2 + 2 numbers less for keys, and as many for values.
    assert count(tiny_gpt()) - count(tiny_gpt(rotary=True)) == 12 * 8
    assert count(tiny_gpt()) - count(tiny_gpt(kv_heads=1)) == 2 * 3 * 2 * (8 * 2 + 2)
    assert count(tiny_gpt(hidden=5)) == count(tiny_gpt()) - 2 * (32 - 5) * (8 + 1 + 8)


def test_initialization(key):
    net = gpt(300, layers=8, heads=4, features=32, context=200, scan=True)
    params, _ = quick_jit(lambda: net.init(key, IDS))()
    block = params["blocks"]["block"]
    branch_ends = [block["attention1"]["w_o"], block["mlp"]["dense2"]["w"]]
    others = [
        *(block["attention1"][f"w_{name}"] for name in "qkv"),
        block["mlp"]["dense1"]["w"],
        params["embedding"]["w"],
        params["positions"]["w"],
    ]
    for weights, std in [(branch_ends, 0.02 / 4), (others, 0.02)]:  # sqrt(2 * 8 blocks)
        for w in weights:
            assert abs(float(w.std()) / std - 1) < 0.05
            assert abs(float(w.mean())) < std / 10
    biases = [block["mlp"][name]["b"] for name in ("dense1", "dense2")]
    biases += [block["attention1"][f"b_{name}"] for name in "qkvo"]
    assert not any(b.any() for b in biases)
    first, second = block["attention1"]["w_q"][:2]
    assert (first != second).all()


def test_a_step_sees_none_that_follow(x64):
    net = tiny_gpt()
    variables = variables_of(net)
    f = quick_jit(net.predict)
    changed = IDS.copy()
    changed[:, 3:] = 0
    np.testing.assert_array_equal(f(variables, IDS)[:, :3], f(variables, changed)[:, :3])
    assert (f(variables, IDS)[:, 3:] != f(variables, changed)[:, 3:]).all()


def test_training_drops_by_the_key_and_traces_once():
    net = tiny_gpt(layers=1)
    variables = random_like(shapes(net)[0], dtype="float32"), {}
    traces = []

    @quick_jit
    def loss(params, state, ids, key):
        traces.append(None)
        logits, _ = net.apply(params, state, ids[:, :-1], key=key, training=True)
        return jn.cross_entropy(logits, ids[:, 1:])

    values = [float(loss(*variables, IDS, jax.random.key(seed))) for seed in (0, 0, 1)]
    assert values[0] == values[1] != values[2]
    assert len(traces) == 1
    with pytest.raises(jn.JaxNodesError, match="^dropout1: expected a key"):
        net.apply(*variables, IDS, training=True)


def test_it_learns_what_follows(key):
    net = gpt(5, layers=1, heads=1, features=8, context=8, dropout=0.0)
    rows = np.stack([np.arange(i, i + 9) % 5 for i in range(5)]).astype(np.int32)
    options = {"loss": jn.cross_entropy, "optimizer": jn.adam, "epochs": 40, "batch_size": 5}
    train = quick_jit(jn.make_train(net, **options))
    result = train(key, (rows[:, :-1], rows[:, 1:]), 3e-2)
    assert result.history["loss"][-1] < 0.05 < math.log(5) < result.history["loss"][0] + 0.2
    params, _ = result.variables
    cached = dataclasses.replace(net, cache=True)
    ids = generate(cached, (params, {}), rows[:, :2], 6, temperature=0)
    np.testing.assert_array_equal(ids, rows[:, :8])


# as data, and its nodes -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "net", [tiny_gpt(), tiny_gpt(rotary=True, kv_heads=2, cache=True, scan=True, dtype="bfloat16")]
)
def test_it_is_plain_data(net):
    assert jn.from_config(json.loads(json.dumps(jn.to_config(net)))) == net
    assert jn.to_config(jn.Sequential(net))["layers"][0]["name"] == "transformer_decoder1"


def test_a_run_folder_rebuilds_it_without_code(tmp_path):
    net = tiny_gpt(layers=1)
    variables = random_like(shapes(net)[0], dtype="float32"), {}
    jn.save_network(tmp_path, net, variables, input_spec=IDS)
    loaded, again, _ = jn.load_network(tmp_path)
    assert loaded == net
    assert jax.tree.all(jax.tree.map(jnp.array_equal, again, variables))


def test_it_prints_as_it_is_written():
    assert repr(tiny_gpt(rotary=True)) == (
        "TransformerDecoder(11, features=8, blocks=2, heads=4, context=12, dropout=0.1, "
        "rotary=True)"
    )


def test_nodes_are_named_by_block(x64):
    net = tiny_gpt()
    variables = variables_of(net)
    sizes = {}
    for block in ("block1", "block2"):
        sizes[f"{block}/attention1"] = (2, 5, 4, 2)
        sizes[f"{block}/mlp/dense1"] = (2, 5, 32)
        sizes[f"{block}/mlp/dense2"] = (2, 5, 8)
    logits, nodes = quick_jit(jn.record(net.predict))(variables, IDS)
    assert {name: h.shape for name, h in nodes.items()} == sizes | {"logits": (2, 5, 11)}
    np.testing.assert_array_equal(nodes["logits"], logits)
    assert float(nodes["block1/mlp/dense1"].min()) > -0.18  # the least of gelu


def negative_loss(logits, labels):
    return -jn.cross_entropy(logits, labels)


@pytest.mark.parametrize(
    ("scan", "shapes_of"),
    [
        (False, {"block1/attention1": (4,), "block1/mlp/dense1": (8,)}),
        (True, {"blocks/block/attention1": (2, 4)}),
    ],
    ids=["blocks", "scan"],
)
def test_ablation_is_a_loop_of_interventions(scan, shapes_of, x64):
    net = tiny_gpt(scan=scan, hidden=8)
    variables, labels = variables_of(net), IDS[:, ::-1]
    drops = jn.analysis.ablate(
        net.predict, variables, IDS, labels, metric=negative_loss, nodes=list(shapes_of)
    )
    ones = {name: jnp.ones(shape) for name, shape in shapes_of.items()}

    @quick_jit
    def measured(gates):
        gated = jn.intervene(net.predict)(gates, variables, IDS)
        return negative_loss(gated, labels)

    assert set(drops) == set(shapes_of)
    for name, shape in shapes_of.items():
        lone = [ones | {name: ones[name].at[i].set(0)} for i in np.ndindex(shape)]
        one_by_one = [measured(ones) - measured(gates) for gates in lone]
        np.testing.assert_allclose(drops[name], np.reshape(one_by_one, shape), atol=1e-12)
        assert np.abs(drops[name]).min() > 1e-6


def test_summary_from_shapes():
    net = tiny_gpt(layers=1)
    made = jn.analysis.summary(net.predict, shapes(net), jax.ShapeDtypeStruct((2, 5), jnp.int32))
    kinds = {row.name: row.kind for row in made.rows}
    assert kinds == {
        "input": "",
        "embedding": "Embedding",
        "positions": "LearnedPositions",
        "block1/norm1": "LayerNorm",
        "block1/attention1": "Attention",
        "block1/norm2": "LayerNorm",
        "block1/mlp/dense1": "Dense",
        "block1/mlp/dense2": "Dense",
        "norm1": "LayerNorm",
        "logits": "Unembedding",
    }
    assert made.nodes == {
        "input": 5,
        "block1/attention1": 4,
        "block1/mlp/dense1": 32,
        "block1/mlp/dense2": 8,
        "logits": 11,
    }
    assert made.total_parameters == count(net)
    assert made.parameters["embedding"] == 11 * 8
    # Scores and mixtures are 2 * 5 * 5 * 8 multiply-adds each, projections 4 * 5 * 8 * 8.
    attention = next(row for row in made.rows if row.name == "block1/attention1")
    assert attention.flops == 2 * 2 * (2 * 5 * 5 * 8 + 4 * 5 * 8 * 8)


# errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gpt(0), "TransformerDecoder: expected vocabulary to be a whole number"),
        (lambda: gpt(9, layers=0), "expected blocks to be a whole number"),
        (lambda: gpt(9, context=0), "expected context to be a whole number"),
        (lambda: gpt(9, features=10, heads=4), "features that 4 heads can share, got 10"),
        (lambda: gpt(9, kv_heads=5), "expected kv_heads to divide the 12 heads, got 5"),
        (lambda: gpt(9, hidden=0), "expected hidden to be a whole number"),
        (lambda: gpt(9, dropout=1.0), "expected a rate to drop"),
        (lambda: gpt(9, dtype="int8"), "expected a floating dtype"),
        (lambda: dataclasses.replace(tiny_gpt(), std=0.0), "expected std to be a finite number"),
        (lambda: jn.TransformerBlock(8, 3), "features that 3 heads can share, got 8"),
        (lambda: jn.TransformerBlock(8, 2, cache=4), "expected causal=True"),
        (lambda: jn.TransformerBlock(8, 2, activation="rely"), "did you mean 'relu'"),
    ],
)
def test_constructors_validate_at_once(make, message):
    with pytest.raises(jn.JaxNodesError, match=message):
        make()


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (np.zeros((2, 13), np.int32), r"expected ids .*at most 12 steps, got int32 \(2, 13\)"),
        (np.zeros((2, 5)), "embedding: expected integer ids, got float64"),
        (np.full((2, 5), 11), "embedding: expected ids from 0 to 10, got 11"),
        ((IDS, IDS > 0), r"expected ids .* got tuple"),
    ],
)
def test_what_a_decoder_refuses(ids, message):
    net = tiny_gpt()
    params = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), shapes(net)[0])
    with pytest.raises(jn.JaxNodesError, match=message):
        net.predict((params, {}), ids)


def test_parameters_of_a_deeper_network_are_refused():
    params, state = shapes(tiny_gpt())
    with pytest.raises(jn.JaxNodesError, match=r"expected parameters for .* got \['block2'\]"):
        jax.eval_shape(tiny_gpt(layers=1).predict, (params, state), IDS)
