"""BERT against torch's layers; what padding and types do; masked tokens, drawn and learned."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnodes as jn
from jaxnodes.models import bert, mask_tokens
from tests.layers.agreement import draw
from tests.models.transformer_tools import (
    IDS,
    assert_same,
    block_weights,
    dense_weights,
    gradients,
    norm_weights,
    quick_jit,
    random_like,
    set_weights,
    shapes,
    stack,
)

tiny = functools.partial(bert, 11, layers=2, heads=4, features=8, context=6)
MASK = np.array([[True] * 5, [True, True, True, False, False]])
TYPES = np.array([[0, 0, 1, 1, 1], [0, 1, 1, 0, 0]], np.int32)


def count(net):
    params, state = shapes(net)
    assert state == {}
    return sum(p.size for p in jax.tree.leaves(params))


@pytest.mark.parametrize("head", ["masked tokens", "classes"])
def test_forward_and_gradient_are_those_of_torch(head, x64):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    net = jn.MaskedTokens(tiny()) if head == "masked tokens" else jn.Pooled(tiny(), 3)
    params = random_like(shapes(net)[0])

    def ours(params):
        return net.predict((params, {}), (IDS, MASK, TYPES))

    direction = draw((2, 5, 11) if head == "masked tokens" else (2, 3), "float64", 9)
    logits, backward = quick_jit(lambda p: (ours(p), jax.vjp(ours, p)[1](direction)[0]))(params)

    encoder, norm_options = params["encoder"], {"eps": 1e-12, "dtype": torch.float64}
    blocks = stack(
        torch,
        encoder,
        ["block1", "block2"],
        4,
        norm_first=False,
        activation=functional.gelu,
        layer_norm_eps=1e-12,
    )
    norm = torch.nn.LayerNorm(8, **norm_options)
    set_weights(torch, norm, norm_weights(encoder["norm1"], ""))
    tables = {
        name: torch.tensor(np.asarray(encoder[name]["w"]), requires_grad=True)
        for name in ("embedding", "types", "positions")
    }
    x = functional.embedding(torch.tensor(IDS), tables["embedding"]) + tables["positions"][:5]
    x = norm(x + functional.embedding(torch.tensor(TYPES), tables["types"]))
    for block in blocks:
        x = block(x, src_key_padding_mask=~torch.tensor(MASK))
    heads = {}

    def dense(name, x):
        w = params[name]["w"]
        heads[name] = torch.nn.Linear(*w.shape, dtype=torch.float64)
        set_weights(torch, heads[name], dense_weights(params[name], ""))
        return heads[name](x)

    if head == "masked tokens":
        heads["norm1"] = torch.nn.LayerNorm(8, **norm_options)
        set_weights(torch, heads["norm1"], norm_weights(params["norm1"], ""))
        bias = torch.tensor(np.asarray(params["logits"]["b"]), requires_grad=True)
        h = heads["norm1"](functional.gelu(dense("dense1", x)))
        expected = h @ tables["embedding"].T + bias
    else:
        expected = dense("out", torch.tanh(dense("pooler", x[:, 0])))
    expected.backward(torch.tensor(np.asarray(direction)))

    np.testing.assert_allclose(logits, expected.detach().numpy(), rtol=1e-10, atol=1e-10)
    of_encoder = backward["encoder"]
    for name, block in zip(("block1", "block2"), blocks, strict=True):
        assert_same(block_weights(of_encoder[name]), gradients(block))
    assert_same(norm_weights(of_encoder["norm1"], ""), gradients(norm))
    assert_same(
        {name: of_encoder[name]["w"] for name in tables},
        {name: table.grad.numpy() for name, table in tables.items()},
    )
    for name, module in heads.items():
        weights = norm_weights if name == "norm1" else dense_weights
        assert_same(weights(backward[name], ""), gradients(module))
    if head == "masked tokens":
        np.testing.assert_allclose(backward["logits"]["b"], bias.grad, rtol=1e-10)


def test_parameters_of_the_published_sizes():
    base = bert(30522)
    assert count(jn.Pooled(base)) == count(jn.Pooled(bert(30522, scan=True))) == 109_482_240
    assert count(base) == 109_482_240 - 768 * 769
    assert count(jn.MaskedTokens(base)) == count(base) + 768 * 769 + 2 * 768 + 30522
    assert count(jn.Pooled(base, 3)) == 109_482_240 + 3 * 769
    large = bert(30522, layers=24, heads=16, features=1024, scan=True)
    assert count(jn.Pooled(large)) == 335_141_888


def test_padding_and_types(x64):
    net = tiny(scan=True)
    variables = random_like(shapes(net)[0]), {}
    f = quick_jit(net.predict)
    y = f(variables, (IDS, MASK, TYPES))
    other = np.where(MASK, IDS, 7)
    np.testing.assert_array_equal(f(variables, (other, MASK, TYPES))[MASK], y[MASK])
    short = f(variables, (IDS[1:, :3], MASK[1:, :3], TYPES[1:, :3]))
    np.testing.assert_allclose(short, y[1:, :3], atol=1e-12)
    everything = np.ones_like(MASK)
    plain = f(variables, IDS)
    np.testing.assert_allclose(plain, f(variables, (IDS, everything)), atol=1e-12)
    np.testing.assert_allclose(plain, f(variables, (IDS, everything, 0 * IDS)), atol=1e-12)
    assert (np.abs(plain - y).max(axis=-1) > 1e-3).all()


def test_a_step_sees_all_steps(x64):
    net = tiny(layers=1)
    variables = random_like(shapes(net)[0]), {}
    changed = IDS.copy()
    changed[:, -1] = 0
    f = quick_jit(net.predict)
    assert (f(variables, IDS)[:, 0] != f(variables, changed)[:, 0]).any(axis=-1).all()


def test_heads_share_the_encoder(key):
    masked, pooled = jn.MaskedTokens(tiny()), jn.Pooled(tiny(), 2)
    assert shapes(masked)[0]["encoder"] == shapes(pooled)[0]["encoder"] == shapes(tiny())[0]

    @quick_jit
    def embeddings(key):
        return [net.init(key, IDS)[0]["encoder"]["embedding"]["w"] for net in (masked, pooled)]

    one, other = embeddings(key)
    np.testing.assert_array_equal(one, other)
    assert abs(float(one.std()) - 0.02) < 0.004


@pytest.mark.parametrize(
    "net",
    [tiny(dtype="bfloat16"), jn.MaskedTokens(tiny(scan=True)), jn.Pooled(tiny(types=3), 4)],
    ids=["encoder", "masked", "pooled"],
)
def test_they_are_plain_data(net):
    assert jn.from_config(json.loads(json.dumps(jn.to_config(net)))) == net


def test_nodes_and_summary():
    net = jn.Pooled(tiny(layers=1), 3)
    x = (IDS, MASK)
    _, nodes = jax.eval_shape(jn.record(net.predict), shapes(net), x)
    assert {name: h.shape for name, h in nodes.items()} == {
        "encoder/block1/attention1": (2, 5, 4, 2),
        "encoder/block1/mlp/dense1": (2, 5, 32),
        "encoder/block1/mlp/dense2": (2, 5, 8),
        "pooler": (2, 8),
        "out": (2, 3),
    }
    made = jn.analysis.summary(net, shapes(net), x)
    assert made.total_parameters == count(net)
    assert {row.name: row.kind for row in made.rows if row.nodes} == {
        "input": "",
        "encoder/block1/attention1": "Attention",
        "encoder/block1/mlp/dense1": "Dense",
        "encoder/block1/mlp/dense2": "Dense",
        "pooler": "Dense",
        "out": "Dense",
    }


# masked tokens ------------------------------------------------------------------------------


def test_masking_chooses_and_replaces_as_told(key):
    ids = jax.random.randint(key, (400, 100), 3, 1000)
    ids = ids.at[:, 0].set(1).at[:, 60:].set(2)
    mask = jnp.ones(ids.shape, bool).at[:, 50:].set(False)
    draws = functools.partial(mask_tokens, mask_id=0, vocabulary=1000, special=(1, 2), mask=mask)
    draws = quick_jit(draws)
    inputs, targets, weights = draws(jax.random.key(1), ids)
    np.testing.assert_array_equal(targets, ids)
    np.testing.assert_array_equal(weights.sum(axis=1), 7)  # of 49 steps; 7.35 rounded
    assert not weights[:, 0].any()
    assert not weights[:, 50:].any()
    np.testing.assert_array_equal(inputs[~weights], ids[~weights])
    chosen, originals = inputs[weights], ids[weights]  # 2800 of them
    assert abs(float((chosen == 0).mean()) - 0.8) < 0.03
    assert abs(float((chosen == originals).mean()) - 0.1) < 0.02
    others = chosen[(chosen != 0) & (chosen != originals)]
    assert abs(len(others) / 2800 - 0.1) < 0.02
    assert abs(float(others.mean()) - 499.5) < 60
    per_step = weights[:, 1:50].mean(axis=0)
    assert float(per_step.min()) > 0.07
    assert float(per_step.max()) < 0.25
    same = draws(jax.random.key(1), ids)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, tuple(same), (inputs, targets, weights)))
    assert (draws(jax.random.key(2), ids).weights != weights).any()


def test_each_sequence_has_something_to_be_learned_from(key):
    ids = jnp.array([[5, 0, 0], [0, 0, 0], [5, 6, 7]], jnp.int8)
    draws = functools.partial(mask_tokens, mask_id=9, vocabulary=10)

    @quick_jit
    def drawn(key):
        return draws(key, ids, rate=0.01, special=(0,)), draws(key, ids, rate=1.0)

    (inputs, _, weights), every = drawn(key)
    np.testing.assert_array_equal(weights.sum(axis=1), [1, 0, 1])
    assert weights[0, 0]
    assert inputs.dtype == jnp.int8
    assert every.weights.all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"key": 0}, "mask_tokens: expected a typed PRNG key"),
        ({"ids": IDS * 1.0}, r"expected integer ids \(\.\.\., T\), got float"),
        ({"mask_id": 11}, "expected mask_id below 11, got 11"),
        ({"special": (3, -1)}, "expected each special id to be a whole number of at least 0"),
        ({"rate": 0.0}, "expected rate to be a finite number between"),
        ({"rate": 1.1}, "expected rate to be a finite number between"),
        ({"mask": MASK[:, 1:]}, r"expected a boolean mask of shape \(2, 5\)"),
        ({"ids": IDS.astype(np.int8), "vocabulary": 500}, "a dtype that holds 500 ids, got int8"),
    ],
)
def test_what_masking_refuses(changes, message):
    options = {"key": jax.random.key(0), "ids": IDS, "mask_id": 0, "vocabulary": 11, **changes}
    with pytest.raises(jn.JaxNodesError, match=message):
        mask_tokens(options.pop("key"), options.pop("ids"), **options)


def test_it_learns_to_find_masked_tokens(key):
    """Rows of one id over and over: what is hidden is what stands elsewhere."""
    net = jn.MaskedTokens(bert(9, layers=1, heads=2, features=8, context=8, dropout=0.0))
    draws = functools.partial(mask_tokens, mask_id=8, vocabulary=9, rate=0.3)

    def objective(params, state, ids, key):
        mask_key, key = jax.random.split(key)
        inputs, targets, weights = draws(mask_key, ids)
        logits, state = net.apply(params, state, inputs, key=key, training=True)
        loss = jn.cross_entropy(logits, targets, weights=weights)
        return loss, (state, jn.accuracy(logits, targets, weights=weights))

    optimizer = jn.adam(1e-2)
    step = jn.make_step(objective, optimizer)
    ids = jnp.tile(jnp.arange(8)[:, None], (4, 8))

    @quick_jit
    def train(key):
        params, state = net.init(key, ids)
        start = jn.TrainState(params, state, optimizer.init(params))
        keys = jax.random.split(key, 150)
        return jax.lax.scan(lambda at, key: step(at, ids, key), start, keys)

    trained, (losses, shares) = train(key)
    assert abs(float(losses[0]) - np.log(9)) < 0.2
    assert float(shares[0]) < 0.4
    assert float(losses[-1]) < 0.1
    assert float(shares[-10:].min()) == 1
    inputs, targets, weights = draws(jax.random.key(7), ids)
    logits = quick_jit(net.predict)((trained.params, trained.state), inputs)
    assert float(jn.accuracy(logits, targets, weights=weights)) == 1


def test_masked_ids_are_data_for_training(key):
    net = jn.MaskedTokens(tiny(layers=1, dropout=0.0))
    variables = random_like(shapes(net)[0], dtype="float32"), {}
    data = mask_tokens(key, IDS, mask_id=0, vocabulary=11, rate=0.4)
    found = jn.evaluate(net, variables, data, loss=jn.cross_entropy)
    log_p = np.asarray(jax.nn.log_softmax(quick_jit(net.predict)(variables, data.inputs)))
    of_targets = np.take_along_axis(log_p, np.asarray(data.targets)[..., None], axis=-1)[..., 0]
    np.testing.assert_allclose(
        found["loss"], -of_targets[np.asarray(data.weights)].mean(), rtol=1e-5
    )
    options = {"loss": jn.cross_entropy, "optimizer": jn.adam, "batch_size": 1}
    result = jax.eval_shape(jn.make_train(net, epochs=3, **options), key, data, 1e-3)
    assert result.history["loss"].shape == (3,)


# errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: bert(9, types=0), "expected types to be a whole number"),
        (lambda: bert(9, heads=5), "features that 5 heads can share, got 768"),
        (lambda: jn.MaskedTokens(jn.Dense(3)), "expected a TransformerEncoder, got Dense"),
        (lambda: jn.Pooled(tiny(), 1), "expected classes to be a whole number of at least 2"),
        (lambda: jn.Pooled(tiny(), 3, dropout=2.0), "expected a rate to drop"),
    ],
)
def test_constructors_validate_at_once(make, message):
    with pytest.raises(jn.JaxNodesError, match=message):
        make()


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((2, 7), np.int32), r"encoder: expected ids .* at most 6 steps, got int32 \(2, 7"),
        ((IDS, MASK[:, 1:]), r"encoder: expected a boolean mask of shape \(2, 5\)"),
        ((IDS, MASK * 1), "encoder: expected a boolean mask"),
        ((IDS, MASK, TYPES[:1]), r"encoder: expected types \(2, 5\), one a step, got int32 \(1, 5"),
        ((IDS, MASK, TYPES, 1), "encoder: expected up to three parts, got 4"),
        ((IDS, MASK, TYPES + 1), "encoder/types: expected ids from 0 to 1, got 2"),
    ],
)
def test_what_an_encoder_refuses(x, message):
    net = jn.Pooled(tiny(layers=1))
    params = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), shapes(net)[0])
    with pytest.raises(jn.JaxNodesError, match=message):
        net.predict((params, {}), x)
