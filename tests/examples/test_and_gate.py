"""The logic gates: which are learned, from how many seeds, and the guides' falling loss."""

import and_gate
import numpy as np
import pytest


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    out = tmp_path_factory.mktemp("and_gate")
    return and_gate.main(out), out / "and_gate.png"


def test_every_seed_learns_and_and_or(shown):
    assert shown[0]["solved"]["AND"] == shown[0]["solved"]["OR"] == and_gate.SEEDS


def test_xor_is_learned_from_nine_in_ten_seeds(shown):
    assert shown[0]["better_solved"] >= 0.9 * and_gate.SEEDS
    # With the guides' own settings: 94 of 100 when this was written.
    assert shown[0]["solved"]["XOR"] >= 0.85 * and_gate.SEEDS


def test_the_loss_falls_each_thousand_steps(shown):
    losses = shown[0]["losses"]
    assert losses.shape == (3, 10)
    assert np.all(np.diff(losses) < 0)
    assert np.all(losses[:2, -1] < 0.01)


def test_the_keras_like_model_answers_xor(shown):
    assert shown[0]["keras_accuracy"] == 1
    np.testing.assert_allclose(shown[0]["keras_probabilities"], [0, 1, 1, 0], atol=0.1)


def test_the_figure_is_there(shown):
    assert shown[1].stat().st_size > 10_000
