"""Heat maps: which value is in which row and column, and what the titles say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnodes as jn
from jaxnodes import plots

NODES = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])


def drawn(figure, i=0):
    return figure.axes[i].get_images()[0].get_array()


def names(ax, axis="x"):
    return [label.get_text() for label in getattr(ax, f"get_{axis}ticklabels")()]


def test_rows_are_nodes_and_columns_samples():
    figure = plots.activations({"dense1": NODES})
    np.testing.assert_array_equal(drawn(figure), [[0, 2, 4], [1, 3, 5]])
    ax = figure.axes[0]
    assert ax.get_title() == "dense1"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("sample", "node")
    assert figure.axes[1].get_ylabel() == "activation"
    assert ax.get_images()[0].get_extent() == [-0.5, 2.5, 1.5, -0.5]  # node 0 on top


def test_samples_are_grouped_by_class_in_the_order_given():
    labels = jnp.array([2, 0, 2, 0, 0])
    values = np.arange(5.0)[:, None]
    figure = plots.activations({"h": values}, labels, ["a", "b", "c"])
    np.testing.assert_array_equal(drawn(figure), [[1, 3, 4, 0, 2]])
    ax = figure.axes[0]
    assert ax.get_xlabel() == "sample, by class"
    assert names(ax) == ["a", "c"]  # there is no sample of b
    np.testing.assert_array_equal(ax.get_xticks(), [1, 3.5])
    for lines in ax.collections:
        assert [line[0, 0] for line in lines.get_segments()] == [2.5]


@pytest.mark.parametrize("shape", [(3, 4, 5, 2), (3, 7, 2)])
def test_the_mean_over_the_axes_between(shape):
    values = np.random.default_rng(0).normal(size=shape)
    figure = plots.activations({"conv1": values})
    np.testing.assert_allclose(drawn(figure), values.reshape(3, -1, 2).mean(axis=1).T)
    sizes = " x ".join(str(n) for n in shape[1:-1])
    assert figure.axes[0].get_title() == f"conv1\nmean over {sizes} values"


def test_what_is_left_out_is_said():
    values = np.arange(12.0 * 5).reshape(12, 5)
    figure = plots.activations({"h": values}, most_nodes=2, most_samples=4)
    # Evenly spaced from 0 to 11: 0, 3.67, 7.33, 11.
    np.testing.assert_array_equal(drawn(figure), values[[0, 4, 7, 11], :2].T)
    assert figure.axes[0].get_title() == "h\n2 of 5 nodes, 4 of 12 samples"
    assert figure.axes[0].get_images()[0].get_extent()[:2] == [-0.5, 11.5]


def test_all_classes_are_there_if_samples_are_left_out():
    labels = np.arange(1000) % 10
    figure = plots.activations({"h": labels[:, None].astype(float)}, labels, most_samples=50)
    assert [int((drawn(figure) == c).sum()) for c in range(10)] == [5] * 10
    assert names(figure.axes[0]) == [str(c) for c in range(10)]


def test_values_below_zero_make_the_scale_symmetric():
    figure = plots.activations({"a": NODES, "b": -NODES, "c": NODES * np.nan})
    limits = [ax.get_images()[0].get_clim() for ax in figure.axes[:3]]
    assert limits == [(0, 5), (-5, 5), (0, 1)]
    assert figure.axes[2].get_title() == "c\n6 values not finite (gray)"


def test_sites_say_where_samples_and_nodes_are():
    """In a scan the steps come first, and the heads of attention aren't last."""

    def f(w, x):  # (N, T, 2)
        def step(h, x):
            h = jn.node(w * h + x, "rnn")
            return h, h

        h = jax.lax.scan(step, jnp.zeros_like(x[:, 0]), x.swapaxes(0, 1))[1]
        heads = jn.node(x[..., None] * jnp.arange(3.0), "heads", axis=2)
        return h.sum() + jn.node(heads.sum(axis=(1, 2, 3)), "all", axis=None).sum()

    x = np.random.default_rng(0).normal(size=(4, 5, 2)).astype("f4")
    _, nodes = jn.record(f)(np.float32(0.5), x)
    sites = jn.node_sites(f, np.float32(0.5), x)
    assert nodes["rnn"].shape == (5, 4, 2)
    figure = plots.activations(nodes, [0, 1, 2, 3], sites=sites)
    found = {
        ax.get_title().split("\n")[0]: ax.get_images()[0].get_array()
        for ax in figure.axes
        if ax.get_images()
    }
    h, states = np.zeros((4, 2)), []
    for t in range(5):
        h = 0.5 * h + x[:, t]
        states.append(h)
    np.testing.assert_allclose(found["rnn"], np.mean(states, axis=0).T, atol=1e-6)
    heads = x[..., None] * np.arange(3.0)
    np.testing.assert_allclose(found["heads"], heads.mean(axis=(1, 3)).T, atol=1e-6)
    np.testing.assert_allclose(found["all"], heads.sum(axis=(1, 2, 3))[None], rtol=1e-5)
    with pytest.raises(jn.JaxNodesError, match="of nodes in a scan the steps come first"):
        plots.activations({name: nodes[name] for name in ("rnn", "heads")})


