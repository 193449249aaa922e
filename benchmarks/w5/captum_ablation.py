"""Captum's `FeatureAblation` cannot remove nodes by their weights: its `LayerFeatureAblation` does,
with their values replaced by `activation(b)`, one forward pass from the layer on for each."""

import numpy as np

from benchmarks.w5.problem import problem


def make():
    import torch
    from captum.attr import LayerFeatureAblation

    _, variables, x, y = problem()
    layers = []
    for layer in variables[0].values():
        w, b = (np.array(layer[part]) for part in ("w", "b"))
        linear = torch.nn.Linear(*w.shape)
        linear.weight.data, linear.bias.data = torch.from_numpy(w.T.copy()), torch.from_numpy(b)
        layers += [linear, torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])
    inputs, labels = torch.from_numpy(np.array(x)), torch.from_numpy(np.array(y)).long()

    def accuracy(inputs):
        return (model(inputs).argmax(1) == labels).double().mean().reshape(1)

    @torch.no_grad()
    def run():
        drops = []
        for linear in model[::2]:
            method = LayerFeatureAblation(accuracy, linear)
            lost = method.attribute(inputs, layer_baselines=linear.bias[None])
            drops.append(lost[0].numpy())
        return drops

    return run
