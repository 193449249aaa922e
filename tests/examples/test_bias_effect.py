"""What a bias does, against max(0, 2x + b) and the normal distribution."""

import bias_effect
import numpy as np
import pytest


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    out = tmp_path_factory.mktemp("bias_effect")
    return bias_effect.main(out), out / "bias_effect.png"


def test_the_outputs_are_the_equation(shown):
    x = shown[0]["x"].astype(float)
    expected = np.maximum(0, 2 * x[:, None] + np.arange(-2, 3))
    np.testing.assert_allclose(shown[0]["outputs"], expected, atol=1e-6)


def test_a_node_turns_on_at_minus_half_its_bias(shown):
    np.testing.assert_allclose(shown[0]["turns_on"], [1, 0.5, 0, -0.5, -1], atol=0.011)


def test_it_is_on_as_often_as_the_normal_distribution_says(shown):
    """Phi(-1), Phi(-0.5), Phi(0), Phi(0.5), Phi(1); 20,000 inputs leave an error of 0.0035."""
    expected = [0.158655, 0.308538, 0.5, 0.691462, 0.841345]
    np.testing.assert_allclose(shown[0]["active"], expected, atol=0.015)


def test_the_figure_is_there(shown):
    assert shown[1].stat().st_size > 10_000
