"""Top samples: which image is in which place, with which value and class."""

import numpy as np
import pytest

import jaxnodes as jn
from jaxnodes import plots
from tests.plots.examples import node_statistics

IMAGES = np.random.default_rng(0).random((6, 4, 4))
COLORS = np.random.default_rng(0).integers(0, 256, (6, 4, 5, 3), np.uint8)
LABELS = np.array([3, 1, 4, 1, 5, 9])
STATS = node_statistics(4)  # node i: samples i + 2, i, i + 1 with i + 2, i + 1, i + 0.5


def images(figure):
    return [image.get_array() for image in figure.axes[0].get_images()]


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def test_rows_are_nodes_and_the_largest_value_is_first():
    figure = plots.top_samples(STATS, IMAGES, LABELS, nodes=[3, 1], title="dense1")
    np.testing.assert_array_equal(images(figure), IMAGES[[5, 3, 4, 3, 1, 2]])
    # Sample 5 is of class 9, and so on.
    assert texts(figure)[:3] == ["5.00 (9)", "4.00 (1)", "3.50 (5)"]
    assert texts(figure)[3:] == ["3.00 (1)", "2.00 (1)", "1.50 (4)"]
    ax = figure.axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["3", "1"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1", "2", "3"]
    assert ax.get_title() == "dense1: 2 of 4 nodes"
    assert ax.get_xlabel() == "samples, the largest first; above: value (class)"
    extents = [image.get_extent() for image in ax.get_images()]
    assert extents[0][0] < extents[1][0]
    assert extents[3][3] > extents[0][3]


def test_all_images_share_one_gray_scale():
    figure = plots.top_samples(STATS, IMAGES - 0.5, nodes=[0])
    shown = IMAGES[[2, 0, 1]] - 0.5
    limits = {image.get_clim() for image in figure.axes[0].get_images()}
    assert limits == {(shown.min(), shown.max())}
    assert texts(figure) == ["2.00", "1.00", "0.500"]


def test_the_first_nodes_and_names_of_classes():
    names = [f"class {c}" for c in range(10)]
    figure = plots.top_samples(STATS, IMAGES, LABELS, names, most_nodes=1)
    assert texts(figure) == ["2.00 (class 4)", "1.00 (class 3)", "0.500 (class 1)"]
    assert figure.axes[0].get_title() == "1 of 4 nodes"


def test_images_in_color_and_as_rows():
    figure = plots.top_samples(STATS, COLORS, nodes=[0])
    np.testing.assert_allclose(images(figure), COLORS[[2, 0, 1]] / 255)
    rows = plots.top_samples(STATS, IMAGES.reshape(6, 16), nodes=[0])
    np.testing.assert_array_equal(images(rows), IMAGES[[2, 0, 1]])


def test_nodes_of_a_stack_of_layers():
    stack = {name: getattr(STATS, name).reshape(2, 2, 3) for name in ("top_values", "top_samples")}
    figure = plots.top_samples(STATS._replace(**stack), IMAGES, nodes=[(1, 0)])
    np.testing.assert_array_equal(images(figure), IMAGES[[4, 2, 3]])
    assert figure.axes[0].get_yticklabels()[0].get_text() == "1/0"


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.top_samples({"h": STATS}, IMAGES), r"of one site, got dict; .*'dense1'"),
        (lambda: plots.top_samples(STATS, IMAGES[:5]), r"the 6 samples .* got 5"),
        (lambda: plots.top_samples(STATS, np.zeros((6, 15))), r"square ones \(N, D\), got \(6, 15"),
        (lambda: plots.top_samples(STATS, np.zeros((6, 4, 4, 2))), r"got \(6, 4, 4, 2\)"),
        (lambda: plots.top_samples(STATS, COLORS / 100), r"colors between 0 and 1"),
        (lambda: plots.top_samples(STATS, IMAGES * np.nan), r"finite pixels, got 96"),
        (lambda: plots.top_samples(STATS, IMAGES, LABELS[:5]), r"integer labels \(6,\)"),
        (lambda: plots.top_samples(STATS, IMAGES, LABELS, ["a"]), r"each of 10 classes, got 1"),
        (lambda: plots.top_samples(STATS, IMAGES, nodes=[4]), r"a site of shape \(4,\), got 4"),
        (lambda: plots.top_samples(STATS, IMAGES, nodes=[(0, 1)]), r"got \(0, 1\)"),
        (lambda: plots.top_samples(STATS, IMAGES, nodes=[]), r"at least one node, got none"),
        (
            lambda: plots.top_samples(STATS._replace(top_samples=np.zeros((4, 0), int)), IMAGES),
            r"plots.top_samples: expected statistics that kept samples, got top_k=0",
        ),
    ],
)
def test_what_it_refuses(draw, message):
    with pytest.raises(jn.JaxNodesError, match=message):
        draw()
