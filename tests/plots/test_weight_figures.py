"""Weights as images: which weight is which pixel."""

import numpy as np
import pytest

import jaxnodes as jn
from jaxnodes import plots

RNG = np.random.default_rng(0)
KERNEL = RNG.normal(size=(2, 3, 1, 5))
DEEP = RNG.normal(size=(3, 3, 4, 6))


def images(figure):
    return [image.get_array() for image in figure.axes[0].get_images()]


def corners(figure):
    """Left and upper edge of each image."""
    return [(i.get_extent()[0], i.get_extent()[3]) for i in figure.axes[0].get_images()]


def test_filters_of_one_channel_lie_in_rows():
    figure = plots.filters(KERNEL, columns=3)
    ax = figure.axes[0]
    np.testing.assert_array_equal(images(figure), np.moveaxis(KERNEL[:, :, 0], -1, 0))
    xs, ys = zip(*corners(figure), strict=True)
    assert xs[:3] == tuple(sorted(set(xs)))
    assert (xs[3], xs[4]) == xs[:2]
    assert len(set(ys[:3])) == len(set(ys[3:])) == 1
    assert ys[3] > ys[0]
    assert ax.yaxis_inverted()
    assert [text.get_text() for text in ax.texts] == list("01234")
    assert ax.get_title() == "5 filters"
    assert ax.get_xlabel() == "filter, by number (2 x 3 pixels each)"
    assert figure.axes[1].get_ylabel() == "weight"


def test_filters_of_channels_are_columns():
    figure = plots.filters(DEEP, most_filters=2, most_channels=3)
    ax = figure.axes[0]
    expected = [DEEP[:, :, channel, i] for channel in range(3) for i in range(2)]
    np.testing.assert_array_equal(images(figure), expected)
    xs, ys = zip(*corners(figure), strict=True)
    assert (xs[0], ys[0]) == (xs[2], ys[1])
    assert xs[1] > xs[0]
    assert ys[2] > ys[0]
    assert ax.get_title() == "2 of 6 filters, 3 of 4 channels"
    assert [label.get_text() for label in ax.get_yticklabels()] == ["0", "1", "2"]
    assert ax.get_ylabel() == "input channel"


def test_one_scale_for_all_with_zero_in_the_middle():
    for kernel in (KERNEL, np.abs(KERNEL)):
        figure = plots.filters(kernel)
        limits = {image.get_clim() for image in figure.axes[0].get_images()}
        most = np.abs(kernel).max()
        assert limits == {(-most, most)}


def test_incoming_weights_are_a_nodes_own():
    w = np.arange(24.0).reshape(12, 2)
    figure = plots.incoming_weights(w, (3, 4))
    np.testing.assert_array_equal(images(figure), [w[:, i].reshape(3, 4) for i in range(2)])
    assert figure.axes[0].get_title() == "2 nodes"
    colors = plots.incoming_weights(w, (2, 2, 3), most_nodes=1)
    # Pixel (row, column) of channel c is input (row * 2 + column) * 3 + c.
    np.testing.assert_array_equal(images(colors)[1], [[w[1, 0], w[4, 0]], [w[7, 0], w[10, 0]]])
    assert colors.axes[0].get_title() == "1 of 2 nodes, 3 channels"


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.filters(np.zeros((3, 3, 8))), r"plots.filters: .* 1-D .* got \(3, 3, 8\)"),
        (lambda: plots.filters(DEEP * np.inf), r"finite weights, got 216"),
        (lambda: plots.filters(DEEP, most_filters=0), r"most_filters to be a whole number"),
        (lambda: plots.filters(DEEP, columns=0), r"columns to be a whole number"),
        (lambda: plots.incoming_weights(np.zeros(4), (2, 2)), r"weights \(D, nodes\), got \(4,\)"),
        (
            lambda: plots.incoming_weights(np.zeros((9, 2)), (2, 2)),
            r"plots.incoming_weights: .* of the 9 inputs, got \(2, 2\)",
        ),
        (lambda: plots.incoming_weights(np.zeros((4, 2)), (4,)), r"got \(4,\)"),
    ],
)
def test_what_they_refuse(draw, message):
    with pytest.raises(jn.JaxNodesError, match=message):
        draw()
