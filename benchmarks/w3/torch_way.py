"""Torch: `nn.LSTM` and `nn.GRU`, batch first."""

from benchmarks.w3.problem import INPUTS, NODES, problem


def make(kind, gradient):
    import torch

    it = problem(kind)
    layer = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[kind](INPUTS, NODES, batch_first=True)
    layer.weight_ih_l0.data = torch.from_numpy(it.w_i.T.copy())
    layer.weight_hh_l0.data = torch.from_numpy(it.w_h.T.copy())
    layer.bias_ih_l0.data = torch.from_numpy(it.b)
    layer.bias_hh_l0.data.zero_()
    x, weights = torch.from_numpy(it.x), torch.from_numpy(it.weights)

    @torch.no_grad()
    def forward():
        return layer(x)[0]

    def both():
        y, _ = layer(x)
        by_x, w_i, w_h, b, _ = torch.autograd.grad(y, [x, *layer.parameters()], weights)
        return y.detach(), by_x, (w_i.T, w_h.T, b)

    x.requires_grad_(gradient)
    return both if gradient else forward
