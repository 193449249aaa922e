"""Torch: `nn.Sequential`."""


def trained(problem, dropout, x, y, shuffle, **options):
    import torch

    from benchmarks.training import torch_loop

    layers = []
    for w, b in problem.weights:
        layers += [torch_loop.linear(w, b), torch.nn.ReLU(), torch.nn.Dropout(dropout)]
    model = torch.nn.Sequential(*layers[:-2])
    return torch_loop.trained(model, x, y, problem.batch, shuffle, **options)
