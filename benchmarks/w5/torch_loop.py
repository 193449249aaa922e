"""The guides' loop in torch, as they have it: zero a node's weights, measure, put them back."""

import numpy as np

from benchmarks.w5.problem import problem


def make():
    import torch

    _, variables, x, y = problem()
    layers = []
    for layer in variables[0].values():
        w, b = (np.array(layer[part]) for part in ("w", "b"))
        linear = torch.nn.Linear(*w.shape)
        linear.weight.data, linear.bias.data = torch.from_numpy(w.T.copy()), torch.from_numpy(b)
        layers += [linear, torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])
    inputs, labels = torch.from_numpy(np.array(x)), torch.from_numpy(np.array(y)).long()

    @torch.no_grad()
    def run():
        def accuracy():
            return (model(inputs).argmax(1) == labels).float().mean().item()

        whole, drops = accuracy(), []
        for linear in model[::2]:
            of_layer = []
            for i in range(linear.out_features):
                kept = linear.weight.data[i].clone()
                linear.weight.data[i] = 0
                of_layer.append(whole - accuracy())
                linear.weight.data[i] = kept
            drops.append(np.array(of_layer))
        return drops

    return run
