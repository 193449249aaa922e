"""Torch's loop over batches of tensors that lie in memory."""

import numpy as np
import torch

from benchmarks.training.problems import RATE, orders


def trained(model, x, y, batch, shuffle, *, fused=False, compiled=False):
    """The loop over a model that has its weights already.

    Args:
      model, x, y, batch, shuffle: what to train on what.
      fused: Adam as one kernel; otherwise as torch chooses.
      compiled: whether `torch.compile` makes the model.
    """
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), RATE, **({"fused": True} if fused else {}))
    called = torch.compile(model) if compiled else model
    x, y = torch.as_tensor(x), torch.as_tensor(y).long()
    epochs_of = orders(len(y), batch, shuffle)

    def run(epochs):
        means = []
        for _ in range(epochs):
            losses = []
            for indices in torch.from_numpy(next(epochs_of)):
                loss = torch.nn.functional.cross_entropy(called(x[indices]), y[indices])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.detach())
            means.append(float(torch.stack(losses).mean()))
        return np.array(means)

    return run


def linear(w, b):
    """A layer from the problem's weights."""
    layer = torch.nn.Linear(*w.shape)
    layer.weight.data, layer.bias.data = torch.from_numpy(w.T.copy()), torch.from_numpy(b.copy())
    return layer
