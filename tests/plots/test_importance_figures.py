"""Bars: how long, in which order and in which color; curves: the points."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

import jaxnodes as jn
from jaxnodes import plots
from jaxnodes.analysis import RemovalCurve
from jaxnodes.plots import BLUE, GREEN, ORANGE

DROPS = {"dense1": np.array([0.1, 0.5, -0.2]), "conv1": [[0.3, 0.0], [0.4, 0.5]]}
NODES = tuple(("dense1", i) for i in range(4))
CURVE = RemovalCurve(np.array([0, 2, 4]), np.array([0.9, 0.7, 0.1]), NODES)


def bars(ax):
    """(position, length, color), in the order of the positions."""
    found = [
        (round(float(b.get_y() + b.get_height() / 2)), float(b.get_width()), b.get_facecolor())
        for b in ax.patches
    ]
    return [(at, length, to_hex(color).upper()) for at, length, color in sorted(found)]


def names(ax):
    return [label.get_text() for label in ax.get_yticklabels()]


def test_the_most_important_first_of_equal_ones_the_first():
    figure = plots.importance(DROPS, unit="accuracy lost (share of samples)")
    (ax,) = figure.axes
    order = "dense1/1 conv1/1/1 conv1/1/0 conv1/0/0 dense1/0 conv1/0/1 dense1/2"
    assert names(ax) == order.split()
    drawn = bars(ax)
    assert [at for at, _, _ in drawn] == list(range(7))
    assert [length for _, length, _ in drawn] == [0.5, 0.5, 0.4, 0.3, 0.1, 0.0, -0.2]
    dense, conv = BLUE.upper(), ORANGE.upper()
    assert [color for _, _, color in drawn] == [dense, conv, conv, conv, dense, conv, dense]
    assert ax.yaxis_inverted()  # the first on top
    assert ax.get_xlabel() == "accuracy lost (share of samples)"
    assert ax.get_title() == "7 nodes"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["dense1", "conv1"]


def test_only_the_top_is_shown_and_that_is_said():
    figure = plots.importance(DROPS, 3)
    (ax,) = figure.axes
    assert names(ax) == ["dense1/1", "conv1/1/1", "conv1/1/0"]
    assert ax.get_title() == "most important: 3 of 7 nodes"
    assert ax.get_xlabel() == "metric lost without the node"


def test_errors_are_bars_around_the_ends():
    errors = {name: abs(np.array(array)) / 10 for name, array in DROPS.items()}
    (ax,) = plots.importance(DROPS, 2, errors=errors).axes
    (lines,) = ax.collections
    ends = [segment[:, 0].tolist() for segment in lines.get_segments()]
    np.testing.assert_allclose(ends, [[0.45, 0.55], [0.45, 0.55]])


def test_all_nodes_of_each_site_sorted():
    figure = plots.importance_by_site({**DROPS, "out": [0.0]}, unit="loss gained (nats)")
    heights = [[float(bar.get_height()) for bar in ax.patches] for ax in figure.axes]
    assert heights == [[0.5, 0.1, -0.2], [0.5, 0.4, 0.3, 0.0], [0.0]]
    first, second, third = figure.axes
    assert [to_hex(bar.get_facecolor()).upper() for bar in first.patches] == [BLUE, BLUE, ORANGE]
    assert [ax.get_title() for ax in figure.axes] == [
        "dense1\n3 nodes, 0 without effect",
        "conv1\n4 nodes, 1 without effect",
        "out\n1 node, 1 without effect",
    ]
    assert first.get_ylim() == second.get_ylim() == third.get_ylim()
    assert first.get_ylabel() == "loss gained\n(nats)"


def test_removal_curves_are_the_points():
    best = CURVE._replace(metric=np.array([0.9, 0.2, 0.1]))
    figure = plots.removal_curves(
        {"worst first": CURVE, "best first": best}, unit="accuracy (share of samples)"
    )
    (ax,) = figure.axes
    lines = {line.get_label(): line for line in ax.get_lines()}
    np.testing.assert_array_equal(lines["worst first"].get_xdata(), [0, 2, 4])
    np.testing.assert_array_equal(lines["worst first"].get_ydata(), [0.9, 0.7, 0.1])
    np.testing.assert_array_equal(lines["best first"].get_ydata(), [0.9, 0.2, 0.1])
    assert list(lines["all nodes"].get_ydata()) == [0.9, 0.9]
    assert lines["worst first"].get_linestyle() != lines["best first"].get_linestyle()
    assert ax.get_xlabel() == "nodes removed (of 4)"
    assert ax.get_ylabel() == "accuracy (share of samples)"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == list(lines)


def test_removal_curves_of_different_nodes():
    other = RemovalCurve(np.array([0, 1]), np.array([0.8, 0.1]), NODES[:1])
    third = other._replace(metric=np.array([0.7, 0.3]))
    (ax,) = plots.removal_curves({"a": CURVE, "b": other, "c": third}).axes
    assert [line.get_label() for line in ax.get_lines()] == ["a", "b", "c"]
    assert ax.get_lines()[2].get_color() == GREEN
    assert ax.get_xlabel() == "nodes removed"


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.importance({}), r"plots.importance: expected what analysis.ablate returned"),
        (lambda: plots.importance([0.1]), r"arrays, by name, got list"),
        (lambda: plots.importance({"h": [np.nan, 1.0]}), r"expected finite 'h', got 1"),
        (lambda: plots.importance({"h": 1.0}), r"'h' to be \(size,\), or \(layers, size\)"),
        (lambda: plots.importance(DROPS, 0), r"top to be a whole number"),
        (lambda: plots.importance(DROPS, errors={"dense1": [1, 1, 1]}), r"errors for 'conv1'"),
        (
            lambda: plots.importance({"h": [1.0]}, errors={"h": [-1.0]}),
            r"errors \(1,\) for 'h', finite and not negative",
        ),
        (lambda: plots.importance_by_site({"h": []}), r"plots.importance_by_site: .* got \(0,\)"),
        (lambda: plots.removal_curves({}), r"plots.removal_curves: expected results"),
        (lambda: plots.removal_curves(CURVE), r"by name, got RemovalCurve"),
        (lambda: plots.removal_curves({"a": [1, 2]}), r"'a' to be what .* returned, got list"),
        (
            lambda: plots.removal_curves({"a": CURVE._replace(metric=np.zeros((3, 10)))}),
            r"a metric of one value, got \(3, 10\)",
        ),
    ],
)
def test_what_they_refuse(draw, message):
    with pytest.raises(jn.JaxNodesError, match=message):
        draw()


def test_no_panel_cuts_off_the_bars_of_another():
    figure = plots.importance_by_site({"dense1": [0.1, 0.2], "dense2": [0.5, -0.3]})
    for ax in figure.axes:
        low, high = ax.get_ylim()
        assert low < -0.3
        assert high > 0.5
