"""Forecasters: the shapes of windows, their equation, and what analysis sees of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnodes as jn
from jaxnodes.models import forecaster

KINDS = {"lstm": jn.lstm, "gru": jn.gru, "rnn": jn.simple_rnn}


def series(steps, quantities):
    """Waves of different lengths, one a column."""
    t = np.arange(steps)[:, None]
    return np.sin(t / np.arange(3, 3 + quantities)).astype(np.float32)


@pytest.mark.parametrize(("quantities", "horizon"), [(1, 1), (1, 4), (3, 4)])
def test_fits_windows(quantities, horizon):
    x, y = jn.data.windows(series(40, quantities), 8, horizon=horizon)
    for outputs, shape in ((None, y.shape[:2]), (y.shape[2], y.shape), (2, (*y.shape[:2], 2))):
        net = forecaster(x.shape[1:], horizon, outputs, hidden=(5,))
        variables = jax.eval_shape(net.init, jax.random.key(0), x)
        made = jax.eval_shape(net.predict, variables, x)
        assert made.shape == shape
        longer = jax.ShapeDtypeStruct((2, 50, quantities), jnp.float32)
        assert jax.eval_shape(net.predict, variables, longer).shape == (2, *shape[1:])


@pytest.mark.parametrize("kind", KINDS)
def test_is_its_equation(kind, key):
    """The last step of the second layer's states, of the first's; time before quantity."""
    net = forecaster((7, 2), 3, 2, kind, (5, 4))
    layer = {"rnn": "simple_rnn"}.get(kind, kind)
    names = [f"{layer}1", f"{layer}2", "last_step1", "dense1", "reshape1"]
    assert [name for name, _ in net.layers] == names
    x = jax.random.normal(key, (6, 7, 2))
    params, state = net.init(key, x)
    first, second, head = params.values()
    h, _ = KINDS[kind](first, x)
    h, _ = KINDS[kind](second, h)
    flat = np.asarray(h)[:, -1] @ head["w"] + head["b"]
    y = net.predict((params, state), x)
    for i in range(3):
        for k in range(2):
            np.testing.assert_allclose(y[:, i, k], flat[:, 2 * i + k], rtol=1e-5, atol=1e-6)
    assert len(jax.tree.leaves(params)) == 3 + 3 + 2
    assert jn.from_config(jn.to_config(net)) == net


def test_learns_a_wave_and_shows_its_nodes(tmp_path):
    x, y = jn.data.windows(series(120, 1), 12, horizon=2)
    net = forecaster(x.shape[1:], *y.shape[1:], "gru", hidden=(8,), dropout=0.05)
    result = jn.fit(
        net,
        (x, y),
        key=jax.random.key(0),
        loss=jn.mse,
        optimizer=jn.adam(0.02),
        epochs=15,
        batch_size=32,
    )
    predictions = jn.predict(net, result.variables, x)
    # The last value that was seen, for ever, is off by this much.
    assert jn.mse(predictions, y) < 0.2 * np.mean((x[:, -1:] - y) ** 2)

    _, nodes = jn.record(net.predict)(result.variables, x)
    assert {name: value.shape for name, value in nodes.items()} == {
        "gru1": (12, len(x), 8),
        "dense1": (len(x), 2),
    }
    drops = jn.analysis.ablate(net.predict, result.variables, x, y, metric=jn.mse, value="mean")
    assert {name: drop.shape for name, drop in drops.items()} == {
        "gru1": (8,),
        "dense1": (2,),
    }
    # Without its last node, the first step's prediction is its mean.
    off = (np.asarray(predictions)[:, 0].mean() - y[:, 0]) ** 2
    kept = (predictions[:, 1] - y[:, 1]) ** 2
    expected = jn.mse(predictions, y) - (off.mean() + kept.mean()) / 2
    np.testing.assert_allclose(drops["dense1"][0], expected, rtol=1e-4)
    statistics = jn.analysis.statistics(net.predict, result.variables, x)
    means = np.asarray(nodes["gru1"]).mean((0, 1))
    np.testing.assert_allclose(statistics["gru1"].mean, means, rtol=1e-4, atol=1e-5)

    jn.save_network(tmp_path, net, result.variables, input_spec=x[:1])
    loaded, variables, _ = jn.load_network(tmp_path)
    assert loaded == net
    np.testing.assert_array_equal(jn.predict(loaded, variables, x), predictions)
    made = jn.analysis.summary(net, variables, x[:1])
    assert made.nodes == {"input": 12, "gru1": 8, "dense1": 2}


def test_dropout_follows_each_recurrent_layer():
    names = [name for name, _ in forecaster((9, 2), hidden=(5, 4), dropout=0.1).layers]
    assert names == ["lstm1", "dropout1", "lstm2", "last_step1", "dropout2", "dense1"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: forecaster((9,)), r"^forecaster: expected windows .* samples of shape \(9,\)"),
        (lambda: forecaster((9, 0)), "^forecaster: expected each size of input_shape"),
        (lambda: forecaster((9, 1), 0), "^forecaster: expected horizon"),
        (lambda: forecaster((9, 1), 2, 0), "^forecaster: expected outputs"),
        (lambda: forecaster((9, 1), kind="lstn"), "did you mean 'lstm'"),
        (lambda: forecaster((9, 1), hidden=()), "expected at least one hidden layer"),
        (lambda: forecaster((9, 1), hidden=(3, 0)), "expected features"),
        (lambda: forecaster((9, 1), dropout=1.0), r"rate to drop in \[0, 1\)"),
    ],
)
def test_what_it_refuses(make, message):
    with pytest.raises(jn.JaxNodesError, match=message):
        make()
