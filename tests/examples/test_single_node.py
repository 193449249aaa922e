"""The single node, against numbers worked out by hand and by torch."""

import numpy as np
import pytest
import single_node


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    out = tmp_path_factory.mktemp("single_node")
    return single_node.main(out), out / "single_node.png"


def test_the_numbers_are_those_worked_out_by_hand(shown):
    """a = 1 / (1 + e^-0.25) = 0.562177; 2 (a - 1) a (1 - a) = -0.215527."""
    numbers = shown[0]
    assert numbers["z"] == 0.25
    np.testing.assert_allclose(numbers["a"], 0.5621765, rtol=1e-6)
    np.testing.assert_allclose(numbers["loss"], 0.1916894, rtol=1e-5)
    for way in ("gradient", "by_hand"):
        np.testing.assert_allclose(numbers[way]["w"], [-0.4310532, -0.2155266], rtol=1e-5)
        np.testing.assert_allclose(numbers[way]["b"], -0.2155266, rtol=1e-5)
    np.testing.assert_allclose(numbers["updated"]["w"], [0.7155266, -0.8922367], rtol=1e-6)
    np.testing.assert_allclose(numbers["updated"]["b"], 0.3577633, rtol=1e-6)


def test_both_ways_go_the_same_way_downhill(shown):
    losses = shown[0]["losses"]
    np.testing.assert_allclose(losses, shown[0]["hand_losses"], rtol=1e-4)
    assert np.all(np.diff(losses) < 0)
    assert losses[-1] < 0.001


def test_torch_goes_there_too(shown):
    torch = pytest.importorskip("torch")
    w = torch.tensor([0.5, -1.0], requires_grad=True)
    b = torch.tensor(0.25, requires_grad=True)
    optimizer = torch.optim.SGD([w, b], lr=single_node.RATE)
    losses = []
    for _ in range(single_node.STEPS):
        optimizer.zero_grad()
        loss = (torch.sigmoid(w @ torch.tensor([2.0, 1.0]) + b) - 1) ** 2
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    np.testing.assert_allclose(shown[0]["losses"], losses, rtol=1e-4)


def test_the_figure_is_there(shown):
    assert shown[1].stat().st_size > 10_000
