"""Curves are the history, and the confusion matrix is the matrix."""

import numpy as np
import pytest

import jaxnodes as jn
from jaxnodes import plots

HISTORY = {
    "loss": np.array([2.0, 1.0, 0.5]),
    "accuracy": np.array([0.1, 0.6, 0.9]),
    "val_loss": np.array([2.1, 1.2, 0.9]),
    "val_accuracy": np.array([0.1, 0.5, 0.8]),
}


def lines(ax):
    return {line.get_label(): line for line in ax.get_lines()}


def test_curves_are_the_history():
    figure = plots.curves(HISTORY, labels={"loss": "cross-entropy (nats)"}, best_epoch=1)
    loss, accuracy = figure.axes
    assert loss.get_ylabel() == "cross-entropy (nats)"
    assert accuracy.get_ylabel() == "accuracy (share of samples)"
    assert accuracy.get_xlabel() == "epoch"
    for ax, name in [(loss, "loss"), (accuracy, "accuracy")]:
        drawn = lines(ax)
        np.testing.assert_array_equal(drawn["training"].get_xdata(), [1, 2, 3])
        np.testing.assert_array_equal(drawn["training"].get_ydata(), HISTORY[name])
        np.testing.assert_array_equal(drawn["validation"].get_ydata(), HISTORY[f"val_{name}"])
        assert drawn["training"].get_color() != drawn["validation"].get_color()
        assert list(drawn["kept"].get_xdata()) == [2, 2]
        assert [text.get_text() for text in ax.get_legend().get_texts()] == list(drawn)


def test_curves_without_validation():
    (ax,) = plots.curves({"loss": [3.0, 1.0]}).axes
    assert list(lines(ax)) == ["training"]


def test_confusion_shows_counts_in_true_rows():
    matrix = np.array([[8, 2, 0], [0, 5, 0], [0, 0, 0]])
    figure = plots.confusion(matrix, ["a", "b", "c"])
    ax = figure.axes[0]
    assert ax.get_title() == "13 of 15 right (86.7%)"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted class", "true class")
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b", "c"]
    cells = {tuple(text.get_position()): text.get_text() for text in ax.texts}
    assert cells[1, 0] == "2"  # column 1, row 0: two of class a were taken for b
    assert cells[0, 1] == "0"
    shares = ax.get_images()[0].get_array()
    np.testing.assert_allclose(shares, [[0.8, 0.2, 0], [0, 1, 0], [0, 0, 0]])
    weighted = plots.confusion([[1.5, 0], [0, 2]]).axes[0]
    assert weighted.texts[0].get_text() == "1.5"


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.curves({}), r"plots.curves: expected a history"),
        (lambda: plots.curves({"a": [1.0], "b": [1.0, 2.0]}), r"curves: expected a history"),
        (lambda: plots.curves({"a": []}), r"curves: expected a history"),
        (
            lambda: plots.confusion([[1, 2, 3], [4, 5, 6]]),
            r"a square matrix \(C, C\), got \(2, 3\)",
        ),
        (lambda: plots.confusion([[1, -2], [4, 5]]), r"expected counts, finite and not negative"),
        (lambda: plots.confusion([[1, 2], [4, 5]], ["a"]), r"expected 2 names, got 1"),
    ],
)
def test_what_they_refuse(draw, message):
    with pytest.raises(jn.JaxNodesError, match=message):
        draw()
