"""Which of a program's two forms is seen where."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnodes as jn
from jaxnodes.primitive import node
from jaxnodes.two_forms import two_forms, two_linear_forms


def plain(x, pair):
    h = node(jnp.sin(x), "h")
    return {"y": h * pair[0], "z": h + pair[1]}


def on_cpu(x, pair):
    """Not the same, so that one sees which it was."""
    return {"y": jnp.full_like(x, 5) * pair[0], "z": x + pair[1]}


def run(x, w):
    return two_forms(plain, on_cpu, x, (w, 2 * w))


X = jnp.array([0.5, 1.0, 2.0])
W = jnp.array([3.0, 4.0, 5.0])


@pytest.mark.parametrize("compiled", [False, True])
def test_runs_the_form_for_cpu(compiled):
    outputs = (jax.jit(run) if compiled else run)(X, W)
    np.testing.assert_array_equal(outputs["y"], 5 * W)
    np.testing.assert_array_equal(outputs["z"], X + 2 * W)


def test_derives_the_plain_form():
    outputs, tangents = jax.jvp(lambda x: run(x, W), (X,), (jnp.ones(3),))
    jax.tree.map(np.testing.assert_array_equal, outputs, plain(X, (W, 2 * W)))
    np.testing.assert_allclose(tangents["y"], jnp.cos(X) * W, rtol=1e-6)
    gradients = jax.grad(lambda x, w: jnp.sum(run(x, w)["y"]), (0, 1))(X, W)
    np.testing.assert_allclose(gradients[0], jnp.cos(X) * W, rtol=1e-6)
    np.testing.assert_allclose(gradients[1], jnp.sin(X), rtol=1e-6)


@pytest.mark.parametrize("in_axes", [(0, None), (None, 0), (1, 0)])
def test_many_at_once(in_axes):
    x, w = (
        jnp.broadcast_to(a[None] if axis == 0 else a[:, None], (3, 3)) if axis is not None else a
        for a, axis in zip((X, W), in_axes, strict=True)
    )
    outputs = jax.vmap(run, in_axes)(x, w)
    np.testing.assert_array_equal(outputs["y"], np.broadcast_to(5 * W, (3, 3)))
    np.testing.assert_array_equal(outputs["z"], np.broadcast_to(X + 2 * W, (3, 3)))
    derived = jax.vmap(jax.grad(lambda x, w: jnp.sum(run(x, w)["y"])), in_axes)(x, w)
    np.testing.assert_allclose(derived, np.broadcast_to(jnp.cos(X) * W, (3, 3)), rtol=1e-6)


def test_lowers_the_plain_form_for_other_platforms():
    lowered = {
        platform: jax.jit(run).trace(X, W).lower(lowering_platforms=(platform,)).as_text()
        for platform in ("cpu", "cuda", "tpu")
    }
    assert ["sine" in text for text in lowered.values()] == [False, True, True]


def test_nodes_are_those_of_the_plain_form():
    outputs, nodes = jn.record(run)(X, W)
    np.testing.assert_allclose(nodes["h"], jnp.sin(X), rtol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, outputs, plain(X, (W, 2 * W)))
    gated = jn.intervene(run)({"h": jnp.zeros(3)}, X, W)
    np.testing.assert_array_equal(gated["y"], jnp.zeros(3))
    np.testing.assert_array_equal(gated["z"], 2 * W)


def linear(constants, operands):
    (w,), (x, y) = constants, operands
    return {"sum": w * x + y, "twice": 2 * y}


def transpose(constants, cotangents):
    """Not the transpose, so that one sees that it is asked."""
    (w,) = constants
    return 10 * w * cotangents["sum"], 3 * cotangents["twice"] + 100


def linear_run(w, x, y):
    return two_linear_forms(linear, linear, transpose, (w,), (x, y))


def test_a_linear_form_is_transposed_as_it_says():
    y, pull = jax.vjp(lambda x, y: linear_run(W, x, y), X, X)
    jax.tree.map(np.testing.assert_array_equal, y, linear((W,), (X, X)))
    dx, dy = pull({"sum": X, "twice": X})
    np.testing.assert_array_equal(dx, 10 * W * X)
    np.testing.assert_array_equal(dy, 3 * X + 100)
    # One operand alone; an output without a cotangent.
    (dx,) = jax.vjp(lambda x: linear_run(W, x, X)["twice"], X)[1](X)
    np.testing.assert_array_equal(dx, jnp.zeros(3))


def test_a_linear_form_has_the_derivatives_of_its_plain_one_otherwise():
    value, tangent = jax.jvp(lambda w: linear_run(w, X, X)["sum"], (W,), (jnp.ones(3),))
    np.testing.assert_array_equal(value, W * X + X)
    np.testing.assert_array_equal(tangent, X)


@pytest.mark.parametrize("in_axes", [(0, None, 0), (None, 0, 0), (0, 0, None)])
def test_many_linear_forms(in_axes):
    arguments = [jnp.stack([W, 2 * W]) if axis == 0 else W for axis in in_axes]
    y, pull = jax.vjp(
        lambda x, y: jax.vmap(linear_run, in_axes)(arguments[0], x, y), *arguments[1:]
    )
    rows = [jnp.broadcast_to(a, (2, 3)) for a in arguments]
    jax.tree.map(np.testing.assert_array_equal, y, linear((rows[0],), rows[1:]))
    dx, dy = pull({"sum": rows[1], "twice": rows[1]})
    expected = [10 * rows[0] * rows[1], 3 * rows[1] + 100]
    for came, whole, axis in zip((dx, dy), expected, in_axes[1:], strict=True):
        np.testing.assert_array_equal(came, whole if axis == 0 else jnp.sum(whole, axis=0))
