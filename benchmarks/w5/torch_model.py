"""The network of W5 in torch, with the same weights, and its samples."""

from typing import Any

import numpy as np

from benchmarks.w5.problem import problem


def torch_model() -> tuple[Any, Any, Any]:
    """`(model, inputs, labels)`; every second module of the model is a layer of weights."""
    import torch

    _, variables, x, y = problem()
    layers = []
    for layer in variables[0].values():
        w, b = (np.array(layer[part]) for part in ("w", "b"))
        linear = torch.nn.Linear(*w.shape)
        linear.weight.data, linear.bias.data = torch.from_numpy(w.T.copy()), torch.from_numpy(b)
        layers += [linear, torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])
    return model, torch.from_numpy(np.array(x)), torch.from_numpy(np.array(y)).long()
