"""Of every figure: nothing lies outside of the page or on something else, every axis has a name."""

import subprocess
import sys

import matplotlib.image
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

import jaxnodes as jn
from jaxnodes import plots
from jaxnodes.analysis import GradientFlow, RemovalCurve
from jaxnodes.plots.figures import BLUE, color_scale, colors_of, name_ticks, panels, shown_of
from tests.plots.examples import FLOW, node_statistics

RNG = np.random.default_rng(0)
NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
LABELS = np.arange(60) % 10
HISTORY = {"loss": [2.0, 1.0, 0.5], "val_loss": [2.1, 1.2, 0.9]}
MEASURED = {name: [1.0, 2.0] for name in "abcde"}
WIDE = RNG.normal(size=(60, 100))
READER = {"dense1": RNG.random(16), "dense2": RNG.normal(size=40), "dense3": RNG.normal(size=10)}
CURVE = RemovalCurve(np.arange(3), np.array([0.9, 0.5, 0.1]), (("h", 0), ("h", 1)))
WEIGHTS = RNG.dirichlet(np.ones(12), size=(6, 9))
TOKENS = ["a", "b", "c", "of", "some", "more", "interesting", ".", "words"]
DEEP = {f"residual{i}/dense1": np.array(10.0**-i) for i in range(12)}
FIGURES = {
    "curves": lambda: plots.curves(HISTORY, best_epoch=1),
    "long labels": lambda: plots.curves(HISTORY, labels={"loss": "a label " * 9}),
    "one epoch": lambda: plots.curves({"loss": [1.0]}),
    "five measures": lambda: plots.curves(MEASURED),
    "two classes": lambda: plots.confusion([[40, 2], [3, 69]], ["malignant", "benign"]),
    "two long names": lambda: plots.confusion([[4, 2], [3, 6]], ["a rather long name", "b" * 20]),
    "ten digits": lambda: plots.confusion(np.diag(range(30, 40))),
    "ten names": lambda: plots.confusion(np.diag(range(990, 1000)), NAMES),
    "many classes": lambda: plots.confusion(np.eye(60), [f"class {i}" for i in range(60)]),
    "functions": lambda: plots.activation_functions(["relu", "tanh", "elu"]),
    "bias": plots.bias_effect,
    "activations": lambda: plots.activations({"h": WIDE, "out": WIDE[:, :1]}, LABELS, NAMES),
    "no labels": lambda: plots.activations({"h": np.abs(WIDE)}),
    "reader": lambda: plots.digit_reader(READER, WIDE[:28, :28], NAMES, label=3),
    "reader with weights": lambda: plots.digit_reader(
        {**READER, "dense1": [-1.0, 2.0]}, np.eye(8), weights={"dense2": RNG.normal(size=(2, 40))}
    ),
    "importance": lambda: plots.importance({"dense1": WIDE[0], "out": WIDE[1, :10]}),
    "one node": lambda: plots.importance({"dense1": [0.5]}),
    "twelve sites": lambda: plots.importance({f"block{i}/conv1": WIDE[i] for i in range(12)}),
    "by site": lambda: plots.importance_by_site(
        {"dense1": WIDE[0], "dense2": [1.0, 0.0]}, unit="accuracy lost (share of samples)"
    ),
    "removal": lambda: plots.removal_curves({"worst first": CURVE, "best first": CURVE}),
    "one filter": lambda: plots.filters(np.ones((3, 3, 1, 1))),
    "filters": lambda: plots.filters(RNG.normal(size=(3, 3, 1, 8))),
    "filters of channels": lambda: plots.filters(RNG.normal(size=(3, 3, 4, 12))),
    "long filters": lambda: plots.filters(RNG.normal(size=(1, 9, 2, 5))),
    "weights": lambda: plots.incoming_weights(WIDE[:49, :9], (7, 7)),
    "attention": lambda: plots.attention_maps(WEIGHTS, TOKENS),
    "long attention": lambda: plots.attention_maps(np.eye(90)[None]),
    "flow": lambda: plots.gradient_flow(FLOW),
    "deep flow": lambda: plots.gradient_flow(
        GradientFlow(DEEP, DEEP, {}, {}, {"residual11/dense1": "vanishing: its gradient is 1"})
    ),
    "statistics": lambda: plots.statistics({"h": node_statistics(80), "out": node_statistics(3)}),
    "top samples": lambda: plots.top_samples(
        node_statistics(3), RNG.random((6, 8, 8)), np.arange(6), NAMES
    ),
    "top samples in color": lambda: plots.top_samples(
        node_statistics(3), RNG.random((6, 4, 9, 3)), nodes=[1], title="conv1/1"
    ),
}


