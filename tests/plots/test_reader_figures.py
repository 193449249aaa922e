"""The digit reader: each circle's brightness and value, and the classes."""

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.patches import Circle

import jaxnodes as jn
from jaxnodes import plots
from jaxnodes.plots import BLUE, ORANGE, SKY

NODES = {"h1": [0.0, 0.5, 2.0], "h2": [-4.0, 0.0, 2.0], "out": [0.0, np.log(3.0)]}
IMAGE = np.arange(16.0).reshape(4, 4)


def circles(figure):
    """Center and shade of each."""
    found = [patch for patch in figure.axes[0].patches if isinstance(patch, Circle)]
    return [(*circle.get_center(), circle.get_facecolor()[:3]) for circle in found]


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def test_brightness_is_the_activation():
    shades = np.array([shade for _, _, shade in circles(plots.digit_reader(NODES, IMAGE))])
    # The largest of a layer is white, zero is black, what lies between is between.
    np.testing.assert_allclose(shades[:3], [[0] * 3, [0.25] * 3, [1] * 3], atol=0.01)
    np.testing.assert_allclose(shades[3], to_rgb(SKY), atol=0.01)  # the lowest is the most blue
    np.testing.assert_allclose(shades[4:6], [[0] * 3, [0.5] * 3], atol=0.01)
    # Of logits 0 and log 3 the probabilities are 1/4 and 3/4.
    np.testing.assert_allclose(shades[6:], [[0.25] * 3, [0.75] * 3], atol=0.01)


def test_values_classes_and_probabilities_are_written():
    figure = plots.digit_reader(NODES, IMAGE, ["no", "yes"], label=0)
    said = texts(figure)
    for value in ("0.50", "2.00", "-4.00", "1.10"):
        assert value in said
    assert said[-2:] == ["no  25.0%", "yes  75.0%"]
    assert [text.get_fontweight() for text in figure.axes[0].texts[-2:]] == ["normal", "bold"]
    assert figure.axes[0].get_title() == "read as yes (75.0%), true class no"
    assert "3 nodes\nblack 0, white 4\nblue -4" in said
    assert "2 nodes\nprobability:\nblack 0%, white 100%" in said
    assert "4 x 4 pixels" in said


@pytest.mark.parametrize(
    ("value", "said"),
    [(0, "0"), (0.004, "0.00"), (-0.126, "-0.13"), (9.996, "10.0"), (123.4, "123"), (5e4, "5e4")],
)
def test_values_are_short(value, said):
    assert said in texts(plots.digit_reader({"h": [value, 1.0]}, IMAGE, from_logits=False))


def test_the_image_is_drawn_as_it_is():
    for image in (IMAGE, IMAGE.ravel(), IMAGE[None, ..., None], jnp.asarray(IMAGE[..., None])):
        (drawn,) = plots.digit_reader(NODES, image).axes[0].get_images()
        np.testing.assert_array_equal(drawn.get_array(), IMAGE)
        assert drawn.get_clim() == (0, 15)
    colors = np.random.default_rng(0).random((5, 7, 3))
    (drawn,) = plots.digit_reader(NODES, colors).axes[0].get_images()
    np.testing.assert_array_equal(drawn.get_array(), colors)


def test_layers_are_columns_from_node_0_on_top():
    figure = plots.digit_reader({"h": np.arange(40.0), "out": [1.0, 2.0]}, IMAGE)
    places = [(x, y) for x, y, _ in circles(figure)]
    assert len(places) == 42
    hidden = np.array(places[:40])
    assert len(set(hidden[:, 0])) == 3  # 40 nodes are three columns of at most 16
    np.testing.assert_allclose(np.diff(hidden[:14, 1]), 1)  # downwards is positive
    assert figure.axes[0].yaxis_inverted()
    assert places[40][0] > hidden[:, 0].max()
    at = {text.get_text(): text.get_position()[1] for text in figure.axes[0].texts}
    assert at["39.0"] == places[39][1]


