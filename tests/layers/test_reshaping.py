import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnodes as jn


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((2, 3, 4), (2, 12)), ((2, 3), (2, 3)), ((2,), (2, 1)), ((0, 3, 4), (0, 12))],
)
def test_flatten_keeps_samples_in_row_major_order(shape, expected):
    x = np.arange(np.prod(shape)).reshape(shape)
    np.testing.assert_array_equal(jn.flatten(x), x.reshape(expected))
    np.testing.assert_array_equal(jn.Flatten().predict(({}, {}), x), x.reshape(expected))


@pytest.mark.parametrize(
    ("shape", "to", "expected"),
    [
        ((2, 12), (3, 4), (2, 3, 4)),
        ((2, 3, 4), [2, -1], (2, 2, 6)),
        ((2, 1), (), (2,)),
        ((0, 12), (-1, 4), (0, 3, 4)),
    ],
)
def test_reshape(shape, to, expected):
    x = np.arange(np.prod(shape)).reshape(shape)
    np.testing.assert_array_equal(jn.Reshape(to).predict(({}, {}), x), x.reshape(expected))


def test_a_scalar_is_refused():
    for layer in (jn.Flatten(), jn.Reshape((1,))):
        with pytest.raises(jn.JaxNodesError, match="expected a batch .*got a scalar"):
            layer.predict(({}, {}), jnp.ones(()))


@pytest.mark.parametrize("to", [(5, 2), (5, -1)])
def test_samples_of_another_size_are_refused(to, key):
    with pytest.raises(jn.JaxNodesError, match=r"^reshape1: expected samples of .*, got 12 "):
        jn.Sequential(jn.Reshape(to)).init(key, jax.ShapeDtypeStruct((2, 12), jnp.float32))


@pytest.mark.parametrize("to", [(-1, -1), (0, 2), (2.0,), "abc", 3, (-2,)])
def test_the_constructor_validates(to):
    with pytest.raises(jn.JaxNodesError, match="^Reshape: expected "):
        jn.Reshape(to)
