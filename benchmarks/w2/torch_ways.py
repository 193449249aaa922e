"""Torch: `nn.Sequential`, contiguous or with channels last in memory."""

import numpy as np


def trained(problem, dropout, x, y, shuffle, *, channels_last=False, **options):
    import torch

    from benchmarks.training import torch_loop

    *convolutions, (w1, b1), (w2, b2) = problem.weights
    layers = []
    for w, b in convolutions:
        layer = torch.nn.Conv2d(*w.shape[2:], 3, padding="same")
        layer.weight.data = torch.from_numpy(w.transpose(3, 2, 0, 1).copy())
        layer.bias.data = torch.from_numpy(b.copy())
        layers += [layer, torch.nn.ReLU(), torch.nn.MaxPool2d(2)]
    # Torch flattens channels first, the others channels last.
    rows = w1.reshape(7, 7, 64, -1).transpose(2, 0, 1, 3).reshape(w1.shape)
    layers += [torch.nn.Flatten(), torch_loop.linear(rows, b1), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers, torch_loop.linear(w2, b2))
    x = torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
        x = x.to(memory_format=torch.channels_last)
    return torch_loop.trained(model, x, y, problem.batch, shuffle, **options)
