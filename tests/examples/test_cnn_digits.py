"""The convolutional network against the fully connected one, from three seeds each."""

import cnn_digits
import pytest


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    out = tmp_path_factory.mktemp("cnn_digits")
    return cnn_digits.main(out), out / "cnn_digits.png"


@pytest.mark.parametrize("how", ["in place", "moved"])
def test_the_worst_convolutional_network_beats_the_best_other(shown, how):
    found = shown[0]["accuracies"]
    assert found["CNN"][how].shape == found["MLP"][how].shape == (3,)
    assert found["CNN"][how].min() > found["MLP"][how].max()


def test_both_are_right_on_most_digits_in_place_and_lose_when_these_move(shown):
    for of_net in shown[0]["accuracies"].values():
        assert of_net["in place"].min() > 0.95
        assert of_net["moved"].max() < of_net["in place"].min() - 0.05


def test_it_has_a_thirtieth_of_the_parameters(shown):
    parameters = shown[0]["parameters"]
    dense = 7 // 2 * (7 // 2) * 32 * 10 + 10  # 28 by 28 pixels go down to 14, 7, 7 and 3
    assert parameters["CNN"] == 5 * 5 * 16 + 16 + 3 * 3 * 16 * 32 + 32 + dense
    assert parameters["MLP"] == 235_146


def test_the_figure_is_there(shown):
    assert shown[1].stat().st_size > 10_000
