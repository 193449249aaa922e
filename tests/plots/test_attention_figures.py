"""Attention maps: a row is a step that looks."""

import numpy as np
import pytest

import jaxnodes as jn
from jaxnodes import plots

WEIGHTS = np.random.default_rng(0).dirichlet(np.ones(3), size=(5, 2))  # (heads, T, S)


def names(ax, axis):
    return [label.get_text() for label in getattr(ax, f"get_{axis}ticklabels")()]


def test_a_panel_for_each_head_on_one_scale():
    figure = plots.attention_maps(WEIGHTS, "ab", memory_tokens=["x", "y", "z"], most_heads=4)
    *panels, bar = figure.axes
    assert len(panels) == 4
    for head, ax in enumerate(panels):
        (image,) = ax.get_images()
        np.testing.assert_array_equal(image.get_array(), WEIGHTS[head])
        assert image.get_clim() == (0, WEIGHTS[:4].max())
        assert ax.get_title() == f"head {head}"
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("step attended to", "step")
        assert (names(ax, "x"), names(ax, "y")) == (["x", "y", "z"], ["a", "b"])
    assert bar.get_ylabel() == "attention weight"
    assert figure.get_suptitle() == "4 of 5 heads"


def test_tokens_of_self_attention_are_on_both_sides():
    weights = [[[1.0, 0.0], [0.0, 0.0]]]  # the second step may look nowhere
    (ax, _) = plots.attention_maps(weights, ["a", "b"]).axes
    assert names(ax, "x") == names(ax, "y") == ["a", "b"]
    (ax, _) = plots.attention_maps(weights).axes
    assert names(ax, "x") == names(ax, "y") == ["0", "1"]


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.attention_maps(WEIGHTS[0]), r"plots.attention_maps: expected weights"),
        (
            lambda: plots.attention_maps(WEIGHTS[None]),
            r"choose one, weights\[i\], got \(1, 5, 2, 3",
        ),
        (lambda: plots.attention_maps(WEIGHTS * 2), r"rows of weights that sum to one"),
        (lambda: plots.attention_maps(np.log(WEIGHTS)), r"rows of weights that sum to one"),
        (lambda: plots.attention_maps(WEIGHTS * np.nan), r"finite weights, got 30"),
        (lambda: plots.attention_maps(WEIGHTS, ["a"]), r"expected 2 tokens, got 1"),
        (lambda: plots.attention_maps(WEIGHTS, memory_tokens="ab"), r"3 memory_tokens, got 2"),
    ],
)
def test_what_it_refuses(draw, message):
    with pytest.raises(jn.JaxNodesError, match=message):
        draw()
