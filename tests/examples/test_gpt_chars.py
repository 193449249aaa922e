"""The GPT needs fewer bits per character than pairs do, on text that it has not read."""

import gpt_chars
import numpy as np
import pytest


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    out = tmp_path_factory.mktemp("gpt_chars")
    return gpt_chars.main(out), out / "gpt_chars.png"


def test_bits_are_the_mean_of_binary_logarithms(shown):
    logits, y = np.float64(shown[0]["logits"]), shown[0]["test"][1]
    chosen = np.take_along_axis(logits, y[..., None], axis=-1)[..., 0]
    most = logits.max(axis=-1)
    total = most + np.log(np.exp(logits - most[..., None]).sum(axis=-1))
    bits = (total - chosen).mean() / np.log(2)
    np.testing.assert_allclose(shown[0]["bits"]["GPT"], bits, rtol=1e-5)


def test_the_gpt_beats_the_pairs_and_the_pairs_beat_nothing(shown):
    bits = shown[0]["bits"]
    assert bits["GPT"] < bits["bigram"] - 0.15
    assert bits["bigram"] < bits["all alike"] - 2


def test_pairs_by_hand():
    # Of "aab": aa and ab. The smoothed shares of what follows are 2/4 and 2/4.
    train, test = (np.array([[0, 0]]), np.array([[0, 1]])), (np.array([[0]]), np.array([[1]]))
    bits = gpt_chars.bigram_bits(train, test, 2, smoothing=2.0)
    np.testing.assert_allclose(bits, -np.log2((1 + 2 * 0.5) / (2 + 2)))
    test = (np.array([[1]]), np.array([[0]]))  # nothing is known of what follows b
    np.testing.assert_allclose(gpt_chars.bigram_bits(train, test, 2), 1.0)


def test_training_gains(shown):
    curve = shown[0]["curve"]
    assert curve[-20:].mean() < 0.55 * curve[:5].mean()


def test_it_writes_on_from_the_prompt(shown):
    assert shown[0]["sample"].startswith("def ")
    assert len(shown[0]["sample"]) == 244
    assert len(set(shown[0]["sample"])) > 10


def test_the_figure_is_there(shown):
    assert shown[1].stat().st_size > 10_000
