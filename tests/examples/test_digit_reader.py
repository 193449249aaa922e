"""The digit reader: its matrix form against the network, and how well it reads."""

import digit_reader
import pytest


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    out = tmp_path_factory.mktemp("digit_reader")
    return digit_reader.main(out), out / "digit_reader.png"


def test_the_weights_and_biases_are_counted(shown):
    assert shown[0]["parameters"] == 784 * 16 + 16 * 16 + 16 * 10 + 16 + 16 + 10


def test_the_matrix_form_gives_the_networks_activations(shown):
    """In float32, sums of 784 terms and logits of about ten."""
    gaps = shown[0]["gaps"]
    assert list(gaps) == ["dense1", "dense2", "dense3"]
    assert max(gaps.values()) < 1e-4


def test_pixels_and_activations_are_brightnesses(shown):
    assert shown[0]["pixels"] == (0, 1)
    for name in ("dense1", "dense2"):
        values = shown[0]["nodes"][name]
        assert values.shape == (359, 16)
        assert 0 <= values.min() < 0.1
        assert 0.9 < values.max() <= 1


def test_nine_in_ten_digits_are_read(shown):
    assert shown[0]["accuracy"] > 0.9


def test_the_figure_is_there(shown):
    assert shown[1].stat().st_size > 10_000