def overlap(boxes):
    """How many pixels boxes that should lie side by side have in common, at most."""
    return max(
        (
            min(min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0))
            for i, a in enumerate(boxes)
            for b in boxes[:i]
        ),
        default=0,
    )


@pytest.mark.parametrize("name", FIGURES)
def test_all_is_on_the_page_and_named(name):
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
    for ax in figure.axes:
        if not ax.axison:
            continue
        assert ax.get_ylabel() or not ax.get_yticks().size
        assert ax.get_xlabel() or ax.get_label() == "<colorbar>"
        for labels in (ax.get_xticklabels(), ax.get_yticklabels()):
            if labels and labels[0].get_rotation() == 0:
                limits = ax.bbox.padded(1)
                boxes = [text.get_window_extent() for text in labels if text.get_text()]
                inside = [
                    box
                    for box in boxes
                    if limits.x0 <= (box.x0 + box.x1) / 2 <= limits.x1
                    or limits.y0 <= (box.y0 + box.y1) / 2 <= limits.y1
                ]
                assert overlap(inside) <= 3  # of what lies around digits
    assert overlap([t.get_window_extent() for ax in figure.axes for t in ax.texts]) <= 1


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


def test_importing_plots_does_not_import_matplotlib():
    code = "import sys, jaxnodes.plots; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("count", "columns", "grid"), [(1, 3, (1, 1)), (4, 3, (2, 2)), (5, 3, (2, 3)), (7, 2, (4, 2))]
)
def test_panels_are_as_many_as_asked_for(count, columns, grid):
    figure, axes = panels(count, columns=columns, size=(2.0, 1.0))
    assert len(axes) == count
    assert axes[0].get_subplotspec().get_gridspec().get_geometry() == grid
    assert tuple(figure.get_size_inches()) == (grid[1] * 2.0, grid[0] * 1.0)


def test_color_scales_are_centered_on_zero():
    scale = color_scale(np.array([-1.0, 3.0, np.nan]))
    assert (scale["vmin"], scale["vmax"]) == (-3, 3)
    # The middle is white, and what isn't a number is a gray that no number has.
    np.testing.assert_allclose(scale["cmap"](0.5)[:3], 1, atol=0.05)
    np.testing.assert_allclose(scale["cmap"](np.nan)[:3], 0xB0 / 255)
    red, blue = scale["cmap"](0.1), scale["cmap"](0.9)
    assert red[0] > red[2]
    assert blue[2] > blue[0]
    assert color_scale(np.array([0.0, 3.0]))["vmin"] == 0
    assert color_scale(np.array([0.0, 3.0]), signed=True)["vmin"] == -3
    assert color_scale(np.zeros(3))["vmax"] == 1


def test_colors_are_apart():
    for count in (1, 7, 8, 30):
        colors = colors_of(count)
        assert len({tuple(np.atleast_1d(color)) for color in colors}) == count
    assert colors_of(2)[0] == BLUE


def test_of_many_names_some_are_shown():
    _, (ax,) = panels(1)
    name_ticks(ax, "y", [f"n{i}" for i in range(60)], range(60), most=25)
    assert [label.get_text() for label in ax.get_yticklabels()][:2] == ["n0", "n3"]
    assert list(ax.get_yticks()) == list(range(0, 60, 3))
    assert shown_of(3, 7, "head") == "3 of 7 heads"
