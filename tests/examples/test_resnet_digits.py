"""The residual network: its size by hand, and what channels are worth by scikit-learn's loss."""

import jax
import numpy as np
import pytest
import resnet_digits
from sklearn.metrics import log_loss

import jaxnodes as jn


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    out = tmp_path_factory.mktemp("resnet_digits")
    return resnet_digits.main(out), out / "resnet_digits.png"


def test_the_parameters_are_counted(shown):
    """Convolutions without biases, each with the two of a batch norm for every channel."""
    stem, first = 9 * 12 + 24, 2 * (9 * 12 * 12 + 24)
    second = 9 * 12 * 24 + 9 * 24 * 24 + 12 * 24 + 3 * 48
    assert shown[0]["parameters"] == stem + first + second + 24 * 10 + 10


def test_it_reads_digits(shown):
    assert shown[0]["found"]["accuracy"] > 0.95


def test_channels_in_front_are_worth_more_than_those_at_the_end(shown):
    rises = {name: rise.mean() for name, rise in shown[0]["rises"].items()}
    assert rises["stem"] > 5 * rises["stage 2"]
    assert rises["stage 1"] > 5 * rises["stage 2"]


def test_a_body_matters_less_than_the_sum_in_the_first_block_alone(shown):
    rises = {name: rise.mean() for name, rise in shown[0]["rises"].items()}
    assert rises["body of stage 1"] < rises["stage 1"]
    assert rises["body of stage 2"] > rises["stage 2"]


def test_the_rise_is_that_of_the_loss_without_the_channel(shown):
    """One channel, the most important of stage 1's body, by its gate."""
    net, variables, (x, y) = (shown[0][name] for name in ("net", "variables", "test"))
    rise = shown[0]["rises"]["body of stage 1"]
    gate = np.ones(12, np.float32)

    def loss(gate):
        gated = {"stage1/block1/body/relu1": gate}
        logits = np.asarray(jax.jit(jn.intervene(net.predict))(gated, variables, x), float)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return log_loss(y, powers / powers.sum(axis=1, keepdims=True))

    whole = loss(gate)
    np.testing.assert_allclose(shown[0]["found"]["loss"], whole, rtol=1e-3)
    gate[rise.argmax()] = 0
    np.testing.assert_allclose(rise.max(), loss(gate) - whole, rtol=1e-3)


def test_the_figure_is_there(shown):
    assert shown[1].stat().st_size > 10_000
