"""`gradient_flow` on networks whose gradients can be worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnodes as jn
from jaxnodes import JaxNodesError
from jaxnodes.analysis import gradient_flow


def mean(outputs, y):
    return outputs.mean()


def chain(weights, x):
    """h1 = w1 x, h2 = w2 h1, ..."""
    for i, w in enumerate(weights):
        x = jn.node(w * x, f"h{i + 1}")
    return x


def recurrent(w, x, reverse=False):
    """h_t = w h_{t-1} + x_t; the last one."""

    def step(h, x):
        h = jn.node(w * h + x, "h")
        return h, None

    return jax.lax.scan(step, jnp.zeros_like(x[0]), x, reverse=reverse)[0]


def batched_recurrent(w, x, reverse=False):
    return recurrent(w, x.swapaxes(0, 1), reverse)


def rms(x, axis=None):
    return np.sqrt(np.mean(np.square(x), axis=axis))


def test_layers_worked_by_hand():
    x = np.float32([[1], [3], [-2]])
    flow = gradient_flow(chain, np.float32([2, 10, 0.5]), x, None, loss=mean, batch_size=2)
    for name, factor, slope in [("h1", 2, 5), ("h2", 20, 0.5), ("h3", 10, 1)]:
        np.testing.assert_allclose(flow.activations[name], factor * rms(x), rtol=1e-6)
        np.testing.assert_allclose(flow.gradients[name], slope, rtol=1e-6)
    assert (flow.step_gradients, flow.verdicts) == ({}, {})


@pytest.mark.parametrize(
    ("w", "word", "ratio"), [(0.01, "vanishing", "1e-06"), (100.0, "exploding", "1e+06")]
)
def test_layers_that_vanish_and_explode_are_named(w, word, ratio):
    flow = gradient_flow(chain, np.float32([1, w, w, w]), np.ones((2, 1), "f"), None, loss=mean)
    assert list(flow.verdicts) == ["h1", "h2"]
    assert flow.verdicts["h1"] == f"{word}: its gradient is {ratio} times that of h4"
    flow = gradient_flow(
        chain,
        np.float32([1, w, w, w]),
        np.ones((2, 1), "f"),
        None,
        loss=mean,
        vanishing=1e-9,
        exploding=1e9,
    )
    assert flow.verdicts == {}


def test_sizes_do_not_overflow():
    x = np.float32([[1e30], [2e30]])
    flow = gradient_flow(chain, np.float32([1, 1e-30, 1e30]), x, None, loss=mean)
    np.testing.assert_allclose(flow.activations["h1"], rms(x.astype(float)), rtol=1e-6)
    np.testing.assert_allclose(flow.gradients["h2"], 1e30, rtol=1e-6)
    flow = gradient_flow(chain, np.float32([1e30, 1e30]), x, None, loss=mean)
    assert np.isinf(flow.activations["h2"])


def test_zero_and_nonfinite_gradients():
    def f(w, x):
        h = jn.node(w * x, "h")
        return jn.node(jax.nn.relu(h), "r")

    flow = gradient_flow(f, np.float32(-1), np.ones((2, 1), "f"), None, loss=mean)
    assert flow.verdicts == {"h": "vanishing: its gradient is zero"}

    def f(w, x):
        return jn.node(jnp.sqrt(jn.node(w * x, "h")), "r")

    flow = gradient_flow(f, np.float32(0), np.ones((2, 1), "f"), None, loss=mean)
    assert flow.verdicts == {"h": "not finite: its gradient is inf"}


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("w", "word"), [(0.1, "vanishing"), (10.0, "exploding")])
def test_steps_of_a_recurrent_layer(w, word, reverse):
    x = np.random.default_rng(0).normal(size=(3, 6, 2)).astype(np.float32)

    def f(w, x):
        return batched_recurrent(w, x, reverse)

    flow = gradient_flow(f, np.float32(w), x, None, loss=mean, batch_size=2)
    steps = np.arange(6) if reverse else 5 - np.arange(6)
    # A mean over two outputs a sample: each weighs a half.
    np.testing.assert_allclose(flow.step_gradients["h"], w**steps / 2, rtol=1e-5)
    np.testing.assert_allclose(flow.gradients["h"], rms(w**steps / 2), rtol=1e-5)
    h, sizes = np.zeros((3, 2)), np.zeros(6)
    for t in reversed(range(6)) if reverse else range(6):
        h = w * h + x[:, t]
        sizes[t] = rms(h)
    np.testing.assert_allclose(flow.step_activations["h"], sizes, rtol=1e-5)
    first, last = (5, 0) if reverse else (0, 5)
    ratio = f"{w**5:.3g}"
    assert flow.verdicts["h"] == (
        f"{word} over time: its gradient at step {first} is {ratio} times that at step {last}"
    )


def test_layers_of_a_stack_each_have_a_size():
    net = jn.Sequential(jn.Repeat(jn.Dense(1), 3), jn.Dense(1))
    w = {"w": jnp.full((3, 1, 1), 0.01), "b": jnp.zeros((3, 1))}
    last = {"w": jnp.ones((1, 1)), "b": jnp.zeros(1)}
    variables = {"repeat1": {"dense1": w}, "dense1": last}, {}
    flow = gradient_flow(net.predict, variables, np.ones((2, 1), "f"), None, loss=mean)
    np.testing.assert_allclose(flow.gradients["repeat1/dense1"], [1e-4, 1e-2, 1], rtol=1e-5)
    np.testing.assert_allclose(flow.activations["repeat1/dense1"], [1e-2, 1e-4, 1e-6], rtol=1e-5)
    assert "repeat1/dense1" not in flow.step_gradients
    assert list(flow.verdicts) == ["repeat1/dense1[0]"]


def test_against_jax_on_a_network():
    net = jn.Sequential(jn.Dense(5, "tanh"), jn.LSTM(4), jn.Dense(2))
    x = np.random.default_rng(0).normal(size=(7, 3, 2)).astype(np.float32)
    y = np.zeros((7, 3, 2), np.float32)
    variables = net.init(jax.random.key(0), x)
    flow = gradient_flow(net.predict, variables, x, y, loss=jn.mse, batch_size=3)
    params = variables[0]

    def after(h):
        h = jn.lstm(params["lstm1"], h)[0]
        return jn.mse(jn.dense(params["dense2"], h), y)

    h = jnp.tanh(jn.dense(params["dense1"], x))
    np.testing.assert_allclose(flow.activations["dense1"], rms(h), rtol=1e-5)
    np.testing.assert_allclose(
        flow.gradients["dense1"], 7 * rms(jax.jit(jax.grad(after))(h)), rtol=1e-4
    )
    assert flow.step_gradients.keys() == {"lstm1"}
    assert flow.step_gradients["lstm1"].shape == (3,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vanishing": 0}, "expected 0 < vanishing < exploding"),
        ({"vanishing": 2, "exploding": 1}, "expected 0 < vanishing < exploding"),
        ({"loss": lambda p, y: p}, "one floating number"),
        ({"nodes": ["h9"]}, "got 'h9'; the nodes are h1, h2"),
        ({"f": lambda w, x: x}, "expected a function that names nodes"),
    ],
)
def test_errors(change, message):
    arguments = {"f": chain, "variables": np.ones(2, "f"), "x": np.ones((2, 1), "f"), "y": None}
    with pytest.raises(JaxNodesError, match=message):
        gradient_flow(**{**arguments, "loss": mean, **change})
