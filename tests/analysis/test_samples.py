"""What every measure is given: tiles of samples, and what each axis of a value stands for."""

import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnodes as jn
from jaxnodes import JaxNodesError
from jaxnodes.analysis import samples
from jaxnodes.analysis.model import Model
from jaxnodes.analysis.samples import compiled, prepare, whole_outputs


def repeated(w, x):
    """Two layers in a scan, over three time steps in another one; six samples' features."""

    def layer(h, w):
        return jn.node(jnp.tanh(h * w), "h"), None

    def step(h, x):
        return jax.lax.scan(layer, h + x, w)[0], None

    return jax.lax.scan(step, jnp.zeros_like(x[:, 0]), x.swapaxes(0, 1))[0]


def test_axes_of_a_value():
    x = np.random.default_rng(0).normal(size=(7, 3, 5)).astype(np.float32)
    w = np.ones((2, 5), np.float32)
    model, arrays = prepare(repeated, w, x, where="test", each=True, batch_size=4)
    (nodes,) = model.nodes
    assert (nodes.layers, nodes.shape, nodes.sample_axis) == ((False, True), (2, 5), 2)
    _, records = jn.record(repeated)(w, x)
    arranged = nodes.arranged(records["h"])
    assert records["h"].shape == (3, 2, 7, 5)
    assert arranged.shape == (7, 3, 2, 5)
    np.testing.assert_array_equal(arranged, records["h"].transpose(2, 0, 1, 3))
    # A gate for each node, spread over the time steps.
    gate = np.arange(10, dtype=np.float32).reshape(2, 5)
    expected = jn.intervene(repeated)({"h": np.broadcast_to(gate, (3, 2, 5))}, w, x)
    found = model.outputs(arrays, model.gates({"h": gate}))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    value = gate[::-1] / 10
    placed = (np.broadcast_to(gate, (3, 2, 5)), value[None, :, None])
    expected = jn.intervene(repeated)({"h": placed}, w, x)
    found = model.outputs(arrays, model.gates({"h": gate}, {"h": value}))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_tiles_are_alike_and_cover_all_samples():
    net = jn.Dense(2)
    for n, batch_size in [(10, 4), (8, 4), (3, 256), (1, 1), (7, 1)]:
        x = np.random.default_rng(0).normal(size=(n, 3)).astype(np.float32)
        variables = net.init(jax.random.key(0), x)
        model, arrays = prepare(net.predict, variables, x, where="test", batch_size=batch_size)
        assert model.tile <= batch_size
        np.testing.assert_array_equal(model.rows[model.fill], np.arange(n))
        expected = net.predict(variables, x)
        np.testing.assert_allclose(whole_outputs(model, arrays), expected, rtol=1e-6)
        found = compiled(Model.outputs, model)(arrays)
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_samples_are_found_where_sizes_coincide():
    def f(v, x):
        return jn.node(x.swapaxes(0, 1), "h").swapaxes(0, 1)

    model, _ = prepare(f, (), np.ones((4, 4, 4)), where="test", each=True)
    assert model.nodes[0].sample_axis == 1


def test_a_scan_over_neither_data_nor_parameters_is_over_time():
    def f(w, x):
        counters = jnp.arange(3.0), jax.random.split(jax.random.key(0), 3)
        return jax.lax.scan(lambda h, _: (jn.node(w * h, "h"), None), x, counters)[0]

    model, _ = prepare(f, np.float32(2), np.ones((4, 5), "f"), where="test")
    assert model.nodes[0].shape == (5,)


def test_a_name_reaches_its_repetitions_unless_exact():
    def f(v, x):
        return jn.node(jn.node(x, "h") * 2, "h")

    def names(**options):
        return prepare(f, (), np.ones((2, 3)), where="test", **options)[0].names

    assert names(nodes=["h"]) == names() == ("h", "h#2")
    assert names(nodes=["h#2"]) == ("h#2",)
    assert names(nodes=["h"], exact=True) == ("h",)
    with pytest.raises(JaxNodesError, match="test: expected the name of a node, got 'g'"):
        names(nodes=["g"], exact=True)


@pytest.mark.parametrize(("n", "expected"), [(64, True), (63, False)])
def test_the_compiler_is_told_of_small_products(n, expected, monkeypatch):
    asked = []
    monkeypatch.setattr(samples, "compiler_options", lambda small: asked.append(small))
    net, x, y = jn.Dense(3), np.ones((n, 2), np.float32), np.zeros(n, np.int32)
    variables = net.init(jax.random.key(0), x)
    # Metrics of their own, which no program was compiled for.
    jn.analysis.ablate(net.predict, variables, x, y, metric=lambda o, y: jn.accuracy(o, y))
    jn.analysis.attribute(
        net.predict, variables, x, y, method="taylor", loss=lambda o, y: jn.cross_entropy(o, y)
    )
    assert asked == [expected] * 3  # the whole and without the nodes; and the attribution


def test_a_metric_does_not_live_on_for_what_was_compiled():
    x, y, w = np.ones((4, 3), np.float32), np.ones(4, np.float32), np.ones(3, np.float32)

    def f(w, x):
        return jnp.sum(jn.node(x * w, "h"), axis=1)

    def measured():
        factor = jnp.full(1000, 2.0)

        def metric(out, y):
            return jnp.mean((out - y) ** 2) * factor[0]

        jn.analysis.ablate(f, w, x, y, metric=metric)
        return weakref.ref(metric), weakref.ref(factor)

    was = measured()
    jn.analysis.ablate(f, w, x, y, metric=jn.mse)  # what is dead is found when others are made
    gc.collect()
    assert [r() for r in was] == [None, None]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": {"a": np.ones((2, 1)), "b": np.ones((3, 1))}}, "of one length on the first axis"),
        ({"x": np.ones((0, 3))}, "expected at least one sample"),
        ({"x": np.float32(1)}, "of one length on the first axis"),
        ({"f": lambda v, x: jn.node(x, "h").sum()}, "outputs with one entry a sample"),
        ({"batch_size": 0}, "expected batch_size"),
        (
            {"f": lambda v, x: jn.node(x + jax.random.normal(jax.random.key(0), (3,)), "h")},
            "draws random numbers",
        ),
    ],
)
def test_errors(change, message):
    arguments = {"f": lambda v, x: jn.node(x, "h"), "variables": (), "x": np.ones((4, 3), "f")}
    with pytest.raises(JaxNodesError, match=message):
        prepare(**{**arguments, **change}, where="test", each=True)
