"""Each library's attention of queries, keys and values that are there already."""

import numpy as np

from benchmarks.w4.problem import jitted, problem


def ours(causal, gradient):
    import jaxnodes as jn

    return jitted(lambda q, k, v: jn.dot_product_attention(q, k, v, causal=causal), gradient)


def jax_nn(causal, gradient):
    import jax

    def attention(q, k, v):
        return jax.nn.dot_product_attention(q, k, v, is_causal=causal)

    return jitted(attention, gradient)


def nnx(causal, gradient):
    from flax import nnx

    def attention(q, k, v):
        return nnx.dot_product_attention(q, k, v, is_causal=causal)

    return jitted(attention, gradient)


def torch(causal, gradient):
    """Heads first in memory, as this library likes them best."""
    import torch

    arrays = (np.ascontiguousarray(a.swapaxes(1, 2)) for a in problem())
    q, k, v, weights = map(torch.from_numpy, arrays)
    for a in (q, k, v):
        a.requires_grad_(gradient)

    def run():
        y = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
        grads = torch.autograd.grad(y, (q, k, v), weights) if gradient else ()
        return [a.detach().transpose(1, 2) for a in (y, *grads)]

    return run
