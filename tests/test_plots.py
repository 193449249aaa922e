"""Figures: what is drawn is what was given, and nothing of it lies outside of the page."""

import matplotlib.image
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

import jaxnodes as jn
from jaxnodes import plots

HISTORY = {
    "loss": np.array([2.0, 1.0, 0.5]),
    "accuracy": np.array([0.1, 0.6, 0.9]),
    "val_loss": np.array([2.1, 1.2, 0.9]),
    "val_accuracy": np.array([0.1, 0.5, 0.8]),
}
NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
FIGURES = {
    "curves": lambda: plots.curves(HISTORY, best_epoch=1),
    "long labels": lambda: plots.curves(HISTORY, labels={"loss": "a label " * 9}),
    "one epoch": lambda: plots.curves({"loss": [1.0]}),
    "five measures": lambda: plots.curves({name: [1.0, 2.0] for name in "abcde"}),
    "two classes": lambda: plots.confusion([[40, 2], [3, 69]], ["malignant", "benign"]),
    "two long names": lambda: plots.confusion([[4, 2], [3, 6]], ["a rather long name", "b" * 20]),
    "ten digits": lambda: plots.confusion(np.diag(range(30, 40))),
    "ten names": lambda: plots.confusion(np.diag(range(990, 1000)), NAMES),
    "many classes": lambda: plots.confusion(np.eye(60), [f"class {i}" for i in range(60)]),
    "activations": plots.activation_functions,
    "bias": plots.bias_effect,
}


def lines(ax):
    return {line.get_label(): line for line in ax.get_lines()}


@pytest.mark.parametrize("name", FIGURES)
def test_nothing_is_cut_off_and_nothing_global(name):
    figure = FIGURES[name]()
    assert plt.get_fignums() == []
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    drawn = figure.get_tightbbox(canvas.get_renderer())
    width, height = figure.get_size_inches()
    assert drawn.x0 >= -0.01
    assert drawn.y0 >= -0.01
    assert drawn.x1 <= width + 0.01
    assert drawn.y1 <= height + 0.01
    assert drawn.width > 0.75 * width  # and little of it is empty
    assert drawn.height > 0.75 * height


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


def test_saved_figures_are_images(tmp_path):
    plots.save(plots.bias_effect(), tmp_path / "bias.png")
    image = matplotlib.image.imread(tmp_path / "bias.png")
    assert image.shape == (570, 810, 4)
    assert image[..., :3].std() > 0.05
    plots.save(plots.bias_effect(), tmp_path / "bias.svg")
    assert "<svg" in (tmp_path / "bias.svg").read_text()
    for path in ("bias.xyz", "nowhere/bias.png"):
        with pytest.raises(jn.JaxNodesError, match=r"plots.save: expected a .png, .svg or .pdf"):
            plots.save(plots.bias_effect(), tmp_path / path)


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.curves({}), r"curves: expected a history"),
        (lambda: plots.curves({"a": [1.0], "b": [1.0, 2.0]}), r"curves: expected a history"),
        (lambda: plots.curves({"a": []}), r"curves: expected a history"),
        (
            lambda: plots.confusion([[1, 2, 3], [4, 5, 6]]),
            r"a square matrix \(C, C\), got \(2, 3\)",
        ),
        (lambda: plots.confusion([[1, -2], [4, 5]]), r"expected counts, finite and not negative"),
        (lambda: plots.confusion([[1, 2], [4, 5]], ["a"]), r"expected 2 names, got 1"),
        (lambda: plots.activation_functions([]), r"expected at least one name"),
        (lambda: plots.activation_functions(["rleu"]), r"did you mean 'relu'"),
    ],
)
def test_what_they_refuse(draw, message):
    with pytest.raises(jn.JaxNodesError, match=message):
        draw()
