"""`torch.optim.Adam`, a loop over tensors (the default on CPU), foreach or fused."""

import numpy as np

from benchmarks.w7.problem import RATE, problem


def _stepper(kind, options):
    import torch

    params, grads = ([torch.from_numpy(leaf.copy()) for leaf in part] for part in problem(kind))
    for p, g in zip(params, grads, strict=True):
        p.requires_grad_(True)
        p.grad = g
    return torch.optim.Adam(params, RATE, **options).step, params


def make(kind, **options):
    step, _ = _stepper(kind, options)
    return step


def answer(kind, **options):
    step, params = _stepper(kind, options)
    for _ in range(3):
        step()
    return np.concatenate([p.detach().numpy() for p in params])
