import jax.numpy as jnp
import numpy as np
import pytest

import jaxnodes as jn
from tests.layers.agreement import assert_agrees_with_torch, channels_first, channels_last, draw


@pytest.mark.parametrize("space", [(5,), (4, 3), (2, 3, 2)])
def test_is_its_equation(space, key):
    layer = jn.SqueezeExcite(3, "tanh")
    x = draw((2, *space, 6), jnp.float32)
    params, state = layer.init(key, x)
    assert not state
    s = np.asarray(x).reshape(2, -1, 6).mean(1)
    h = np.tanh(s @ params["squeeze"]["w"] + params["squeeze"]["b"])
    weights = 1 / (1 + np.exp(-(h @ params["excite"]["w"] + params["excite"]["b"])))
    y, nodes = jn.record(layer.predict)((params, state), x)
    expected = np.asarray(x) * weights.reshape(2, *(1,) * len(space), 6)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(nodes["squeeze"], h, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(nodes["excite"], weights, rtol=1e-5)


def test_equals_torch(x64):
    torch = pytest.importorskip("torch")
    arrays = [draw(shape, jnp.float64, i) for i, shape in enumerate([(6, 4), (4,), (4, 6), (6,)])]

    def ours(x, w1, b1, w2, b2):
        params = {"squeeze": {"w": w1, "b": b1}, "excite": {"w": w2, "b": b2}}
        return jn.SqueezeExcite(4, "silu").predict((params, {}), x)

    def theirs(x, w1, b1, w2, b2):
        """With 1 x 1 convolutions, as torchvision has it."""
        x = channels_first(x)
        s = torch.nn.functional.adaptive_avg_pool2d(x, 1)
        h = torch.nn.functional.silu(torch.conv2d(s, w1.T[:, :, None, None], b1))
        return channels_last(x * torch.sigmoid(torch.conv2d(h, w2.T[:, :, None, None], b2)))

    assert_agrees_with_torch(torch, ours, theirs, draw((3, 4, 5, 6), jnp.float64, 9), *arrays)


def test_functions_by_name_are_the_functions():
    by_name = jn.SqueezeExcite(2, "silu", "hard_sigmoid", w_init="he_normal")
    assert by_name == jn.SqueezeExcite(2, jn.silu, jn.hard_sigmoid)
    assert jn.SqueezeExcite(2) == jn.SqueezeExcite(2, "relu", gate="sigmoid")


def test_what_it_refuses(key):
    with pytest.raises(jn.JaxNodesError, match="did you mean 'sigmoid'"):
        jn.SqueezeExcite(2, gate="sigmiod")
    with pytest.raises(jn.JaxNodesError, match="SqueezeExcite: expected features .* got 0"):
        jn.SqueezeExcite(0)
    with pytest.raises(jn.JaxNodesError, match=r"a batch \(B, \*space, C\)"):
        jn.SqueezeExcite(2).init(key, jnp.ones((2, 3)))
    with pytest.raises(jn.JaxNodesError, match="expected floating inputs, got int32"):
        jn.SqueezeExcite(2).init(key, jnp.ones((2, 3, 3, 4), jnp.int32))