def test_lines_are_what_a_node_sends_to_the_next():
    w = np.array([[1.0, 1.0, 1.0], [0.0, 4.0, -2.0], [1.0, -1.0, 0.0]])
    figure = plots.digit_reader(NODES, IMAGE, weights={"h2": w})
    (lines,) = figure.axes[0].collections
    colors = lines.get_colors()
    sent = np.array(NODES["h1"])[:, None] * w  # 0; 0, 2, -1; 2, -2, 0
    np.testing.assert_allclose(colors[:, 3], (np.abs(sent) / 2).ravel() ** 0.8)
    np.testing.assert_allclose(colors[4, :3], to_rgb(ORANGE))
    np.testing.assert_allclose(colors[5, :3], to_rgb(BLUE))
    start, end = lines.get_segments()[5]  # from node 1 to node 2
    places = [place[:2] for place in circles(figure)]
    np.testing.assert_allclose([start, end], [places[1], places[5]])


def test_one_logit_is_read_by_the_sigmoid_and_values_can_be_shown_as_they_are():
    assert texts(plots.digit_reader({"out": [0.0]}, IMAGE, ["on"]))[-1] == "on  50.0%"
    figure = plots.digit_reader({"out": [0.9, 0.3]}, IMAGE, from_logits=False)
    assert texts(figure)[-2:] == ["0", "1"]
    assert figure.axes[0].get_title() == "read as 0"


def test_what_record_returned_is_taken_as_it_is():
    def f(w, x):
        for i, w_of_layer in enumerate(w):
            x = jn.node(x @ w_of_layer, f"dense{i + 1}")
        return x

    rng = np.random.default_rng(0)
    w = [rng.normal(size=shape).astype("f4") for shape in ((784, 16), (16, 16), (16, 10))]
    x = rng.random((1, 784), "f4")
    logits, nodes = jn.record(f)(w, jnp.asarray(x))
    figure = plots.digit_reader(nodes, x, label=7)
    assert len(circles(figure)) == 42
    np.testing.assert_array_equal(figure.axes[0].get_images()[0].get_array(), x.reshape(28, 28))
    assert figure.axes[0].get_title().startswith(f"read as {logits.argmax()} (")
    assert figure.axes[0].get_title().endswith("true class 7")


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.digit_reader({}, IMAGE), r"plots.digit_reader: expected what jn.record"),
        (
            lambda: plots.digit_reader({"dense1": np.zeros(65)}, IMAGE),
            r"at most 64 nodes, got 'dense1' of 65; leave it out",
        ),
        (lambda: plots.digit_reader({"h": np.zeros((2, 3))}, IMAGE), r"of one sample, got \(2, 3"),
        (lambda: plots.digit_reader({"h": [np.nan]}, IMAGE), r"finite values at 'h', got 1 that"),
        (lambda: plots.digit_reader(NODES, np.zeros(15)), r"square ones \(N, D\), got \(1, 15\)"),
        (lambda: plots.digit_reader(NODES, np.zeros((4, 4, 2))), r"got \(1, 4, 4, 2\)"),
        (lambda: plots.digit_reader(NODES, np.full((4, 4, 3), 2.0)), r"colors between 0 and 1"),
        (lambda: plots.digit_reader(NODES, IMAGE, ["a"]), r"expected 2 class names.* got 1"),
        (lambda: plots.digit_reader(NODES, IMAGE, label=2), r"a class from 0 to 1, got 2"),
        (
            lambda: plots.digit_reader(NODES, IMAGE, weights={"h1": np.zeros((16, 3))}),
            r"weights of the layers h2, out, got 'h1'",
        ),
        (
            lambda: plots.digit_reader(NODES, IMAGE, weights={"out": np.zeros((2, 3))}),
            r"weights \(3, 2\) of 'out', got \(2, 3\)",
        ),
    ],
)
def test_what_it_refuses(draw, message):
    with pytest.raises(jn.JaxNodesError, match=message):
        draw()
