"""Activations against NumPy from their equations, by name, and by recommendation."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnodes import activations
from jaxnodes.activations import ACTIVATIONS, activation, activation_name, recommend_activation
from jaxnodes.errors import JaxNodesError
from jaxnodes.layers.neurons import Dense


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softplus(x):
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def softmax(x):
    return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


EQUATIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": sigmoid,
    "tanh": lambda x: (np.exp(x) - np.exp(-x)) / (np.exp(x) + np.exp(-x)),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "elu": lambda x: np.where(x > 0, x, np.exp(np.minimum(x, 0)) - 1),
    "celu": lambda x: np.maximum(x, 0) + np.minimum(0, np.exp(x) - 1),
    "silu": lambda x: x * sigmoid(x),
    "swish": lambda x: x * sigmoid(x),
    "softmax": softmax,
    "log_softmax": lambda x: np.log(softmax(x)),
    "gelu": lambda x: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "selu": lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * (np.exp(x) - 1)),
    "softplus": softplus,
    "squareplus": lambda x: (x + np.sqrt(x**2 + 4)) / 2,
    "soft_sign": lambda x: x / (1 + np.abs(x)),
    "log_sigmoid": lambda x: -softplus(-x),
    "mish": lambda x: x * np.tanh(softplus(x)),
    "glu": lambda x: x[..., :4] * sigmoid(x[..., 4:]),
    "relu6": lambda x: np.clip(x, 0, 6),
    "hard_tanh": lambda x: np.clip(x, -1, 1),
    "hard_sigmoid": lambda x: np.clip(x + 3, 0, 6) / 6,
    "hard_silu": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "hard_swish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "identity": lambda x: x,
    "linear": lambda x: x,
}


def test_every_activation_has_an_equation_here():
    assert set(EQUATIONS) == set(ACTIVATIONS)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_is_its_equation(name):
    x = np.random.default_rng(0).normal(size=(5, 8)) * 4
    got = ACTIVATIONS[name](jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(got, EQUATIONS[name](x), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_finds_each_by_name_and_names_each(name):
    function = activation(name)
    assert function is ACTIVATIONS[name]
    assert activation(function) is function
    assert ACTIVATIONS[activation_name(function)] is function
    assert getattr(activations, name) is function


def test_stays_finite_where_log_of_softmax_does_not():
    x = jnp.array([0.0, 200.0])
    assert jnp.log(jax.nn.softmax(x))[0] == -jnp.inf
    np.testing.assert_array_equal(activations.log_softmax(x), [-200.0, 0.0])


@pytest.mark.parametrize("name", ["ReLU", "RELU", " relu", "Leaky ReLU", "leaky-relu", "LeakyReLU"])
def test_forgives_spelling(name):
    expected = jax.nn.leaky_relu if "eaky" in name else jax.nn.relu
    assert activation(name) is expected


@pytest.mark.parametrize("bad", ["relo", "", 3, None, dict])
def test_an_unknown_name_is_an_error_that_lists_them(bad):
    with pytest.raises(JaxNodesError, match="relu, sigmoid, tanh") as error:
        activation(bad)
    assert repr(bad) in str(error.value)
    assert "\n" not in str(error.value)


def test_suggests_the_closest_name():
    with pytest.raises(JaxNodesError, match="did you mean 'leaky_relu'"):
        activation("leakyrela")


def test_a_function_of_ones_own_is_itself_and_has_no_name():
    def cube(x):
        return x**3

    assert activation(cube) is cube
    assert activation_name(cube) is None


@pytest.mark.parametrize(
    ("layer", "task", "bounds", "name"),
    [
        ("hidden", None, None, "relu"),
        ("Hidden", "binary", None, "relu"),
        ("deep", None, None, "relu"),
        ("recurrent", None, None, "tanh"),
        ("gate", None, None, "sigmoid"),
        ("dying_relu", None, None, "leaky_relu"),
        ("Dying ReLU", None, None, "leaky_relu"),
        ("output", "binary", None, "sigmoid"),
        ("output", "multiclass", None, "softmax"),
        ("output", "multi-class", None, "softmax"),
        ("output", "regression", None, "identity"),
        ("output", "bounded", None, "sigmoid"),
        ("output", "bounded", (0, 1), "sigmoid"),
        ("output", "bounded", (-1.0, 1.0), "tanh"),
    ],
)
def test_recommends(key, layer, task, bounds, name):
    recommendation = recommend_activation(layer, task, bounds=bounds)
    assert recommendation.name == name
    assert recommendation.activation is ACTIVATIONS[name]
    assert recommendation.reason.endswith(".")
    assert len(recommendation.reason.split()) > 5
    x = jnp.array([[0.5, -2.0, 3.0]])
    np.testing.assert_allclose(recommendation.activation(x), EQUATIONS[name](x), rtol=1e-5)
    dense = Dense(3, recommendation.activation)
    variables = dense.init(key, x)
    z = np.asarray(x @ variables[0]["w"])
    np.testing.assert_allclose(dense.predict(variables, x), EQUATIONS[name](z), rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"layer": "hiden"}, "did you mean 'hidden'"),
        ({"layer": "output"}, "expected an output layer's task .binary, multiclass"),
        ({"layer": "output", "task": "ranking"}, "got 'ranking'"),
        ({"layer": "hidden", "task": "ranking"}, "got 'ranking'"),
        ({"layer": "output", "task": "bounded", "bounds": (0, 5)}, "scale the targets"),
        ({"layer": "output", "task": "binary", "bounds": (0, 1)}, "leave them out"),
        ({"layer": "hidden", "bounds": (0, 1)}, "leave them out"),
    ],
)
def test_recommends_nothing_for_what_it_does_not_know(arguments, problem):
    with pytest.raises(JaxNodesError, match=problem):
        recommend_activation(**arguments)
