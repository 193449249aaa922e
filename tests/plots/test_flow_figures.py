"""Gradient flow: sizes by layer and by step, and what is marked."""

import numpy as np
import pytest

import jaxnodes as jn
from jaxnodes import plots
from jaxnodes.analysis import GradientFlow
from jaxnodes.plots import BLUE, ORANGE
from tests.plots.examples import FLOW


def labeled(ax):
    return {line.get_label(): line for line in ax.get_lines()}


def test_layers_from_the_first_on_top_those_of_a_stack_one_by_one():
    layers = plots.gradient_flow(FLOW).axes[0]
    names = [label.get_text() for label in layers.get_yticklabels()]
    assert names == ["lstm1", "dense1[0]", "dense1[1]", "out"]
    assert layers.yaxis_inverted()
    assert layers.get_xscale() == "log"
    lines = labeled(layers)
    np.testing.assert_array_equal(lines["activation"].get_xdata(), [0.5, 2, np.nan, 1])
    np.testing.assert_array_equal(
        lines["gradient of the loss"].get_xdata(), [1e-4, 1e4, np.nan, 0.1]
    )
    assert layers.get_xlim() == (1e-5, 1e5)  # whole decades around 1e-4 and 1e4


def test_what_is_wrong_is_marked():
    layers = plots.gradient_flow(FLOW).axes[0]
    words = {text.get_position()[1]: text.get_text() for text in layers.texts}
    assert words == {0: "vanishing", 1: "exploding", 2: "vanishing"}
    (rings,) = [line for line in layers.get_lines() if line.get_markersize() == 12]
    np.testing.assert_array_equal(rings.get_xydata(), [[1e-4, 0], [1e4, 1]])
    # A zero has no place on the axis: a triangle at its left edge.
    edges = [line for line in layers.get_lines() if line.get_marker() == "<"]
    assert [line.get_xydata().tolist() for line in edges] == [[[0, 2]]] * 2
    assert {line.get_color() for line in edges} == {BLUE, ORANGE}


def test_sizes_that_are_not_finite_are_at_the_right_edge():
    sizes = {"a": np.array(np.inf), "b": np.array(1.0)}
    flow = GradientFlow(
        {"a": np.array(1.0), "b": np.array(1.0)}, sizes, {}, {}, {"a": "not finite: "}
    )
    (layers,) = plots.gradient_flow(flow).axes
    (edge,) = [line for line in layers.get_lines() if line.get_marker() == ">"]
    assert edge.get_xydata().tolist() == [[1, 0]]
    assert [text.get_text() for text in layers.texts] == ["not finite"]


def test_a_panel_for_each_site_over_time():
    _, steps = plots.gradient_flow(FLOW).axes
    assert steps.get_title() == "lstm1: vanishing over time"
    activation, gradient = steps.get_lines()
    np.testing.assert_array_equal(activation.get_ydata(), FLOW.step_activations["lstm1"])
    np.testing.assert_array_equal(gradient.get_xydata(), [[0, 1e-9], [1, np.sqrt(2e-8)]])
    assert (steps.get_xlabel(), steps.get_yscale()) == ("time step", "log")


@pytest.mark.parametrize("axis", [0, 1])
def test_in_a_stack_of_layers_a_line_for_each_layer(axis):
    """Layers and steps may be scanned in either order; their means tell which is which."""
    sizes = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])  # (layers, time)
    whole = np.sqrt((sizes**2).mean(axis=1))
    steps = sizes if axis == 0 else sizes.T
    flow = GradientFlow({"h": whole}, {"h": whole}, {"h": steps}, {"h": steps}, {})
    drawn = plots.gradient_flow(flow).axes[1].get_lines()
    np.testing.assert_array_equal([line.get_ydata() for line in drawn], [*sizes, *sizes])


def test_anything_else_is_refused():
    with pytest.raises(jn.JaxNodesError, match=r"plots.gradient_flow: expected .* got dict"):
        plots.gradient_flow({"dense1": 1.0})
