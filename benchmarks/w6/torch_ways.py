"""Torch: one network after the other; and all at once with `torch.func` and `vmap`."""

import numpy as np

from benchmarks.w6.problem import RATE, SIZES, orders, samples, weights


def _network():
    import itertools

    import torch

    layers = []
    for a, b in itertools.pairwise(SIZES):
        layers += [torch.nn.Linear(a, b), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


def _data():
    import torch

    x, y = samples()
    return torch.from_numpy(x), torch.from_numpy(y).long()


def loop(count, shuffle):
    import torch

    x, y = _data()

    def one(number, epochs):
        model = _network()
        with torch.no_grad():
            for linear, (w, b) in zip(model[::2], start, strict=True):
                linear.weight.copy_(torch.from_numpy(w[number].T))
                linear.bias.copy_(torch.from_numpy(b[number]))
        optimizer = torch.optim.Adam(model.parameters(), RATE, fused=True)
        rng, means = np.random.default_rng(number), []
        for _ in range(epochs):
            losses = []
            for indices in torch.from_numpy(orders(rng, 1, shuffle)[:, 0]):
                loss = torch.nn.functional.cross_entropy(model(x[indices]), y[indices])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.detach())
            means.append(float(torch.stack(losses).mean()))
        return means

    start = weights(count)
    return lambda epochs: np.array([one(number, epochs) for number in range(count)])


def vmapped(count, shuffle):
    import torch
    from torch.func import functional_call, grad_and_value, vmap

    x, y = _data()
    model, start = _network(), weights(count)

    def objective(params, x, y):
        return torch.nn.functional.cross_entropy(functional_call(model, params, (x,)), y)

    gradients = vmap(grad_and_value(objective))

    def run(epochs):
        params = {}
        for i, (w, b) in enumerate(start):
            params[f"{2 * i}.weight"] = torch.from_numpy(w.swapaxes(1, 2).copy())
            params[f"{2 * i}.bias"] = torch.from_numpy(b.copy())
        optimizer = torch.optim.Adam(params.values(), RATE, fused=True)
        rng, means = np.random.default_rng(1), []
        for _ in range(epochs):
            losses = []
            for indices in torch.from_numpy(orders(rng, count, shuffle)):
                grads, loss = gradients(params, x[indices], y[indices])
                for name, p in params.items():
                    p.grad = grads[name]
                optimizer.step()
                losses.append(loss)
            means.append(torch.stack(losses).mean(0).numpy())
        return np.stack(means, axis=1)

    return run
