"""A pruned network computes what the masked one does: `prune` against `intervene`."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnodes as jn
from jaxnodes import JaxNodesError
from jaxnodes.analysis.cuts import is_elementwise

pytestmark = pytest.mark.usefixtures("quick")

prune, prune_masks, prune_to = jn.analysis.prune, jn.analysis.prune_masks, jn.analysis.prune_to


def made(net, shape):
    """Variables in which nothing is zero, one or alike, and data."""
    draw = np.random.default_rng(0)
    x = jnp.asarray(draw.normal(size=(4, *shape)))
    return variables_for(net, x, x.dtype), x


def variables_for(net, x, dtype):
    draw = np.random.default_rng(1)
    shapes = jax.eval_shape(net.init, jax.random.key(0), x)

    def leaf(path, of):
        values = draw.normal(size=of.shape) * 0.7
        return jnp.asarray(np.abs(values) + 0.3 if "var" in str(path[-1]) else values, dtype)

    return jax.tree_util.tree_map_with_path(leaf, shapes)


def kept(size, *gone):
    keep = np.ones(size, bool)
    keep[list(gone)] = False
    return keep


def masked(net, variables, masks, x, values=None):
    """What the network makes with gates, and values in the place of what they close."""
    patches = {}
    for site in jn.node_sites(net.predict, variables, x):
        if site.name in masks:
            gate = jnp.asarray(masks[site.name], site.dtype)
            value = jnp.asarray((values or {}).get(site.name, 0.0), site.dtype)
            if site.axis != len(site.shape) - 1 and value.ndim:
                value = value.reshape(site.size, -1)  # heads
            elif value.ndim == 2:
                value = value[:, None]  # layers of a stack
            patches[site.name] = (gate, value)
    return jn.intervene(net.predict)(patches, variables, x)


def both(net, variables, smaller, pruned, masks, x, values):
    """What the pruned network makes, and the masked one, by one program."""

    @jax.jit
    def run(variables, pruned, x):
        return smaller.predict(pruned, x), masked(net, variables, masks, x, values)

    return run(variables, pruned, x)


def check_equal(net, variables, masks, x, values=None):
    smaller, pruned = prune(net, variables, masks, x=x, values=values or "zero")
    made, expected = both(net, variables, smaller, pruned, masks, x, values)
    np.testing.assert_allclose(made, expected, rtol=1e-12, atol=1e-12)
    shapes = jax.eval_shape(smaller.init, jax.random.key(0), x)
    assert jax.tree.map(jnp.shape, pruned) == jax.tree.map(jnp.shape, shapes)
    assert jn.from_config(json.loads(json.dumps(jn.to_config(smaller)))) == smaller
    return smaller, pruned


def size(variables):
    return sum(leaf.size for leaf in jax.tree.leaves(variables[0]))


def residual(*layers):
    return jn.Residual(jn.Sequential(*layers))


ANY = np.array([0.7, -1.3, 0.4, 2.0, -0.2, 1.1, 0.3, -0.6])

#: A network, the shape of a sample, masks, values, and what the smaller one is like.
CASES = {
    "mlp": (
        jn.Sequential(jn.Dense(6, "relu"), jn.Dropout(0.5), jn.Dense(5, "tanh"), jn.Dense(3)),
        (4,),
        {"dense1": kept(6, 0, 3), "dense2": kept(5, 4)},
        {"dense1": ANY[:6], "dense2": 0.3},
        jn.Sequential(jn.Dense(4, "relu"), jn.Dropout(0.5), jn.Dense(4, "tanh"), jn.Dense(3)),
    ),
    "sequences of rows": (
        jn.Sequential(jn.Dense(5), jn.Dense(2, use_bias=False, in_features=5), jn.Dense(2)),
        (3, 4),
        {"dense1": kept(5, 1)},
        {"dense1": ANY[:5]},
        jn.Sequential(jn.Dense(4), jn.Dense(2, in_features=4), jn.Dense(2)),
    ),
    "lifted functions": (
        jn.Sequential(jn.Dense(6), jn.BatchNorm(), jn.sigmoid, jn.Rescale(2.0, -1.0), jn.Dense(3)),
        (4,),
        {"sigmoid1": kept(6, 0, 3), "dense1": kept(6, 5)},
        {"sigmoid1": ANY[:6], "dense1": ANY[:6]},
        jn.Sequential(jn.Dense(3), jn.BatchNorm(), jn.sigmoid, jn.Rescale(2.0, -1.0), jn.Dense(3)),
    ),
    "cnn": (
        jn.Sequential(
            jn.Conv(5, 3, "relu", stride=2),
            jn.BatchNorm(),
            jn.MaxPool(2, stride=1, padding="SAME"),
            jn.Conv(6, (2, 3), "tanh", padding="VALID", use_bias=False),
            jn.AvgPool(2),
            jn.Flatten(),
            jn.Dense(4, "relu"),
            jn.Dense(3),
        ),
        (9, 9, 2),
        {"conv1": kept(5, 2), "conv2": kept(6, 0, 5), "dense1": kept(4, 1)},
        {"conv1": ANY[:5], "conv2": ANY[:6], "dense1": ANY[:4]},
        jn.Sequential(
            jn.Conv(4, 3, "relu", stride=2),
            jn.BatchNorm(),
            jn.MaxPool(2, stride=1, padding="SAME"),
            jn.Conv(4, (2, 3), "tanh", padding="VALID"),
            jn.AvgPool(2),
            jn.Flatten(),
            jn.Dense(3, "relu"),
            jn.Dense(3),
        ),
    ),
    "padded": (
        jn.Sequential(
            jn.Conv(4, 3, "relu"),
            jn.ChannelDropout(0.1),
            jn.Conv(5, 3, padding=1, dilation=2),
            jn.ConvTranspose(4, 2, "tanh", stride=2),
            jn.GlobalAvgPool(),
            jn.Dense(2),
        ),
        (5, 4, 2),
        {"conv1": kept(4, 0), "conv2": kept(5, 4), "conv_transpose1": kept(4, 2)},
        {"conv1": 0.0, "conv2": 0.0, "conv_transpose1": ANY[:4]},
        None,
    ),
    "depthwise": (
        jn.Sequential(
            jn.Conv(4, 1, "relu"),
            jn.Conv(8, 3, "sigmoid", groups=4, padding="VALID"),
            jn.Reshape((-1, 8)),
            jn.GlobalMaxPool(),
            jn.Dense(2),
        ),
        (5, 5, 2),
        {"conv1": kept(4, 1), "conv2": kept(8, 6, 7)},
        {"conv1": ANY[:4], "conv2": ANY},
        jn.Sequential(
            jn.Conv(2, 1, "relu"),
            jn.Conv(4, 3, "sigmoid", groups=2, padding="VALID"),
            jn.Reshape((-1, 4)),
            jn.GlobalMaxPool(),
            jn.Dense(2),
        ),
    ),
    "whole groups": (
        jn.Sequential(jn.Conv(4, 1), jn.Conv(6, 3, groups=2), jn.Reshape((-1,)), jn.Dense(2)),
        (3, 3, 2),
        {"conv1": kept(4, 2, 3), "conv2": kept(6, 3)},
        None,
        jn.Sequential(jn.Conv(2, 1), jn.Conv(3, 3), jn.Reshape((-1,)), jn.Dense(2)),
    ),
    "signals": (
        jn.Sequential(
            jn.Conv(4, (3,), "elu"), jn.MaxPool(2), jn.LSTM(3), jn.LastStep(), jn.Dense(2)
        ),
        (7, 2),
        {"conv1": kept(4, 0, 1), "lstm1": kept(3, 1)},
        {"conv1": ANY[:4], "lstm1": 0.0},
        None,
    ),
    **{
        kind.__name__: (
            jn.Sequential(kind(4), kind(5, reverse=True), jn.LastStep(), jn.Dense(2)),
            (6, 3),
            {f"{name}1": kept(4, 0, 2), f"{name}2": kept(5, 3)},
            None,
            jn.Sequential(kind(2), kind(4, reverse=True), jn.LastStep(), jn.Dense(2)),
        )
        for name, kind in (("simple_rnn", jn.SimpleRNN), ("lstm", jn.LSTM), ("gru", jn.GRU))
    },
    "both ways": (
        jn.Sequential(jn.Dense(4, "tanh"), jn.Bidirectional(jn.GRU(3)), jn.Dense(2)),
        (5, 2),
        {
            "dense1": kept(4, 1),
            "bidirectional1/forward": kept(3, 0),
            "bidirectional1/backward": kept(3, 2),
        },
        {"dense1": ANY[:4], "bidirectional1/forward": 0.0, "bidirectional1/backward": 0.0},
        jn.Sequential(jn.Dense(3, "tanh"), jn.Bidirectional(jn.GRU(2)), jn.Dense(2)),
    ),
    "ways of two sizes": (
        jn.Sequential(jn.Bidirectional(jn.LSTM(3)), jn.Dense(2)),
        (5, 2),
        {"bidirectional1/forward": kept(3, 0, 1)},
        None,
        jn.Sequential(
            bidirectional1=jn.Parallel(forward=jn.LSTM(1), backward=jn.LSTM(3, reverse=True)),
            dense1=jn.Dense(2),
        ),
    ),
    "transformer": (
        jn.Sequential(
            jn.Dense(8),
            residual(jn.LayerNorm(), jn.Attention(4, causal=True, rotary=True, use_bias=False)),
            residual(jn.LayerNorm(), jn.Dense(6, "gelu"), jn.Dense(8)),
            jn.LastStep(),
            jn.Dense(2),
        ),
        (5, 3),
        {"residual1/attention1": kept(4, 1, 2), "residual2/dense1": kept(6, 0, 5)},
        {"residual1/attention1": ANY.reshape(4, 2), "residual2/dense1": ANY[:6]},
        jn.Sequential(
            jn.Dense(8),
            residual(jn.LayerNorm(), jn.Attention(2, causal=True, rotary=True, head_features=2)),
            residual(jn.LayerNorm(), jn.Dense(4, "gelu"), jn.Dense(8)),
            jn.LastStep(),
            jn.Dense(2),
        ),
    ),
    "grouped queries": (
        jn.Sequential(jn.Attention(6, kv_heads=3), jn.Attention(4, kv_heads=2), jn.Dense(2)),
        (3, 12),
        {"attention1": kept(6, 2, 3), "attention2": kept(4, 0, 3)},
        {"attention1": ANY[:6], "attention2": 0.5},
        jn.Sequential(
            jn.Attention(4, kv_heads=2, head_features=2),
            jn.Attention(2, head_features=3),
            jn.Dense(2),
        ),
    ),
    "side by side": (
        jn.Sequential(
            jn.Dense(3, "tanh"),
            jn.Parallel(jn.Dense(4, "relu"), jn.relu, deep=jn.Sequential(jn.Dense(5), jn.Dense(2))),
            jn.Dense(2),
        ),
        (4,),
        {"dense1": kept(3, 0), "parallel1/dense1": kept(4, 1), "parallel1/deep/dense1": kept(5, 4)},
        {"dense1": ANY[:3], "parallel1/dense1": ANY[:4], "parallel1/deep/dense1": ANY[:5]},
        None,
    ),
    "sums masked alike": (
        jn.Sequential(
            jn.Dense(4),
            residual(jn.Dense(5, "relu"), jn.Dense(4)),
            jn.Parallel(jn.Dense(3), jn.Dense(3, "tanh"), merge="sum"),
            jn.Dense(2),
        ),
        (4,),
        {
            "dense1": kept(4, 2),
            "residual1/dense1": kept(5, 0),
            "residual1/dense2": kept(4, 2),
            "parallel1/dense1": kept(3, 1),
            "parallel1/dense2": kept(3, 1),
        },
        {
            "dense1": 1.5,
            "residual1/dense1": 0.5,
            "residual1/dense2": -0.5,
            "parallel1/dense1": 2.0,
            "parallel1/dense2": 3.0,
        },
        None,
    ),
    "stack": (
        jn.Sequential(
            jn.Dense(3),
            jn.Repeat(residual(jn.Dense(5), jn.relu, jn.Dense(3)), 2, remat=True),
            jn.Dense(2),
        ),
        (4,),
        {
            "repeat1/residual1/relu1": np.stack([kept(5, 0, 1), kept(5, 2, 4)]),
        },
        {"repeat1/residual1/relu1": np.stack([ANY[:5], ANY[3:]])},
        jn.Sequential(
            jn.Dense(3),
            jn.Repeat(residual(jn.Dense(3), jn.relu, jn.Dense(3)), 2, remat=True),
            jn.Dense(2),
        ),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_pruned_equals_masked(name, x64):
    net, shape, masks, values, expected = CASES[name]
    variables, x = made(net, shape)
    smaller, pruned = check_equal(net, variables, masks, x, values)
    assert size(pruned) < size(variables)
    assert expected in (None, smaller)


def test_masked_sequences_of_ids_and_carried_states(x64):
    net = jn.Sequential(
        jn.Embedding(9, 4),
        jn.LSTM(5),
        jn.GRU(6, stateful=True),
        jn.Attention(2),
        jn.LastStep(),
        jn.Dense(2),
    )
    ids = jax.random.randint(jax.random.key(0), (4, 6), 0, 9)
    x = ids, jn.lengths_to_mask(jnp.array([6, 3, 1, 4]), 6)
    variables = variables_for(net, x, jnp.float64)
    variables = variables[0], jn.reset_state(variables[1])
    masks = {"lstm1": kept(5, 1), "gru1": kept(6, 2), "attention1": kept(2, 0)}
    with pytest.raises(JaxNodesError, match=r"'gru1' to stay, since 'attention1' makes as many"):
        prune(net, variables, masks, x=x)
    del masks["gru1"]
    check_equal(net, variables, masks, x)
    net = jn.Sequential(jn.LSTM(5, stateful=True), jn.Dense(2))
    (params, state), x = made(net, (6, 3))
    with pytest.raises(JaxNodesError, match="first step begins with zeros"):
        prune(net, (params, state), {"lstm1": kept(5, 1)}, x=x)
    check_equal(net, (params, jn.reset_state(state)), {"lstm1": kept(5, 1)}, x)


def test_a_cache_loses_its_heads(x64):
    net = jn.Sequential(jn.Attention(4, causal=True, cache=6), jn.Dense(2))
    x = jnp.ones((4, 5, 8))
    params, _ = variables_for(net, x, x.dtype)
    _, state = jax.eval_shape(net.init, jax.random.key(0), x)
    state = jax.tree.map(lambda of: jnp.zeros(of.shape, of.dtype), state)
    _, (_, state) = check_equal(net, (params, state), {"attention1": kept(4, 0)}, x)
    assert state["attention1"]["k"].shape == (4, 6, 3, 2)


@pytest.mark.parametrize("name", ["mlp", "cnn", "lifted functions", "grouped queries"])
def test_mean_values(name, x64):
    """Against means that `record` gives, over more samples than a tile has."""
    net, shape, masks, _, _ = CASES[name]
    variables, _ = made(net, shape)
    x = jnp.asarray(np.random.default_rng(1).normal(size=(300, *shape)))
    _, records = jax.jit(jn.record(net.predict))(variables, x)
    values = {}
    for site in jn.node_sites(net.predict, variables, x):
        axes = tuple(i for i in range(len(site.shape)) if i != site.axis)
        values[site.name] = np.mean(records[site.name], axes)
    smaller, pruned = prune(net, variables, masks, x=x, values="mean")
    found, expected = both(net, variables, smaller, pruned, masks, x, values)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


def test_biases_as_values_are_zeroed_incoming_weights(x64):
    net = jn.Sequential(jn.Dense(5, "sigmoid"), jn.Dense(4), jn.tanh, jn.Dense(2))
    (params, _), x = made(net, (3,))
    masks = {"dense1": kept(5, 1, 2), "tanh1": kept(4, 0)}
    values = {"dense1": jn.sigmoid(params["dense1"]["b"]), "tanh1": jn.tanh(params["dense2"]["b"])}
    smaller, pruned = prune(net, (params, {}), masks, x=x, values=values)
    params = jax.tree.map(np.array, params)
    params["dense1"]["w"][:, [1, 2]] = 0
    params["dense2"]["w"][:, 0] = 0
    expected = net.predict((params, {}), x)
    np.testing.assert_allclose(smaller.predict(pruned, x), expected, rtol=1e-12, atol=1e-12)


def test_masks_that_keep_all_change_nothing_and_dtypes_stay():
    net, shape, masks, _, _ = CASES["cnn"]
    variables, x = made(net, shape)
    whole = {name: np.ones_like(mask) for name, mask in masks.items()}
    same, pruned = prune(net, variables, whole, x=x)
    assert same == net
    jax.tree.map(np.testing.assert_array_equal, pruned, variables)
    half = jax.tree.map(lambda leaf: np.asarray(leaf).astype(jnp.bfloat16), variables)
    _, pruned = prune(net, half, masks, x=jax.ShapeDtypeStruct(x.shape, jnp.bfloat16))
    assert {leaf.dtype for leaf in jax.tree.leaves(pruned)} == {jnp.dtype(jnp.bfloat16)}


def test_heads_of_a_network_that_is_one_layer(x64):
    net = jn.Attention(4)
    variables, x = made(net, (5, 8))
    smaller, _ = check_equal(net, variables, {"node": kept(4, 0)}, x)
    assert smaller == jn.Attention(3, head_features=2)


def test_784_256_128_10_to_half():
    """Parameters by hand: 784 x 128 + 128 + 128 x 64 + 64 + 64 x 10 + 10."""
    net = jn.fully_connected([784, 256, 128, 10])
    variables, x = made(net, (784,))
    scores = {f"dense{i}": np.arange(n) for i, n in ((1, 256), (2, 128), (3, 10))}
    smaller, pruned = prune_to(net, variables, scores, 0.5, x=x)
    assert [layer.features for _, layer in smaller.layers] == [128, 64, 10]
    assert [layer.in_features for _, layer in smaller.layers] == [784, 128, 64]
    assert size(pruned) == 784 * 128 + 128 + 128 * 64 + 64 + 64 * 10 + 10
    np.testing.assert_array_equal(pruned[0]["dense1"]["w"], variables[0]["dense1"]["w"][:, 128:])


def test_which_nodes_are_chosen():
    net = jn.Sequential(
        jn.Dense(4), jn.relu, residual(jn.Dense(6, "relu"), jn.Dense(4)), jn.Dense(3), jn.Dense(2)
    )
    variables, x = made(net, (3,))
    scores = {
        "dense1": [9, 8, 7, 6],
        "relu1": [1, 2, 3, 4],
        "residual1/dense1": [1, 5, 2, 6, 3, 4],
        "residual1/dense2": [1, 1, 1, 1],
        "dense2": [0.5, -1, 7],
        "dense3": [0, 0],
    }

    def chosen(*args, **options):
        masks = prune_masks(net, variables, scores, *args, x=x, **options)
        return {name: np.flatnonzero(mask).tolist() for name, mask in masks.items()}

    # Neither the outputs, nor what the shortcut adds up.
    assert chosen(0.5) == {"residual1/dense1": [1, 3, 5], "dense2": [0, 2]}
    assert chosen({"dense2": 1, "residual1/dense1": 0.4}) == {
        "residual1/dense1": [1, 3],
        "dense2": [2],
    }
    # Of all nine the four best: 7, 6, 5, 4; and one of each layer, whatever it is worth.
    assert chosen(4 / 9, scope="global") == {"residual1/dense1": [1, 3, 5], "dense2": [2]}
    assert chosen(0.0, scope="global") == {"residual1/dense1": [3], "dense2": [2]}
    with pytest.raises(JaxNodesError, match="can be removed and have an importance"):
        chosen({"dense1": 2})
    with pytest.raises(JaxNodesError, match="at most 3 nodes, got 4"):
        chosen({"dense2": 4})
    with pytest.raises(JaxNodesError, match="with one number to keep"):
        chosen({"dense2": 2}, scope="global")
    for wrong in ([1, 2], [1, 2, np.nan]):
        scores["dense2"] = wrong
        with pytest.raises(JaxNodesError, match="one number a node"):
            chosen(0.5)


def test_a_lifted_function_and_the_layer_before_it_are_the_same_nodes():
    net = jn.Sequential(jn.Dense(4), jn.relu, jn.Dense(2))
    variables, x = made(net, (3,))
    scores = {"dense1": [4, 3, 2, 1], "relu1": [1, 2, 3, 4]}
    masks = prune_masks(net, variables, scores, 0.5, x=x)
    assert {name: mask.tolist() for name, mask in masks.items()} == {
        "relu1": [False, False, True, True]
    }


def test_nodes_that_go_together_are_chosen_together():
    net, shape, _, _, _ = CASES["grouped queries"]
    variables, x = made(net, shape)
    scores = {"attention1": [9, 0, 5, 5, 0, 8]}  # pairs of 9, 10 and 8
    masks = prune_masks(net, variables, scores, 0.7, x=x)
    assert masks["attention1"].tolist() == [True, True, True, True, False, False]
    with pytest.raises(JaxNodesError, match="2 at a time"):
        prune_masks(net, variables, scores, {"attention1": 3}, x=x)
    net, shape, _, _, _ = CASES["stack"]
    variables, x = made(net, shape)
    scores = {"repeat1/residual1/relu1": np.array([[1, 2, 3, 4, 5], [9, 8, 7, 6, 5]])}
    masks = prune_masks(net, variables, scores, 0.4, x=x, scope="global")
    assert masks["repeat1/residual1/relu1"].tolist() == [
        [False, False, True, True, True],
        [True, True, True, False, False],
    ]


def own(params, state, x, **_):
    return jn.node(x, "h"), state


OWN = jn.from_functions(lambda key, x: ({}, {}), own)
REFUSED = {
    "outputs": (jn.Sequential(jn.Dense(3), jn.relu), (2,), {"dense1": kept(3, 0)}, {}, "outputs"),
    "layer norm": (
        jn.Sequential(jn.Dense(3), jn.LayerNorm(), jn.Dense(2)),
        (2,),
        {"dense1": kept(3, 0)},
        {},
        "'dense1' to stay, since 'layer_norm1' needs all of its inputs",
    ),
    "sum": (
        jn.Sequential(jn.Dense(3), jn.Residual(jn.Dense(3)), jn.Dense(2)),
        (2,),
        {"dense1": kept(3, 0)},
        {},
        "same features kept in all that 'residual1' adds up, got 2 and 3 of 3",
    ),
    "softmax": (
        jn.Sequential(jn.Dense(3, "softmax"), jn.Dense(2)),
        (2,),
        {"dense1": kept(3, 0)},
        {},
        "activation mixes them",
    ),
    "lifted softmax": (
        jn.Sequential(jn.Dense(3), jn.softmax, jn.Dense(2)),
        (2,),
        {"dense1": kept(3, 0)},
        {},
        "'dense1' to stay, since 'softmax1' mixes its inputs",
    ),
    "glu": (
        jn.Sequential(jn.Dense(4, "glu"), jn.Dense(2)),
        (2,),
        {"dense1": kept(2, 0)},
        {},
        "mix",
    ),
    "own layer": (
        jn.Sequential(OWN, jn.Dense(2)),
        (2,),
        {"own1/h": kept(2, 0)},
        {},
        "your own",
    ),
    "merge": (
        jn.Sequential(jn.Parallel(jn.Dense(3), merge=lambda ys: ys[0]), jn.Dense(2)),
        (2,),
        {"parallel1/dense1": kept(3, 0)},
        {},
        "merges 'parallel1' may mix",
    ),
    "shared": (
        jn.Sequential(jn.Dense(3), jn.Parallel(jn.relu, jn.tanh), jn.Dense(2)),
        (2,),
        {"parallel1/relu1": kept(3, 0)},
        {},
        "come of one layer of weights alone, through which they can be removed, but 1",
    ),
    "some places of a channel": (
        jn.Sequential(jn.Conv(2, 1), jn.Flatten(), jn.relu, jn.Dense(2)),
        (2, 1, 1),
        {"relu1": kept(4, 0)},
        {},
        "come of one layer of weights alone",
    ),
    "padding": (
        jn.Sequential(jn.Conv(2, 1), jn.Conv(2, 3), jn.Flatten(), jn.Dense(2)),
        (3, 3, 1),
        {"conv1": kept(2, 0)},
        {"conv1": 1.0},
        "zero in the place of the nodes removed before 'conv2'",
    ),
    "groups": (
        jn.Sequential(jn.Conv(4, 1), jn.Conv(4, 1, groups=2), jn.Flatten(), jn.Dense(2)),
        (2, 2, 1),
        {"conv1": kept(4, 0)},
        {},
        "all or none of the channels of each of the 2 groups",
    ),
    "recurrent": (
        jn.Sequential(jn.GRU(3), jn.Dense(2)),
        (4, 2),
        {"gru1": kept(3, 0)},
        {"gru1": 1.0},
        "zero in the place of nodes of 'gru1'",
    ),
    "shared keys": (
        jn.Sequential(jn.Attention(4, kv_heads=2), jn.Dense(2)),
        (3, 4),
        {"attention1": kept(4, 0)},
        {},
        "as many heads kept of each 2",
    ),
    "stack of different widths": (
        CASES["stack"][0],
        (4,),
        {"repeat1/residual1/relu1": np.stack([kept(5, 0), kept(5, 0, 1)])},
        {},
        "as many nodes kept in each of the 2 layers",
    ),
    "infinite": (
        jn.Sequential(jn.Dense(3), jnp.log, jn.Dense(2)),
        (2,),
        {"dense1": kept(3, 0)},
        {},
        "become infinite or NaN",
    ),
    "name": (CASES["mlp"][0], (4,), {"dense4": kept(3, 0)}, {}, "did you mean 'dense"),
    "size": (CASES["mlp"][0], (4,), {"dense1": kept(5, 0)}, {}, r"shape (6,), True where"),
    "numbers": (CASES["mlp"][0], (4,), {"dense1": np.ones(6)}, {}, "a mask of bools"),
    "none": (CASES["mlp"][0], (4,), {"dense1": np.zeros(6, bool)}, {}, "at least one node"),
    "value": (CASES["mlp"][0], (4,), {"dense1": kept(6, 0)}, {"dense1": ANY}, "value of shape"),
    "values": (CASES["mlp"][0], (4,), {"dense1": kept(6)}, {"dense2": 0.0}, "a value for each"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name):
    net, shape, masks, values, message = REFUSED[name]
    variables, x = made(net, shape)
    with pytest.raises(JaxNodesError) as error:
        prune(net, variables, masks, x=x, values=values or "zero")
    assert message in str(error.value)


def test_wants_numbers(key):
    net, shape, masks, _, _ = CASES["mlp"]
    variables, x = made(net, shape)
    with pytest.raises(JaxNodesError, match="with numbers in them"):
        prune(net, jax.eval_shape(net.init, key, x), masks, x=x)
    with pytest.raises(JaxNodesError, match="samples in x to take means over"):
        prune(net, variables, masks, x=jax.ShapeDtypeStruct(x.shape, x.dtype), values="mean")
    with pytest.raises(JaxNodesError, match="values 'zero', 'mean'"):
        prune(net, variables, masks, x=x, values="median")
    with pytest.raises(JaxNodesError, match="a network"):
        prune(net.predict, variables, masks, x=x)


@pytest.mark.parametrize("name", jn.ACTIVATIONS)
def test_which_activations_are_elementwise(name):
    mixing = ("softmax", "log_softmax", "glu")
    assert is_elementwise(jn.ACTIVATIONS[name]) == (name not in mixing)


def test_in_rounds_importance_is_measured_again():
    """Two nodes that do the same: one of them may go, which a single look can't know."""
    net = jn.Sequential(jn.Dense(4, use_bias=False), jn.Dense(1, use_bias=False))
    w = jnp.array([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]])
    params = {"dense1": {"w": w}, "dense2": {"w": jnp.array([[1.0], [1.0], [0.9], [0.9]])}}
    seen = []

    def importance(net, variables):
        # What is left of each input's outgoing weight without the node, as a shortfall.
        first, second = variables[0]["dense1"]["w"], variables[0]["dense2"]["w"][:, 0]
        through = first @ second
        seen.append(len(second))
        without = through[:, None] - first * second
        return {"dense1": jnp.sum(first * jnp.maximum(1.0 - without, 0.0), axis=0)}

    x = jax.ShapeDtypeStruct((1, 2), jnp.float32)
    options = {"x": x}
    once, of_once = prune_to(net, (params, {}), importance, 0.5, **options)
    assert seen == [4]
    twice, of_two = prune_to(net, (params, {}), importance, 0.5, rounds=2, **options)
    assert seen == [4, 4, 3]
    assert once == twice
    # At once, both nodes of the weaker input look best; one by one, each input keeps one.
    assert np.asarray(of_once[0]["dense1"]["w"]).tolist() == [[0.0, 0.0], [1.0, 1.0]]
    assert np.asarray(of_two[0]["dense1"]["w"]).tolist() == [[1.0, 0.0], [0.0, 1.0]]


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_rounds_end_at_the_size_asked_for(scope):
    net = jn.fully_connected([5, 13, 7, 3])
    variables, x = made(net, (5,))

    def importance(net, variables):
        return {name: jnp.abs(variables[0][name]["w"]).sum(0) for name in ("dense1", "dense2")}

    sizes = []
    for rounds in (1, 2, 5):
        smaller, _ = prune_to(net, variables, importance, 0.3, x=x, scope=scope, rounds=rounds)
        sizes.append([layer.features for _, layer in smaller.layers])
    if scope == "layer":
        assert sizes == [[4, 2, 3]] * 3
    else:
        assert [sum(size) for size in sizes] == [6 + 3] * 3


def test_rounds_need_something_to_measure_by():
    net = jn.fully_connected([5, 4, 3])
    variables, x = made(net, (5,))
    scores = {"dense1": np.arange(4)}
    with pytest.raises(JaxNodesError, match="expected a function of importance"):
        prune_to(net, variables, scores, 0.5, x=x, rounds=2)
    with pytest.raises(JaxNodesError, match="expected a function of importance"):
        prune_to(net, variables, lambda *_: scores, 0.5, x=x, rounds=2, values={"dense1": 0.5})
    with pytest.raises(JaxNodesError, match="rounds"):
        prune_to(net, variables, scores, 0.5, x=x, rounds=0)
