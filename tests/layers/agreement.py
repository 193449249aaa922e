"""Comparison with other libraries: the same outputs, and the same gradients in every argument."""

import jax
import jax.numpy as jnp
import numpy as np

TOLERANCE = {jnp.dtype("float32"): 2e-5, jnp.dtype("float64"): 1e-11}


def draw(shape, dtype, seed=0, mean=0.0):
    return jnp.asarray(np.random.default_rng(seed).normal(mean, size=shape), dtype)


def assert_agrees_with_jax(ours, theirs, *args):
    """Two functions of JAX."""
    actual = _output_and_gradients(ours, args)
    with jax.numpy_dtype_promotion("standard"):  # which other libraries rely on
        expected = _output_and_gradients(theirs, args)
    _assert_close(actual, expected)


def assert_agrees_with_torch(torch, ours, theirs, *args):
    """Ours on arrays, theirs on tensors of the same numbers."""
    y, gradients = _output_and_gradients(ours, args)
    tensors = [torch.tensor(np.asarray(arg), requires_grad=True) for arg in args]
    expected = theirs(*tensors)
    expected.backward(torch.tensor(_direction(y)))
    _assert_close(y, expected.detach().numpy())
    _assert_close(gradients, tuple(tensor.grad.numpy() for tensor in tensors))


def _output_and_gradients(function, args):
    """The output, and the gradients for one random direction of it."""

    @jax.jit
    def run(*args):
        y, backward = jax.vjp(function, *args)
        return y, backward(jnp.asarray(_direction(y)))

    return run(*args)


def _direction(y):
    return np.random.default_rng(99).normal(size=y.shape).astype(y.dtype)


def channels_first(t):
    """A tensor (N, *space, C) as torch has it, (N, C, *space)."""
    return t.movedim(-1, 1)


def channels_last(t):
    return t.movedim(1, -1)


def _assert_close(actual, expected):
    actual, expected = jax.tree.leaves(actual), jax.tree.leaves(expected)
    for a, b in zip(actual, expected, strict=True):
        tolerance = TOLERANCE[jnp.dtype(a.dtype)]
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
