"""The BERT finds hidden characters better than the commonest one, and than a table of pairs."""

import bert_chars
import numpy as np
import pytest


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    out = tmp_path_factory.mktemp("bert_chars")
    return bert_chars.main(out), out / "bert_chars.png"


def test_it_beats_the_commonest_character_and_the_pairs(shown):
    accuracy = shown[0]["accuracy"]
    assert accuracy["BERT"] > accuracy["commonest character"] + 0.08
    assert accuracy["BERT"] > accuracy["by the one before"] + 0.01
    assert accuracy["by the one before"] > accuracy["commonest character"]


def test_the_commonest_character_is_a_space(shown):
    import jaxnodes as jn

    ids = np.frombuffer(jn.data.standard_library_text(400_000).encode(), np.uint8)
    assert np.bincount(ids[:360_000]).argmax() == ord(" ")
    share = np.mean(ids[360_000:] == ord(" "))
    # Chosen at random, 5,000 of the 40,000: 0.03 is more than four standard errors.
    np.testing.assert_allclose(shown[0]["accuracy"]["commonest character"], share, atol=0.03)


def test_each_head_looks_at_near_characters(shown):
    weights = shown[0]["weights"]
    heads, steps, _ = weights.shape
    assert (heads, steps) == (4, len(shown[0]["tokens"]))
    np.testing.assert_allclose(weights.sum(axis=-1), 1, atol=1e-4)
    near = np.abs(np.subtract.outer(np.arange(steps), np.arange(steps))) <= 2
    blind = near.mean()  # the share of weight on near ones if all were alike
    assert np.all((weights * near).sum(axis=(1, 2)) / steps > 1.5 * blind)


def test_the_figure_is_there(shown):
    assert shown[1].stat().st_size > 10_000