def test_half_precision_is_drawn():
    figure = plots.activations({"h": jnp.asarray(NODES, jnp.bfloat16)})
    np.testing.assert_array_equal(drawn(figure), NODES.T)


SITE = jn.Site("h", 1, 2, (3, 2), np.dtype("float32"))


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.activations({}), r"plots.activations: expected what jn.record returned"),
        (lambda: plots.activations(NODES), r"arrays, by name, got ndarray"),
        (lambda: plots.activations({"h": [1.0, 2.0]}), r"'h' to be \(samples, ..., nodes\)"),
        (lambda: plots.activations({"h": ["a"]}), r"'h' to be \(samples, ..., nodes\), got list"),
        (lambda: plots.activations({"h": NODES * 1j}), r"'h' to be .* got ndarray"),
        (lambda: plots.activations({"h": np.zeros((3, 0))}), r"got \(3, 0\)"),
        (lambda: plots.activations({"a": NODES, "b": NODES[:2]}), r"\{'a': 3, 'b': 2\}"),
        (lambda: plots.activations({"h": NODES.T}, sites=[SITE]), r"as its site says, got \(2, 3"),
        (
            lambda: plots.activations({"h": NODES[0]}, sites=[SITE._replace(axis=0, shape=(2,))]),
            r"a single sample needs an axis in front",
        ),
        (lambda: plots.activations({"h": NODES}, [0, 1]), r"integer labels \(3,\), one a sample"),
        (lambda: plots.activations({"h": NODES}, [0.0, 1.0, 1.0]), r"got float64 \(3,\)"),
        (lambda: plots.activations({"h": NODES}, [0, -1, 1]), r"labels from 0 on, got -1"),
        (lambda: plots.activations({"h": NODES}, [0, 2, 1], ["a", "b"]), r"each of 3 classes"),
        (lambda: plots.activations({"h": NODES}, class_names=["a"]), r"expected labels for"),
        (lambda: plots.activations({"h": NODES}, columns=0), r"columns to be a whole number"),
        (lambda: plots.activations({"h": NODES}, most_nodes=0), r"most_nodes to be a whole"),
        (lambda: plots.activations({"h": NODES}, most_samples=1.5), r"most_samples to be"),
    ],
)
def test_what_it_refuses(draw, message):
    with pytest.raises(jn.JaxNodesError, match=message):
        draw()


def test_traced_values_are_refused():
    with pytest.raises(jn.JaxNodesError, match="expected 'h' to be"):
        jax.jit(lambda h: plots.activations({"h": h}))(jnp.ones((2, 2)))
