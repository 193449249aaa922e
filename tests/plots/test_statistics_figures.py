"""Statistics: shares of the histograms, means, deviations, and what is marked."""

import numpy as np
import pytest

import jaxnodes as jn
from jaxnodes import plots
from tests.plots.examples import node_statistics


def test_columns_are_histograms_with_means_and_deviations():
    figure = plots.statistics({"dense1": node_statistics(3)})
    spread = figure.axes[0]
    (image,) = spread.get_images()
    # Six values each: one in the first bin, four in the third, one above.
    shares = np.array([1, 0, 4, 0])[:, None] / 6 * np.ones(3)
    np.testing.assert_allclose(image.get_array(), shares)
    assert image.origin == "lower"
    assert image.get_extent() == [-0.5, 2.5, 0, 4]
    assert spread.get_title() == "dense1: 3 nodes\n17% of the values lie outside"
    (bars,) = spread.containers
    np.testing.assert_array_equal(bars[0].get_xydata(), [[0, 0], [1, 1], [2, 2]])
    ends = [segment[:, 1].tolist() for segment in bars[2][0].get_segments()]
    assert ends == [[-2, 2], [-1, 3], [0, 4]]  # a variance of 4 is a deviation of 2
    assert (spread.get_xlabel(), spread.get_ylabel()) == ("node", "value")


def test_shares_of_active_values_and_marks_the_gravest_first():
    stats = node_statistics(5, saturated=np.arange(5) >= 3, near_limit=np.zeros(5))
    figure = plots.statistics({"dense1": stats})
    active = figure.axes[1]
    assert [float(bar.get_height()) for bar in active.patches] == [0.5, 0, 0.5, 0.5, 0.5]
    marks = {line.get_label(): line.get_xdata() for line in active.get_lines()}
    # Node 1 is dead and dormant, node 2 dormant.
    assert {kind: list(marks[kind]) for kind in ("dead", "saturated", "dormant")} == {
        "dead": [1],
        "saturated": [3, 4],
        "dormant": [2],
    }
    assert active.get_title() == "1 dead, 2 saturated, 1 dormant"
    said = [text.get_text() for text in figure.legends[0].get_texts()]
    assert sorted(said) == ["dead", "dormant", "mean ± standard deviation", "saturated"]


def test_what_is_left_out_is_said_and_counted():
    figure = plots.statistics({"dense1": node_statistics(9)}, most_nodes=2)
    assert figure.axes[0].get_title().startswith("dense1: 2 of 9 nodes")
    assert figure.axes[0].get_images()[0].get_array().shape == (4, 2)
    assert len(figure.axes[1].patches) == 2
    assert figure.axes[1].get_title() == "1 dead, 1 dormant"


def test_nothing_is_said_of_saturation_without_limits():
    fine = {"dead": np.zeros(3, bool), "dormant": np.zeros(3, bool)}
    known = node_statistics(3, near_limit=np.zeros(3), **fine)
    figure = plots.statistics({"a": node_statistics(3, **fine), "b": known})
    assert figure.axes[1].get_title() == "none dead or dormant"
    assert figure.axes[3].get_title() == "none dead, saturated or dormant"


def test_the_layers_of_a_stack_come_one_after_another():
    flat = node_statistics(6)
    stats = flat._replace(
        **{
            name: getattr(flat, name).reshape(2, 3, *getattr(flat, name).shape[1:])
            for name in flat._fields
            if name not in ("edges", "samples")
        }
    )
    figure = plots.statistics({"repeat1/dense1": stats})
    same = plots.statistics({"repeat1/dense1": flat})
    for ax, other in zip(figure.axes[:2], same.axes[:2], strict=True):
        assert ax.get_title() == other.get_title()
    drawn, expected = (f.axes[0].get_images()[0].get_array() for f in (figure, same))
    np.testing.assert_array_equal(drawn, expected)


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.statistics({}), r"plots.statistics: expected what analysis.statistics"),
        (lambda: plots.statistics(node_statistics(2)), r"by name, got NodeStatistics"),
        (lambda: plots.statistics({"h": np.ones(3)}), r"'h' to be what .* got ndarray"),
        (lambda: plots.statistics({"h": node_statistics(2)}, most_nodes=0), r"most_nodes to be"),
    ],
)
def test_what_it_refuses(draw, message):
    with pytest.raises(jn.JaxNodesError, match=message):
        draw()
