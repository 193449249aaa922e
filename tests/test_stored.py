"""`stored`: the identity, under every transformation; and what it does to a compiled program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxnodes.stored import stored

pytestmark = pytest.mark.usefixtures("quick")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64", "int8", "uint8", "int32"])
@pytest.mark.parametrize("shape", [(), (0, 3), (4, 5)])
def test_is_the_identity(dtype, shape, x64):
    x = jnp.asarray(np.random.default_rng(0).integers(0, 9, shape), dtype)
    for f in (stored, jax.jit(stored)):
        y = f(x)
        assert y.dtype == x.dtype
        np.testing.assert_array_equal(y, x)


def test_is_linear_and_batches():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4)), jnp.float32)
    check_grads(lambda x: jnp.sin(stored(jnp.cos(x))), (x,), order=2, modes=("fwd", "rev"))
    mapped = jax.jit(jax.vmap(lambda row: 2 * stored(row), in_axes=1, out_axes=1))
    np.testing.assert_array_equal(mapped(x), 2 * x)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="elsewhere it is left out")
def test_keeps_what_is_spread_from_being_made_again():
    """The sum is no part of the fusion that spreads it over more values; without, it is."""

    def spreading(made):
        def f(a, b, c):
            return made(a + b)[:, None] * c

        arrays = jnp.ones(8), jnp.ones(8), jnp.ones((8, 64))
        text = jax.jit(f).lower(*arrays).compile().as_text()
        (computation,) = (c for c in text.split("\n\n") if "f32[8,64]{1,0} multiply(" in c)
        return computation

    assert " add(" not in spreading(stored)
    assert " add(" in spreading(lambda x: x)
