"""The usual loop in torch: zero a node's weights, measure, put them back."""

import numpy as np

from benchmarks.w5.torch_model import torch_model


def make():
    import torch

    model, inputs, labels = torch_model()

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
