"""`summary` against numbers worked by hand, XLA's count of operations, and other libraries."""

import dataclasses
import math

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import jaxnodes as jn
from jaxnodes.analysis import LayerSummary, summary
from jaxnodes.analysis.flops import count_flops
from tests.layers.table import TABLE


def shape(*sizes, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(sizes, dtype)


def of_net(net, x):
    return summary(net.predict, jax.eval_shape(net.init, jax.random.key(0), x), x)


def flops_of(f, *args):
    return count_flops(jax.make_jaxpr(f)(*args).jaxpr, lambda path: "all")["all"]


def test_784_256_128_10():
    """The README's numbers: 784 + 256 + 128 + 10 nodes, and 784 x 256 + 256 + ... parameters."""
    net = jn.fully_connected([784, 256, 128, 10], dropout=0.5)
    made = of_net(net, shape(32, 784))
    assert made.total_nodes == 1178
    assert made.nodes == {"input": 784, "dense1": 256, "dense2": 128, "dense3": 10}
    assert made.total_parameters == 235_146
    assert made.parameters == {"dense1": 200_960, "dense2": 32_896, "dense3": 1290}
    assert made.flops == 2 * 32 * (784 * 256 + 256 * 128 + 128 * 10)
    assert made.memory == 4 * 32 * 1178
    assert made.rows[1] == LayerSummary(
        "dense1", "Dense", (32, 256), 256, 200_960, 2 * 32 * 784 * 256, 4 * 32 * 256
    )


def test_a_network_of_every_sort():
    net = jn.Sequential(
        jn.Conv(6, 3, "relu", stride=2),
        jn.BatchNorm(),
        jn.MaxPool(2),
        jn.gelu,
        jn.Reshape((4, 6)),
        jn.Repeat(jn.Residual(jn.Sequential(jn.LayerNorm(), jn.Dense(6))), 3),
        jn.Bidirectional(jn.GRU(5)),
        jn.Attention(2, head_features=4),
        jn.LastStep(),
        jn.Parallel(jn.Dense(2), jn.Dense(3, use_bias=False), merge="concat"),
    )
    made = of_net(net, shape(2, 8, 8, 3))
    every = [
        ("input", "", (2, 8, 8, 3), 192, 0, 0),
        ("conv1", "Conv", (2, 4, 4, 6), 6, 27 * 6 + 6, 2 * (2 * 16) * 27 * 6),
        ("batch_norm1", "BatchNorm", (2, 4, 4, 6), 0, 12, 0),
        ("max_pool1", "MaxPool", (2, 2, 2, 6), 0, 0, 0),
        ("gelu1", "gelu", (2, 2, 2, 6), 6, 0, 0),
        ("reshape1", "Reshape", (2, 4, 6), 0, 0, 0),
        ("repeat1/residual1/layer_norm1", "LayerNorm", (3, 2, 4, 6), 0, 3 * 12, 0),
        ("repeat1/residual1/dense1", "Dense", (3, 2, 4, 6), 18, 3 * 42, 3 * 2 * 8 * 36),
        ("bidirectional1/forward", "GRU", (2, 4, 5), 5, 11 * 15 + 20, 2 * 8 * 11 * 15),
        ("bidirectional1/backward", "GRU", (2, 4, 5), 5, 11 * 15 + 20, 2 * 8 * 11 * 15),
        (
            "attention1",
            "Attention",
            (2, 4, 10),
            2,
            3 * (10 * 8 + 8) + 8 * 10 + 10,
            # Four projections, and each of two heads' products of 4 queries, keys and values.
            2 * (4 * 8 * 10 * 8 + 2 * 2 * 2 * 4 * 4 * 4),
        ),
        ("last_step1", "LastStep", (2, 10), 0, 0, 0),
        ("parallel1/dense1", "Dense", (2, 2), 2, 22, 2 * 2 * 20),
        ("parallel1/dense2", "Dense", (2, 3), 3, 30, 2 * 2 * 30),
    ]
    for row, expected in zip(made.rows, every, strict=True):
        assert row[:6] == expected
        assert row.memory == 4 * math.prod(row.output_shape)


PLAIN = {
    "dense": (jn.Sequential(jn.Dense(7, use_bias=False), jn.Dense(5, use_bias=False)), (3, 4)),
    "steps": (jn.Dense(7, use_bias=False), (3, 6, 4)),
    "conv": (jn.Conv(4, 3, padding="VALID", use_bias=False), (2, 8, 8, 5)),
    "stride": (jn.Conv(4, (3, 2), padding="VALID", stride=2, use_bias=False), (2, 8, 8, 5)),
    "groups": (jn.Conv(6, 3, padding="VALID", groups=2, use_bias=False), (2, 8, 8, 4)),
    "dilation": (jn.Conv(4, (3,), padding="VALID", dilation=2, use_bias=False), (2, 9, 3)),
}


@pytest.mark.parametrize("name", PLAIN)
def test_flops_are_those_of_xla(name):
    """Where there are products alone, and no padding, which XLA leaves out."""
    net, sizes = PLAIN[name]
    x = shape(*sizes)
    variables = jax.eval_shape(net.init, jax.random.key(0), x)
    analysis = jax.jit(net.predict).lower(variables, x).compile().cost_analysis()
    assert summary(net, variables, x).flops == analysis["flops"] > 0


def test_bias_and_activation_are_what_xla_counts_besides():
    net, x = jn.Sequential(jn.Dense(7, "relu"), jn.Dense(5)), shape(3, 4)
    variables = jax.eval_shape(net.init, jax.random.key(0), x)
    analysis = jax.jit(net.predict).lower(variables, x).compile().cost_analysis()
    assert summary(net, variables, x).flops == analysis["flops"] - 3 * (7 + 7 + 5)


def test_flops_of_control_flow():
    w = jnp.ones((4, 4))
    one = 2 * 4 * 4 * 4

    def branch(i, x):
        return jax.lax.switch(i, [lambda x: x, lambda x: x @ w @ w, lambda x: x @ w], x)

    assert (
        flops_of(lambda x: jax.lax.scan(lambda c, _: (c @ w, None), x, length=5)[0], w) == 5 * one
    )
    assert flops_of(branch, 0, w) == 2 * one
    assert flops_of(lambda x: jax.lax.while_loop(lambda c: True, lambda c: c @ w, x), w) == one
    assert flops_of(jax.checkpoint(lambda x: jax.jit(jnp.dot)(x, w)), w) == one
    assert flops_of(jax.vmap(lambda x: x @ w), jnp.ones((3, 4, 4))) == 3 * one


def test_flops_of_gradients_are_those_of_the_products_again():
    """Each product has two transposes, as large as itself; x needs none here."""
    for net, x in (
        (jn.Sequential(jn.Dense(7), jn.Dense(5)), jnp.ones((3, 4))),
        (
            jn.Sequential(jn.Conv(4, 3, stride=2), jn.ConvTranspose(3, 2, stride=2)),
            jnp.ones((2, 6, 6, 2)),
        ),
    ):
        variables = jax.eval_shape(net.init, jax.random.key(0), x)
        rows = {row.name: row.flops for row in summary(net, variables, x).rows}
        first, second = (flops for flops in rows.values() if flops)
        made = flops_of(jax.grad(lambda v, x=x, net=net: net.predict(v, x).sum()), variables)
        assert made == 2 * first + 3 * second


def test_a_transposed_convolution_is_the_convolution_turned_around():
    """Four outputs of every input, 3 channels to 5: not the zeros that XLA's own puts between."""
    made = of_net(jn.ConvTranspose(5, 2, stride=2, use_bias=False), shape(2, 4, 4, 3))
    assert made.flops == 2 * (2 * 16) * (2 * 2) * 3 * 5
    w, x = jnp.ones((2, 2, 3, 5)), jnp.ones((2, 4, 4, 3))
    assert flops_of(lambda x: jax.lax.conv_transpose(x, w, (2, 2), "SAME"), x) == made.flops


@pytest.mark.parametrize("name", TABLE)
def test_every_parameter_of_every_layer_is_counted_once(name):
    entry = TABLE[name]
    x = jax.eval_shape(entry.x, jax.random.key(0))
    variables = jax.eval_shape(entry.layer.init, jax.random.key(0), x)
    made = summary(entry.layer, variables, x)
    assert made.total_parameters == sum(leaf.size for leaf in jax.tree.leaves(variables[0]))


def test_plain_functions_and_nodes_without_scopes():
    def f(params, x):
        params = jax.tree.map(lambda p: p.astype(jnp.float32), params)
        h = jn.node(jnp.tanh(x @ params["w1"] + params["b1"]), "hidden")
        with jax.named_scope("head"):
            z = jn.node(h @ params["w2"], "logits")
        return z * params["scale"]

    half = {"w1": (4, 5), "b1": (5,), "w2": (5, 2), "scale": (), "unused": (3,)}
    params = {name: shape(*sizes, dtype=jnp.bfloat16) for name, sizes in half.items()}
    made = summary(f, params, shape(6, 4))
    assert [row[:6] for row in made.rows] == [
        ("input", "", (6, 4), 4, 0, 0),
        ("hidden", "dense", (6, 5), 5, 25, 2 * 6 * 20),
        ("head/logits", "dense", (6, 2), 2, 10, 2 * 6 * 10),
        ("", "elementwise", (6, 2), 0, 4, 0),
    ]
    assert "(no scope)" in str(made)


def test_weights_used_twice_are_counted_once():
    @dataclasses.dataclass(frozen=True)
    class Twice(jn.Layer):
        def apply(self, params, state, x, *, key=None, training=False):
            for _ in range(2):
                x, state = jn.call(jn.Dense(4), "tied", params, state, x)
            return x, state

    made = of_net(Twice(), shape(3, 4))
    assert made.nodes == {"input": 4, "tied": 4, "tied#2": 4}
    assert made.parameters == {"tied": 20}
    assert made.flops == 2 * 2 * 3 * 16


def test_inputs_of_ids_and_masks():
    net = jn.Sequential(jn.Embedding(9, 4), jn.LSTM(3))
    made = of_net(net, (shape(2, 6, dtype=jnp.int32), shape(2, 6, dtype=bool)))
    assert made.nodes == {"input": 6, "lstm1": 3}
    assert made.parameters == {"embedding1": 36, "lstm1": 4 * 3 * (4 + 3 + 1)}


class CNN(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.BatchNorm(use_running_average=True)(nn.Conv(6, (3, 3))(x)))
        x = nn.max_pool(x, (2, 2), strides=(2, 2))
        x = nn.relu(nn.Dense(5)(x.reshape(x.shape[0], -1)))
        return nn.Dense(3)(x)


class MLP(nnx.Module):
    def __init__(self, rngs):
        self.first, self.last = nnx.Linear(4, 5, rngs=rngs), nnx.Linear(5, 3, rngs=rngs)

    def __call__(self, x):
        return self.last(nnx.relu(self.first(x)))


def test_flax_linen(key):
    x, net = jnp.ones((2, 8, 8, 1)), CNN()
    made = summary(net.apply, jax.eval_shape(net.init, key, x), x, auto=True)
    assert made.nodes == {"input": 64, "CNN/Conv_0": 6, "CNN/Dense_0": 5, "CNN/Dense_1": 3}
    assert made.parameters == {
        "CNN/Conv_0": 9 * 6 + 6,
        "CNN/BatchNorm_0": 12,
        "CNN/Dense_0": 16 * 6 * 5 + 5,
        "CNN/Dense_1": 18,
    }
    ours = jn.Sequential(
        jn.Conv(6, 3),
        jn.BatchNorm(),
        jn.relu,
        jn.MaxPool(2),
        jn.Flatten(),
        jn.Dense(5),
        jn.Dense(3),
    )
    assert made.flops == of_net(ours, shape(2, 8, 8, 1)).flops


def test_flax_nnx_and_equinox(key):
    graph, state = nnx.split(MLP(nnx.Rngs(0)))
    made = summary(lambda state, x: nnx.merge(graph, state)(x), state, jnp.ones((2, 4)), auto=True)
    assert made.nodes == {"input": 4, "dense1": 5, "dense2": 3}
    assert made.parameters == {"dense1": 25, "dense2": 18}
    net = eqx.filter_eval_shape(eqx.nn.MLP, 4, 3, 5, 2, key=key)
    made = summary(lambda net, x: jax.vmap(net)(x), net, jnp.ones((2, 4)), auto=True)
    assert [(row.nodes, row.parameters, row.flops) for row in made.rows[1:]] == [
        (5, 25, 80),
        (5, 30, 100),
        (3, 18, 60),
    ]


def test_haiku(key):
    hk = pytest.importorskip("haiku")
    net = hk.without_apply_rng(hk.transform(lambda x: hk.nets.MLP([5, 3])(x)))
    x = shape(2, 4)
    made = summary(net.apply, jax.eval_shape(net.init, key, x), x, auto=True)
    assert made.nodes == {"input": 4, "mlp/linear_0": 5, "mlp/linear_1": 3}
    assert made.parameters == {"mlp/linear_0": 25, "mlp/linear_1": 18}
