"""The round trip of every layer is in `test_all_layers`; here, what is written and refused."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import pytest

import jaxnodes as jn
from jaxnodes.activations import ACTIVATIONS
from jaxnodes.initializers import INITIALIZERS

NET = jn.Sequential(
    jn.Conv(8, 3, "relu", padding="VALID"),
    jn.Residual(jn.Sequential(jn.BatchNorm(0.2), jn.Dropout(0.5), act="gelu")),
    jn.Parallel(jn.GlobalAvgPool(), jn.GlobalMaxPool(), merge="sum"),
    out=jn.Dense(10, w_init="zeros", dtype=jnp.bfloat16),
)
CONFIG = {
    "kind": "Sequential",
    "layers": [
        {
            "name": "conv1",
            "kind": "Conv",
            "features": 8,
            "kernel_size": [3, 3],
            "activation": "relu",
            "padding": "VALID",
        },
        {
            "name": "residual1",
            "kind": "Residual",
            "layer": {
                "kind": "Sequential",
                "layers": [
                    {"name": "batch_norm1", "kind": "BatchNorm", "momentum": 0.2},
                    {"name": "dropout1", "kind": "Dropout", "rate": 0.5},
                    {"name": "act", "kind": "Elementwise", "function": "gelu"},
                ],
            },
        },
        {
            "name": "parallel1",
            "kind": "Parallel",
            "layers": [
                {"name": "global_avg_pool1", "kind": "GlobalAvgPool"},
                {"name": "global_max_pool1", "kind": "GlobalMaxPool"},
            ],
            "merge": "sum",
        },
        {"name": "out", "kind": "Dense", "features": 10, "w_init": "zeros", "dtype": "bfloat16"},
    ],
}


def test_a_config_as_it_is_written():
    assert jn.to_config(NET) == CONFIG
    assert jn.from_config(json.loads(json.dumps(CONFIG))) == NET


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_registered_activation(name):
    for layer in (jn.Dense(2, name), jn.Sequential(name).layers[0][1]):
        assert jn.from_config(jn.to_config(layer)) == layer


@pytest.mark.parametrize("name", INITIALIZERS)
def test_every_registered_initializer(name):
    layer = jn.Dense(2, w_init=name, b_init=name)
    assert jn.from_config(jn.to_config(layer)) == layer


def test_the_rebuilt_network_computes_the_same(key):
    net = jn.fully_connected([4, 5, 3], "tanh", dropout=0.5)
    x = jax.random.normal(key, (2, 4))
    params, state = net.init(key, x)
    rebuilt = jn.from_config(jn.to_config(net))
    assert jax.tree.all(jax.tree.map(jnp.array_equal, rebuilt.init(key, x), (params, state)))
    expected, _ = net.apply(params, state, x, key=key, training=True)
    assert (rebuilt.apply(params, state, x, key=key, training=True)[0] == expected).all()


@dataclasses.dataclass(frozen=True)
class Mine(jn.Layer):
    def apply(self, params, state, x, *, key=None, training=False):
        return x, state


@dataclasses.dataclass(frozen=True, repr=False)
class Dense(jn.Layer):
    """One that goes by the name of a public layer."""

    features: int = 3


def double(x):
    return 2 * x


@pytest.mark.parametrize(
    ("layer", "problem"),
    [
        (jn.Sequential(lambda x: 2 * x), "^lambda1: expected function .* got lambda; a config"),
        (jn.Sequential(jn.Dense(3), double), "^double1: .* got double; a config holds public"),
        (jn.Sequential(inner=jn.Residual(double)), "^inner/double1: .* got double"),
        (jn.Dense(3, double), "^to_config: expected activation of Dense .* got double"),
        (jn.Dense(3, w_init=jn.constant(0.5)), r"expected w_init of Dense .* got constant\(0.5\)"),
        (jn.Sequential(jn.Dense(2), Mine()), "^mine1: expected a public layer .* got Mine; a conf"),
        (jn.Residual(jn.Repeat(Mine(), 2)), "^repeat1/mine1: "),
        (jn.Sequential(Dense()), "^dense1: expected a public layer of jaxnodes, got Dense"),
        (jn.from_functions(double, double), "expected a public layer .* got Functions"),
        (jn.Parallel("relu", merge=sum), "expected merge of Parallel .* got sum"),
        ("relu", "expected a public layer .* got str"),
    ],
)
def test_what_has_no_name_is_refused_with_its_path(layer, problem):
    with pytest.raises(jn.JaxNodesError, match=problem):
        jn.to_config(layer)


def sequential(*layers):
    return {"kind": "Sequential", "layers": list(layers)}


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ([], "expected a mapping with a 'kind'"),
        ({"features": 3}, "expected a mapping with a 'kind'"),
        ({"kind": "Densee", "features": 3}, "did you mean 'Dense'"),
        ({"kind": "Layer"}, "expected the kind of a layer"),
        ({"kind": "Functions"}, "expected the kind of a layer"),
        ({"kind": ["Dense"]}, "expected the kind of a layer"),
        ({"kind": "Dense"}, r"fields of Dense \(features, activation.* got no 'features'"),
        ({"kind": "Dense", "features": 3, "size": 2, "name": "a"}, "unknown 'name' and .* 'size'"),
        ({"kind": "Dense", "features": "3"}, "features to be a whole number .* got '3'"),
        ({"kind": "Dense", "features": True}, "features of Dense to be other than true or false"),
        ({"kind": "Dense", "features": 3, "use_bias": 1}, "use_bias of Dense to be true or false"),
        ({"kind": "Dense", "features": 3, "activation": "rely"}, "did you mean 'relu'"),
        ({"kind": "Dense", "features": 3, "dtype": "int8"}, "expected a floating dtype"),
        ({"kind": "Repeat", "layer": {"kind": "Flatten"}, "n": 0}, "n to be a whole number"),
        ({"kind": "Residual", "layer": 3}, "expected a layer, an activation's name"),
        ({"kind": "Residual", "layer": {"kind": "Nope"}}, "expected the kind of a layer"),
        ({"kind": "Elementwise", "function": "nope"}, "the name of an activation"),
        ({"kind": "Parallel", "layers": []}, "expected at least one layer"),
        ({"kind": "Sequential", "layers": {"a": 1}}, "a list of mappings with a 'name'"),
        (sequential({"kind": "Flatten"}), "a list of mappings with a 'name'"),
        (sequential({"name": "self", "kind": "Flatten"}), "expected values that Sequential takes"),
        (sequential("relu"), "a list of mappings with a 'name'"),
        (sequential({"name": "a/b", "kind": "Flatten"}), "expected a name without any of"),
        (sequential(*[{"name": "a", "kind": "Flatten"}] * 2), "names that differ, got 'a' twice"),
        (
            sequential({"name": "outer", **sequential({"name": "in", "kind": "Dense"})}),
            "^outer/in: expected the fields of Dense",
        ),
    ],
)
def test_a_wrong_config_is_refused_with_the_path(config, problem):
    with pytest.raises(jn.JaxNodesError, match=problem):
        jn.from_config(config)
