"""Activations and their slopes are those of the formulas."""

import numpy as np
import pytest

import jaxnodes as jn
from jaxnodes import plots


def lines(ax):
    return {line.get_label(): line for line in ax.get_lines()}


def test_activation_functions_and_their_slopes():
    figure = plots.activation_functions()
    titles = [ax.get_title() for ax in figure.axes]
    assert titles[:6] == ["relu", "sigmoid", "tanh", "leaky_relu", "elu", "swish"]
    drawn = {ax.get_title(): lines(ax) for ax in figure.axes}
    x = drawn["tanh"]["value"].get_xdata()
    sigmoid = 1 / (1 + np.exp(-x))
    expected = {
        "tanh": (np.tanh(x), 1 - np.tanh(x) ** 2),
        "sigmoid": (sigmoid, sigmoid * (1 - sigmoid)),
        "softmax of (x, 0)": (sigmoid, sigmoid * (1 - sigmoid)),
        "leaky_relu": (np.where(x > 0, x, 0.01 * x), np.where(x > 0, 1, 0.01)),
    }
    for title, (value, slope) in expected.items():
        apart = np.abs(x) > 1e-3  # at a kink any slope between will do
        np.testing.assert_allclose(drawn[title]["value"].get_ydata(), value, atol=1e-6)
        np.testing.assert_allclose(
            drawn[title]["slope"].get_ydata()[apart], slope[apart], atol=1e-6
        )


def test_a_bias_shifts_where_a_node_turns_on():
    (ax,) = plots.bias_effect().axes
    drawn = lines(ax)
    for bias in range(-2, 3):
        line = drawn[f"b = {bias}"]
        expected = np.maximum(2 * line.get_xdata() + bias, 0)
        np.testing.assert_allclose(line.get_ydata(), expected, atol=1e-6)
    assert ax.get_ylabel() == "output relu(2x + b)"


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.activation_functions([]), r"expected at least one name"),
        (lambda: plots.activation_functions(["rleu"]), r"did you mean 'relu'"),
    ],
)
def test_what_they_refuse(draw, message):
    with pytest.raises(jn.JaxNodesError, match=message):
        draw()
