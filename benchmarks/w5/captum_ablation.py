"""Captum's `LayerFeatureAblation`: a forward pass for each node, its sum set to its bias."""

from benchmarks.w5.torch_model import torch_model


def make():
    import torch
    from captum.attr import LayerFeatureAblation

    model, inputs, labels = torch_model()

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
