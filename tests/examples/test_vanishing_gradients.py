"""Vanishing gradients: the RNN's over two hundred steps, and who recalls after them."""

import numpy as np
import pytest
import vanishing_gradients


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    out = tmp_path_factory.mktemp("vanishing_gradients")
    return vanishing_gradients.main(out), out / "vanishing_gradients.png"


def test_gradients_vanish_but_for_the_fitted_biases(shown):
    ratios = shown[0]["ratios"]
    assert ratios["rnn"] < 1e-5
    assert ratios["rnn"] < ratios["lstm"] < 0.1
    assert 0.1 < ratios["lstm_fitted"] < 10


def test_the_verdicts_say_so(shown):
    verdicts = shown[0]["flow"].verdicts
    assert "vanishing over time" in verdicts["rnn/simple_rnn1"]
    assert "lstm_fitted/lstm1" not in verdicts


def test_the_gradients_of_the_rnn_are_those_of_the_chain_rule(shown):
    """In float64 by hand: dL/dh_t = (dL/dh_{t+1} (1 - h_{t+1}^2)) w_h^T."""
    params, x, y = shown[0]["rnn"]
    params = {layer: {k: np.float64(v) for k, v in p.items()} for layer, p in params.items()}
    cell, out, x = params["simple_rnn1"], params["dense1"], np.float64(x)
    states = [np.zeros((len(x), len(cell["w_h"])))]
    for t in range(x.shape[1]):
        states.append(np.tanh(x[:, t] @ cell["w_i"] + states[-1] @ cell["w_h"] + cell["b"]))
    logits = states[-1] @ out["w"] + out["b"]
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    slope = (chances - np.eye(4)[np.asarray(y)]) @ out["w"].T
    sizes = []
    for h in states[:0:-1]:
        sizes.append(np.sqrt(np.mean(slope**2)))
        slope = (slope * (1 - h**2)) @ cell["w_h"].T
    np.testing.assert_allclose(
        shown[0]["flow"].step_gradients["rnn/simple_rnn1"], sizes[::-1], rtol=1e-2
    )


def test_only_the_fitted_lstm_recalls(shown):
    accuracies = shown[0]["accuracies"]
    assert np.all(accuracies["lstm_fitted"] > 0.9)
    assert np.all(accuracies["rnn"] < 0.4)
    assert np.all(accuracies["lstm"] < 0.4)


def test_the_figure_is_there(shown):
    assert shown[1].stat().st_size > 10_000
